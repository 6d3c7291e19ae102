"""Images at another size."""

from __future__ import annotations

from typing import Any, Literal, get_args

from tfjax._tensorflow import tf

Method = Literal["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"]

# Methods that weigh the pixels of a neighbourhood: TensorFlow's name for how, and how far it reaches, in pixels.
_KERNELS = {
    "bilinear": ("triangle", 1.0),
    "bicubic": ("keyscubic", 2.0),
    "lanczos3": ("lanczos3", 3.0),
    "lanczos5": ("lanczos5", 5.0),
    "gaussian": ("gaussian", 1.5),
    "mitchellcubic": ("mitchellcubic", 2.0),
}
# Methods of which no value is outside of the values around it.
_WITHIN = ("bilinear", "area", "gaussian")
# What TensorFlow resizes by nothing but copies, under another name.
_STAND_INS = {tf.bool: tf.uint8, tf.uint32: tf.int64, tf.uint64: tf.int64}


def resampled(
    image: tf.Tensor,
    size: tf.Tensor | tuple[int, int],
    method: Method,
    *,
    antialias: bool,
    window: tf.Tensor | None = None,
) -> tf.Tensor:
    """An image (height, width, channels) of another size as `tf.image.resize` has it, rounded to its own dtype.

    Args:
        image: of any numeric dtype, or bool.
        size: int32 (2,).
        method: of `tf.image.resize`.
        antialias: blur before shrinking.
        window: int32 (4,): y, x, height and width of what is wanted of it, at least one pixel; all by default.
    """
    if method == "nearest":
        stand_in = tf.cast(image, _STAND_INS.get(image.dtype, image.dtype))
        return _part(tf.cast(tf.image.resize(stand_in, size, method), image.dtype), window)
    if weighs(method, antialias=antialias):
        done = _weighed(image, tf.convert_to_tensor(size), method, antialias, window)
    else:
        done = _part(tf.image.resize(image, size, method), window)
    if image.dtype in (tf.uint8, tf.uint16) and method in _WITHIN:
        return tf.cast(done + 0.5, image.dtype)
    return rounded(done, image.dtype)


def weighs(method: Method, *, antialias: bool) -> bool:
    """Whether pixels are weighed one by one, so that a window is cheaper than the whole."""
    return method in _KERNELS and (antialias or method not in ("bilinear", "bicubic"))


def _part(image: tf.Tensor, window: tf.Tensor | None) -> tf.Tensor:
    if window is None:
        return image
    y, x, height, width = tf.unstack(window)
    return image[y : y + height, x : x + width]


def _weighed(image: tf.Tensor, size: tf.Tensor, method: Method, antialias: bool, window: tf.Tensor | None) -> tf.Tensor:
    """What `tf.image.resize` computes, in half its time: each pass adds rows of contiguous memory."""
    kernel, reach = _KERNELS[method]

    def along(image: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(image)
        out = tf.raw_ops.ScaleAndTranslate(
            images=tf.reshape(image, (1, shape[0], 1, -1)),
            size=(side, 1),
            scale=(tf.cast(side, tf.float32) / tf.cast(shape[0], tf.float32), 1.0),
            translation=(0.0, 0.0),
            kernel_type=kernel,
            antialias=antialias,
        )
        return tf.reshape(out, (side, shape[1], shape[2]))

    if window is None:
        turned = tf.transpose(along(image, size[0]), (1, 0, 2))
        done = tf.transpose(along(turned, size[1]), (1, 0, 2))
        known = tf.get_static_value(size)
        done.set_shape((*((None, None) if known is None else known), image.shape[-1]))
        return done
    y, x, height, width = tf.unstack(window)
    begin, end, columns = _columns(image, size, x, width, reach)
    turned = tf.transpose(along(image[:, begin:end], size[0])[y : y + height], (1, 0, 2))
    turned = tf.pad(turned, ((begin, columns - end), (0, 0), (0, 0)))  # nobody reads those; the weights stay the same
    return tf.transpose(along(turned, size[1])[x : x + width], (1, 0, 2))


def _columns(
    image: tf.Tensor, size: tf.Tensor, x: tf.Tensor, width: tf.Tensor, reach: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """First and last column, exclusive, that columns x to x + width are made of, and how many there are."""
    columns = tf.shape(image)[1]
    step = tf.cast(columns, tf.float32) / tf.cast(size[1], tf.float32)
    reach = reach * tf.maximum(step, 1.0) + 2
    begin = tf.maximum(tf.cast(tf.cast(x, tf.float32) * step - reach, tf.int32), 0)
    end = tf.minimum(tf.cast(tf.cast(x + width, tf.float32) * step + reach, tf.int32), columns)
    return begin, end, columns


def rounded(image: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Floats to a dtype; to the nearest integer, within its range."""
    if image.dtype == dtype:
        return image
    if dtype.is_integer:
        return tf.saturate_cast(tf.round(image), dtype)
    return tf.cast(image, dtype)


def require_resizable(op: Any, image: tf.Tensor) -> None:
    """Raise TypeError where TensorFlow does not compute with the dtype of an image."""
    if op.method != "nearest" and image.dtype in _STAND_INS:
        raise TypeError(
            f"{op!r}: {op.key!r} is {image.dtype.name}, which is resized by method='nearest' only: "
            "cast it in map before"
        )


def require_method(op: object, method: str) -> None:
    """Raise ValueError where a method is none of tf.image's."""
    if method not in get_args(Method):
        raise ValueError(f"{op!r}: method={method!r}: choose one of {', '.join(get_args(Method))}")


def side_pair(op: object, size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size, which is both sides or the pair.

    Raises:
        ValueError: no positive ints.
    """
    pair: Any = (size, size) if isinstance(size, int) and not isinstance(size, bool) else size
    good = isinstance(pair, tuple) and len(pair) == 2
    if not good or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in pair):
        raise ValueError(f"{type(op).__name__}: size is {size!r}: pass the pixels of both sides, or (height, width)")
    return pair[0], pair[1]
