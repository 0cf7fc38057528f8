"""Conversion of matplotlib figures to SVG that is legible on light and dark backgrounds, inline or as a separate file."""

from __future__ import annotations

import io
import re
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from maekit.escaping import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#7a7f87"
"""Placeholder colour: `fragment` replaces it by `currentColor`, so it follows the page's text; a separate file shows this gray."""
# Hues after Okabe and Ito, distinguishable with colour-vision deficiency, in shades legible on white and on black.
BLUE, ORANGE, GREEN = "#2b86c9", "#d06c0c", "#0f9270"
REMOVED = "#9a9fa6"
DARK, GROUND = "#30343a", ("figure.facecolor", "savefig.facecolor")
"""Text colour, and the settings of the background, of pictures outside a page."""

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
    "svg.fonttype": "none",  # text stays text: the reader's fonts cover more scripts than matplotlib's
    "svg.hashsalt": "maekit",
}
PIXELS_A_POINT = 1.5

# rcParams are global to the process, so figures are drawn one at a time.
_styling = threading.RLock()


@contextmanager
def styled(*, on_white: bool = False) -> Iterator[None]:
    """Apply the report's style to figures drawn and saved inside the block; `on_white` adds a white background."""
    from matplotlib import rc_context

    white = {name: DARK for name, value in STYLE.items() if value == INK} | dict.fromkeys(GROUND, "white")
    with _styling, rc_context(STYLE | white if on_white else STYLE):
        yield


def fragment(figure: Figure, *, min_width: float = 0.0) -> str:
    """Convert a figure to an `<svg>` element whose width the page determines.

    Args:
        figure: drawn under `styled`.
        min_width: minimum displayed width as a fraction of the natural width; 0: no minimum.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # text stays text, so the reader's fonts count
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = visible(buffer.getvalue(), keep="\n\t")  # XML has no control characters
    text = re.sub(
        r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text[text.index("<svg") :], flags=re.S
    )
    prefix = f"f{zlib.crc32(text.encode()):08x}-"

    def rewrite(tag: re.Match[str]) -> str:
        # Only inside tags: text between tags may come from users and is left unchanged.
        unique = re.sub(r'(\bid="|xlink:href="#|url\(#)', lambda match: match[0] + prefix, tag[0])
        return re.sub(r"font-family: [^;\"]*;? ?", "", unique).replace(INK, "currentColor")

    text = re.sub(r"<[^>]*>", rewrite, text)
    opening, rest = text.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    width = _size(opening)[0] * PIXELS_A_POINT
    return (
        f'{opening} color="{INK}" font-family="system-ui, sans-serif" stroke-linejoin="round" stroke-linecap="butt" '
        f'style="max-width: {width:.0f}px; min-width: {width * min_width:.0f}px">{rest}'
    )


def in_a_row(panels: Sequence[str]) -> str:
    """Combine panels into one `<svg>`, side by side."""
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
    match = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', element)
    if match is None:
        raise ValueError("an SVG element without a viewBox has no size")
    return float(match[1]), float(match[2])
