"""Time series of estimates with their uncertainty, gaps without estimates, and labels where available."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from maekit.report.content import Picture
from maekit.report.svg import BLUE, INK, ORANGE, fragment, styled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Axes: TypeAlias = Any
"""matplotlib's `Axes`; its own annotations are unions too wide to be useful here."""

PANEL = (7.4, 2.6)
UNITS = ((3 * 3600, 3600.0, "h"), (600, 60.0, "min"), (0, 1.0, "s"))
"""(shortest duration in seconds, seconds per unit, unit) of the time axis."""


def timeline(
    time_s: NDArray[np.float64],
    value: NDArray[np.float64],
    spread: NDArray[np.float64],
    label: NDArray[np.float64],
    *,
    title: str,
    unit: str = "",
    classes: Sequence[str] = (),
) -> Picture:
    """Draw estimates over time in one wide panel.

    Args:
        time_s: (estimate,) times in seconds, evenly spaced.
        value: (estimate,) in `unit`, or class indices; NaN where there is no estimate.
        spread: (estimate,) standard deviation in `unit`; NaN where unknown.
        label: (estimate,) true value in `unit`; NaN where unknown.
        title: title of the panel.
        unit: unit of value, spread and label.
        classes: class names, if the values are class indices.
    """
    import numpy as np
    from matplotlib.figure import Figure

    last = float(time_s[-1]) if len(time_s) else 0.0
    seconds, name = next((seconds, name) for least, seconds, name in UNITS if last >= least)
    at = time_s / seconds
    none = np.isnan(value)
    height = 0.9 + 0.25 * len(classes) if classes else PANEL[1]
    with styled():
        figure = Figure(figsize=(PANEL[0], max(height, 2.0)), layout="constrained")
        axes: Axes = figure.subplots()
        half = float(np.median(np.diff(at))) / 2 if len(at) > 1 else 0.5 / seconds
        line: dict[str, Any] = {"linewidth": 1.5, "marker": ".", "markersize": 2}
        if classes:
            line = {"linestyle": "none", "marker": "o", "markersize": 3.5, "markeredgewidth": 0}
        axes.plot(at, value, color=BLUE, zorder=3, label="estimate", **line)
        if np.isfinite(spread).any():
            band = (value - spread, value + spread)
            axes.fill_between(at, *band, color=BLUE, alpha=0.25, linewidth=0, label="± 1 standard deviation")
        if np.isfinite(label).any():
            thinner = {"linewidth": 1.1, "marker": ""} if not classes else {"markersize": 6}
            axes.plot(at, label, color=ORANGE, zorder=2, label="label", **(line | thinner))
        for i, (first, after) in enumerate(_stretches(none)):
            text = None if i else "no estimate"
            axes.axvspan(at[first] - half, at[after - 1] + half, color=INK, alpha=0.18, linewidth=0, label=text)
        if classes:
            axes.set_yticks(range(len(classes)), classes)
            axes.set_ylim(-0.6, len(classes) - 0.4)
        else:
            axes.set_ylabel(unit or "value")
        axes.set_xlim(at[0] - half, at[-1] + half) if len(at) else None
        axes.set_xlabel(f"time [{name}]")
        axes.set_title(title, pad=24)
        axes.grid(axis="y")
        axes.legend(
            frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, handlelength=1.4
        )
        share = float(none.mean()) if len(none) else 0.0
        alt = f"Estimate over {last / seconds:.3g} {name}; none in {share:.0%} of the windows"
        return Picture((fragment(figure),), alt)


def _stretches(where: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop indices of each run of True."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.r_[False, where, False].astype(int)))
    return [(int(first), int(after)) for first, after in edges.reshape(-1, 2)]
