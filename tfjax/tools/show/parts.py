"""Which leaf of an example is the image, its label, boxes, mask or caption, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfjax.errors import SpecError
from tfjax.tools.show.pixels import displayed
from tfjax.tools.show.rows import Array, Row

_MIXED = 0.05  # the least share of a class in a label of several that is named


@dataclass(frozen=True)
class Given:
    """The paths that the caller named; None where it is to be found."""

    image: str | None = None
    label: str | None = None
    boxes: str | None = None
    masks: str | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Parts:
    """The path of each part; None where there is none."""

    image: str
    label: str | None
    boxes: str | None
    box_labels: str | None
    masks: str | None
    caption: str | None


@dataclass(frozen=True)
class Panel:
    """What is drawn of one example.

    Attributes:
        image: (height, width, 3 or 4) or, grey, (height, width); uint8, or float from 0 to 1.
        title: its label.
        boxes: float (boxes, 4) of ymin, xmin, ymax, xmax as shares of the image.
        names: of the boxes; each is empty where they have none.
        colours: of the boxes, numbers that are the same for the same class.
        mask: int (height, width), 0 where there is nothing; or None.
        caption: text below the image.
    """

    image: Array
    title: str
    boxes: Array
    names: Sequence[str]
    colours: Sequence[int]
    mask: Array | None
    caption: str


def find_parts(row: Row, info: Any, given: Given) -> Parts:
    """What each leaf is, by its name and shape.

    Raises:
        KeyError: a path that was given does not exist.
        SpecError: there is no image, or a leaf is not what it was given as.
    """
    image = _find(row, "image", given.image, ("image",), _is_image)
    if image is None:
        image = next((path for path, leaf in row.items() if _is_image(leaf) and leaf.ndim == 3), None)
    if image is None:
        there = ", ".join(f"{path!r} {leaf.dtype.name}{list(leaf.shape)}" for path, leaf in row.items())
        raise SpecError(
            f"show: no leaf is an image, (height, width, channels) with 1, 3 or 4 channels; there are {there}: decode "
            "it with tfjax.image.Decode(), or name it with image="
        )
    size = row[image].shape[:2]
    supervised = getattr(info, "supervised_keys", None) or (None, None)
    labels = tuple(name for name in (supervised[1], "label", "class", "target") if isinstance(name, str))
    boxes = _find(row, "boxes", given.boxes, ("bbox", "bboxes", "boxes"), _is_boxes)
    siblings = [f"{boxes.rpartition('/')[0]}/{name}".lstrip("/") for name in ("label", "labels")] if boxes else []
    return Parts(
        image=image,
        label=_find(row, "label", given.label, labels, _is_label),
        boxes=boxes,
        box_labels=next((p for p in siblings if p in row and row[p].shape == row[str(boxes)].shape[:1]), None),
        masks=_find(
            row,
            "masks",
            given.masks,
            ("mask", "masks", "segmentation", "segmentation_mask"),
            lambda x: x.shape in (size, (*size, 1)) and x.dtype.kind in "biuf",
        ),
        caption=_find(
            row,
            "caption",
            given.caption,
            ("caption", "captions", "text"),
            lambda x: x.ndim <= 1 and x.dtype.kind in "OSU",
        ),
    )


def panels(rows: Sequence[Row], parts: Parts, info: Any) -> list[Panel]:
    """What is drawn of each row."""
    images = displayed([row[parts.image] for row in rows])
    of_label, of_box = (_namer(info, path) for path in (parts.label, parts.box_labels))
    boxes = [row[parts.boxes] if parts.boxes else np.zeros((0, 4)) for row in rows]
    names = [
        [_said(label, of_box) for label in np.atleast_1d(row[parts.box_labels])]
        if parts.box_labels
        else [""] * len(its)
        for row, its in zip(rows, boxes, strict=True)
    ]
    known = sorted({name for its in names for name in its})
    return [
        Panel(
            image=image,
            title=_said(row[parts.label], of_label) if parts.label else "",
            boxes=its,
            names=named,
            colours=[known.index(name) for name in named],
            mask=row[parts.masks].reshape(image.shape[:2]).astype(int) if parts.masks else None,
            caption=_text(row[parts.caption]) if parts.caption else "",
        )
        for row, image, its, named in zip(rows, images, boxes, names, strict=True)
    ]


def _find(row: Row, part: str, given: str | None, names: Sequence[str], fits: Callable[[Array], bool]) -> str | None:
    """The path that was given, or else the first one that ends in one of the names and fits."""
    if given is not None:
        if given not in row:
            raise KeyError(f"show: no leaf {given!r} for {part}=: there are {', '.join(map(repr, row))}")
        if not fits(row[given]):
            leaf = row[given]
            raise SpecError(f"show: {part}={given!r} is {leaf.dtype.name} of shape {leaf.shape}: {_RULES[part]}")
        return given
    ends = ((name, path) for name in names for path in row if path.rpartition("/")[2] == name)
    return next((path for _, path in ends if fits(row[path])), None)


_RULES = {
    "image": "an image is (height, width, channels) with 1, 3 or 4 channels, or (height, width)",
    "label": "a label is a number or a text, or one share a class",
    "boxes": "boxes are (boxes, 4) of ymin, xmin, ymax, xmax as shares of the image",
    "masks": "a mask has the height and width of the image",
    "caption": "a caption is a text, or several",
}


def _is_image(leaf: Array) -> bool:
    if leaf.dtype.kind not in "biuf" or not leaf.size:
        return False
    return leaf.ndim == 2 if leaf.ndim != 3 else leaf.shape[-1] in (1, 3, 4)


def _is_label(leaf: Array) -> bool:
    return leaf.ndim == 0 or (leaf.ndim == 1 and leaf.dtype.kind == "f" and leaf.size > 0)


def _is_boxes(leaf: Array) -> bool:
    return leaf.dtype.kind == "f" and leaf.ndim == 2 and leaf.shape[-1] == 4


def _namer(info: Any, path: str | None) -> Callable[[int], str]:
    """From the number of a class to its name, as a folder or TFDS's features have it."""
    names: Sequence[str] = ()
    if path is not None:
        names = (getattr(info, "classes", ()) if path == "label" else ()) or _feature_names(info, path)
    return lambda number: str(names[number]) if 0 <= number < len(names) else str(number)


def _feature_names(info: Any, path: str) -> Sequence[str]:
    feature = getattr(info, "features", None)
    try:
        for key in path.split("/"):
            feature = feature[key]  # type: ignore[index]
    except (KeyError, TypeError):
        return ()
    return getattr(feature, "names", None) or ()


def _said(label: Any, name: Callable[[int], str]) -> str:
    label = np.asarray(label)
    if label.ndim == 0:
        if label.dtype.kind in "iu":
            return name(int(label))
        return _text(label) if label.dtype.kind in "OSU" else f"{label.item():g}"
    order = [int(i) for i in np.argsort(-label, kind="stable")[:3] if label[i] >= _MIXED]
    if len(order) < 2:
        return name(int(label.argmax()))
    return ", ".join(f"{name(i)} {label[i]:.2f}" for i in order)


def _text(leaf: Array) -> str:
    """The text, or the first of several."""
    first = leaf.ravel()[0] if leaf.size else ""
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
