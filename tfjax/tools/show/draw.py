"""A grid of images with what is known of them, as a PNG."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tfjax.tools.show.parts import Panel

# Okabe and Ito's colours, told apart by colour-blind readers too: https://jfly.uni-koeln.de/color/
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
INK, PALE = "#222222", "#666666"
DPI = 120
WIDTH = 10.0  # inches of the whole picture, at most
GAP, BETWEEN = 0.12, 0.04  # of two panels, and of an image and its text
TITLE_POINTS, CAPTION_POINTS, BOX_POINTS = 9, 7.5, 6.5
LINE = 1.35  # of a line of text, in heights of its letters
GLYPH = 0.56  # of a letter's width, in heights
MOST_LINES = 3
OPACITY = 0.5


def draw(panels: Sequence[Panel]) -> bytes:
    """The panels in a grid, row by row; one that is higher than wide is as high as another is wide."""
    columns = math.ceil(math.sqrt(len(panels)))
    widest = max(panel.image.shape[1] for panel in panels)
    cell = min(WIDTH / columns - GAP, 3.4, max(0.9, widest / 25))  # small images are not blown up to the size of photos
    boxes = [_fitted(panel.image.shape, cell) for panel in panels]
    captions = [_wrapped(panel.caption, cell, CAPTION_POINTS, MOST_LINES) for panel in panels]
    above = _inches(TITLE_POINTS, any(panel.title for panel in panels))
    firsts = range(0, len(panels), columns)
    heights = [
        above
        + max(height for _, height in boxes[k : k + columns])
        + _inches(CAPTION_POINTS, max(map(len, captions[k : k + columns])))
        + GAP
        for k in firsts
    ]
    whole = columns * (cell + GAP) + GAP, sum(heights) + GAP
    figure = Figure(figsize=whole, dpi=DPI, facecolor="white")
    text: dict[str, Any] = {"parse_math": False, "transform": figure.dpi_scale_trans, "ha": "left"}
    for k, (panel, (width, height), lines) in enumerate(zip(panels, boxes, captions, strict=True)):
        row, column = divmod(k, columns)
        left, top = GAP + column * (cell + GAP), whole[1] - GAP - sum(heights[:row]) - above
        bottom = top - height
        area = (left / whole[0], bottom / whole[1], width / whole[0], height / whole[1])
        _draw_panel(figure.add_axes(area), panel)
        for title in _wrapped(panel.title, cell, TITLE_POINTS, 1):
            figure.text(left, top + BETWEEN, title, va="bottom", fontsize=TITLE_POINTS, color=INK, **text)
        said = "\n".join(lines)
        figure.text(left, bottom - BETWEEN, said, va="top", fontsize=CAPTION_POINTS, color=PALE, **text)
    return _png(figure)


def _fitted(shape: Sequence[int], cell: float) -> tuple[float, float]:
    """Width and height in inches of an image (height, width, ...) in a square."""
    scale = cell / max(shape[:2])
    return shape[1] * scale, shape[0] * scale


def _draw_panel(axes: Any, panel: Panel) -> None:
    height, width = panel.image.shape[:2]
    area = {"extent": (0, width, height, 0), "aspect": "auto"}
    if panel.image.ndim == 2:
        axes.imshow(panel.image, cmap="gray", vmin=0, vmax=1, **area)
    else:
        axes.imshow(panel.image, **area)
    if panel.mask is not None:
        axes.imshow(_overlay(panel.mask), interpolation="nearest", **area)
    axes.set_axis_off()
    _draw_boxes(axes, panel, np.clip(panel.boxes, 0, 1) * [height, width, height, width])


def _draw_boxes(axes: Any, panel: Panel, boxes: Any) -> None:
    """Boxes in pixels, the largest first; of each class the largest is named, for the others have its colour."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    unnamed = {*panel.names} - {""}
    for k in np.argsort(-areas, kind="stable"):
        if not areas[k] > 0:
            return  # boxes of which nothing is left
        (y0, x0, y1, x1), name = boxes[k], panel.names[k]
        colour = COLOURS[panel.colours[k] % len(COLOURS)]
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.5))
        if name in unnamed:
            unnamed.remove(name)
            around = {"facecolor": colour, "edgecolor": "none", "pad": 1}
            place = {"ha": "left", "va": "top", "fontsize": BOX_POINTS, "clip_on": True, "parse_math": False}
            axes.text(x0, y0, name, color=_readable_on(colour), bbox=around, **place)


def _overlay(mask: Any) -> Any:
    """The colours of a mask, (height, width, 4); nothing where it is 0."""
    colours = np.array([(*to_rgb(colour), OPACITY) for colour in COLOURS])
    return np.where((mask == 0)[..., np.newaxis], 0, colours[mask % len(COLOURS)])


def _readable_on(colour: str) -> str:
    return "black" if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) > 0.5 else "white"


def _inches(points: float, lines: int) -> float:
    return lines * LINE * points / 72 + (2 * BETWEEN if lines else 0)


def _wrapped(text: str, width: float, points: float, most: int) -> list[str]:
    """Lines of at most `width` inches, cut after `most`."""
    letters = max(4, int(width * 72 / (points * GLYPH)))
    return textwrap.wrap(text, letters, max_lines=most, placeholder=" …")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
