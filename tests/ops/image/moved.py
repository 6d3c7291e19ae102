"""Scenes for geometric ops: an image with one bright rectangle, which a mask and a box mark too."""

import numpy as np

from tfjax import image
from tfjax._tensorflow import tf

# One of each op that moves pixels; those of a size of their own first.
SIZED = [
    image.CenterCrop(20),
    image.CenterCrop((50, 16)),
    image.RandomCrop((17, 24)),
    image.RandomCrop(32, padding=6),
    image.RandomCrop(64),
    image.RandomResizedCrop((21, 34)),
    image.RandomResizedCrop(24, scale=(0.5, 1.0), ratio=(1, 1), method="bicubic", antialias=True),
    image.Resize((25, 60)),
    image.Resize(19, method="lanczos3", antialias=True),
]
OTHERS = [
    image.ResizeShortSide(24),
    image.ResizeShortSide(50, method="area"),
    image.RandomFlip(),
    image.RandomFlip(vertical=True),
    image.RandomFlip(False, vertical=True),
    image.RandomRotate(right_angles=True),
]
TURNED = [image.RandomRotate(20), image.RandomRotate(180, fill_mode="reflect")]
OPS = [*SIZED, *OTHERS, *TURNED]


def seeds(count):
    """Seeds as a pipeline gives them, int64 (count, 2)."""
    return np.stack([np.full(count, 12345), np.arange(count)], 1)


def seed(number):
    return tf.constant(seeds(number + 1)[number])


def draws(op, size, count):
    """What an op draws for many seeds, in the graph."""
    fn = tf.function(lambda: tf.map_fn(lambda s: op.draw(tf.constant(size), s), tf.constant(seeds(count)), tf.int32))
    return fn().numpy()


def scene(height, width, rectangle, dtype=np.uint8):
    """An example whose image is bright, mask 7, and box where the rectangle (y0, x0, y1, x1) of pixels is."""
    y0, x0, y1, x1 = rectangle
    mask = np.zeros((height, width), np.int32)
    mask[y0:y1, x0:x1] = 7
    pixels = np.where(mask[..., None] > 0, 200, 20).astype(dtype).repeat(3, -1)
    box = np.float32([[y0 / height, x0 / width, y1 / height, x1 / width]])
    return {"image": pixels, "objects": {"bbox": box, "label": np.int64([3])}, "mask": mask, "name": b"scene"}


def hull(mask):
    """The edges (y0, x0, y1, x1) of what is not 0, in pixels; None where all is."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return None if not rows.size else (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)


def in_graph(op, example, number):
    """An op as a pipeline runs it: in a graph that knows ranks and channels, not sides; as NumPy."""
    leaves = tf.nest.map_structure(tf.convert_to_tensor, example)

    def spec(leaf):
        sides = min(leaf.shape.rank, 2)
        return tf.TensorSpec([None] * sides + leaf.shape[sides:].as_list(), leaf.dtype)

    fn = tf.function(
        op, autograph=False, input_signature=[tf.nest.map_structure(spec, leaves), tf.TensorSpec((2,), tf.int64)]
    )
    return tf.nest.map_structure(lambda t: t.numpy(), fn(leaves, seed(number)))


def pixels(boxes, mask):
    """Boxes as pixels of a mask."""
    height, width = mask.shape[:2]
    return boxes * np.float32([height, width, height, width])


def noise(height, width, channels=3, dtype=np.uint8):
    """An image in which every pixel is another."""
    rng = np.random.default_rng(0)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)
    return rng.random((height, width, channels)).astype(dtype)
