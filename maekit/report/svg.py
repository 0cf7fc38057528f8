"""From a drawn figure to SVG that reads on light and on dark ground, in a page or as a file of its own."""

from __future__ import annotations

import io
import re
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#7a7f87"
"""Drawn with this, a thing takes the ink of the page around it; in a file of its own it is this gray."""
# Okabe and Ito's hues, told apart by people with any colour vision, in shades that read on white and on black.
BLUE, ORANGE, GREEN = "#2b86c9", "#d06c0c", "#0f9270"
REMOVED = "#9a9fa6"
DARK, GROUND = "#30343a", ("figure.facecolor", "savefig.facecolor")
"""Ink and ground of pictures that are no part of a page."""

STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.prop_cycle": f"cycler('color', ['{BLUE}', '{ORANGE}', '{GREEN}'])",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": INK,
    "grid.alpha": 0.2,
    "grid.linewidth": 0.6,
    "lines.color": BLUE,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "image.interpolation": "nearest",
    "svg.fonttype": "none",  # letters of every script come from the reader's fonts, ours has few
    "svg.hashsalt": "maekit",
}
PIXELS_A_POINT = 1.5

# matplotlib's settings are one for the process: only one figure at a time is made under ours.
_styling = threading.RLock()


@contextmanager
def styled(*, on_white: bool = False) -> Iterator[None]:
    """Figures made and written in here have the report's style; `on_white` those that bring their own ground."""
    from matplotlib import rc_context

    white = {name: DARK for name, value in STYLE.items() if value == INK} | dict.fromkeys(GROUND, "white")
    with _styling, rc_context(STYLE | white if on_white else STYLE):
        yield


def fragment(figure: Figure, *, least: float = 0.0) -> str:
    """The figure as an `<svg>` element whose size comes from the page.

    Args:
        figure: drawn under `styled`.
        least: smallest width it may be shown with, as a share of its natural one; 0: shrinks with the page.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(
        r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text[text.index("<svg") :], flags=re.S
    )
    mark = f"f{zlib.crc32(text.encode()):08x}-"

    def rewritten(tag: re.Match[str]) -> str:
        # Only inside of tags: what stands between them was written by people and stays as it is.
        one = re.sub(r'(\bid="|xlink:href="#|url\(#)', lambda found: found[0] + mark, tag[0])
        return re.sub(r"font-family: [^;\"]*;? ?", "", one).replace(INK, "currentColor")

    text = re.sub(r"<[^>]*>", rewritten, text)
    opening, rest = text.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    width = _size(opening)[0] * PIXELS_A_POINT
    return (
        f'{opening} color="{INK}" font-family="system-ui, sans-serif" stroke-linejoin="round" stroke-linecap="butt" '
        f'style="max-width: {width:.0f}px; min-width: {width * least:.0f}px">{rest}'
    )


def in_a_row(panels: Sequence[str]) -> str:
    """One `<svg>` with the panels side by side."""
    if len(panels) == 1:
        return panels[0]
    placed, along, tallest = [], 0.0, 0.0
    for panel in panels:
        width, height = _size(panel)
        placed.append(panel.replace("<svg", f'<svg x="{along:g}" y="0" width="{width:g}" height="{height:g}"', 1))
        along, tallest = along + width, max(tallest, height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {along:g} {tallest:g}">{"".join(placed)}</svg>\n'
    )


def _size(element: str) -> tuple[float, float]:
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', element)
    if found is None:
        raise ValueError("an SVG element without a viewBox has no size")
    return float(found[1]), float(found[2])
