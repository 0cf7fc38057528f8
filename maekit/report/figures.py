"""Figures of the report: training curves, reconstructions, confusion matrices and agreement plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

from maekit.report.content import Picture
from maekit.report.svg import BLUE, GREEN, INK, ORANGE, REMOVED, fragment, styled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Axes: TypeAlias = Any
Figure: TypeAlias = Any
"""matplotlib's classes; its own annotations are unions too wide to be useful here."""
Draw = Callable[..., None]
EvalRows = Sequence[dict[str, Any]]
Label = tuple[float, str, str]
"""(height in data units, text, colour)"""

PANEL = (3.7, 2.5)
METRICS = {
    "mae": "Mean absolute error, validation",
    "accuracy": "Accuracy, validation",
    "ap": "Average precision, validation",
}
TRIVIAL = {"loss_mean_patch": ("mean patch", ORANGE), "loss_interpolation": ("interpolation", GREEN)}
COUNTS_UP_TO = 15


def curves(rows: EvalRows) -> list[Picture]:
    """Draw loss with trivial predictors, task metrics, learning rate and collapse metrics against epochs.

    Args:
        rows: lines of `metrics.jsonl`, each with `kind` (train or validation) and `epoch`.
    """
    training = [row for row in rows if row["kind"] == "train"]
    validation = [row for row in rows if row["kind"] == "validation"]
    if not training:
        return []
    last = max(row["epoch"] for row in [*training, *validation])
    pictures = [_loss(training, validation, last)]
    for name, title in METRICS.items():
        if any(name in row for row in validation):
            pictures.append(_single([(title, validation, name)], last, f"{title} against epochs"))
    pictures.append(_single([("Learning rate", training, "lr")], last, "Learning rate against epochs"))
    monitored = [
        (title, validation if any(name in row for row in validation) else training, name)
        for name, title in (("embedding_std", "Spread of the embeddings (std)"), ("effective_rank", "Effective rank"))
        if any(name in row for row in [*validation, *training])
    ]
    if monitored:
        what = "Spread of the embeddings and their effective rank against epochs: near zero the representation has collapsed"
        pictures.append(_single(monitored, last, what))
    return pictures


def reconstruction(
    draw: Draw, panels: Sequence[tuple[str, NDArray[np.float32]]], *, caption: str, shared: NDArray[np.float32]
) -> Picture:
    """Draw a sample and its reconstruction with the adapter's `draw`, on a common scale, with masked patches in gray.

    If the adapter draws lines, the last panel shows the original as a thin line behind the prediction.

    Args:
        draw: the adapter's `draw(axes, x, title=...)`.
        panels: (title, sample) of each panel; NaN values are not drawn.
        caption: text that says how predictions were converted to physical units.
        shared: sample that sets the scale of all panels.
    """
    import numpy as np

    with styled():
        model = _figure(PANEL).subplots()
        draw(model, shared, title="")
        spans: list[tuple[float, float]] = []
        drawn = []
        for i, (title, x) in enumerate(panels):
            figure = _figure(PANEL)
            axes = figure.subplots()
            draw(axes, x, title=title)
            for image, like in zip(axes.images, model.images, strict=False):
                if image.get_array().ndim == 2:
                    image.set_clim(*like.get_clim())
                    image.set_cmap(image.get_cmap().with_extremes(bad=REMOVED))
            if axes.lines:
                spans = _gaps(axes) or spans
                for left, right in spans:
                    axes.axvspan(left, right, color=INK, alpha=0.15, linewidth=0)
                if 0 < i == len(panels) - 1:
                    for line in model.lines:
                        axes.plot(*line.get_data(), color=INK, linewidth=0.9, zorder=1.5)
                axes.set_xlim(model.get_xlim())
                axes.set_ylim(_y_limits(model, [x for _, x in panels]))
            _literal(figure)
            drawn.append(fragment(figure))
        notes = []
        if any(np.isnan(x).any() for _, x in panels[1:]):
            notes.append("Shaded: not shown to the model." if model.lines else "Gray: not shown to the model.")
        if model.lines and len(panels) > 1:
            notes.append(f"Thin gray line: {panels[0][0]}.")
        alt = ", ".join(title for title, _ in panels)
        return Picture(tuple(drawn), f"One sample: {alt}", " ".join([caption, *notes]).strip())


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> Picture:
    """Draw a confusion matrix with true classes as rows; class names that are shortened appear in full in the caption."""
    import numpy as np
    from matplotlib.colors import to_rgb

    names = [name if len(name) <= 20 else f"{name[:19]}…" for name in classes]
    share = counts / counts.sum(axis=1, keepdims=True).clip(1)
    longest = 0.07 * max(map(len, names))
    with styled():
        side = 0.6 + 0.4 * len(names)
        figure = _figure((max(side + longest, 3.0), max(side + 0.7 * longest, 2.6)))
        axes = figure.subplots()
        # Opacity encodes the share; its maximum of 0.75 keeps the numbers legible in light and dark mode.
        axes.imshow(np.dstack([np.broadcast_to(to_rgb(BLUE), (*share.shape, 3)), 0.75 * share]))
        axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.grid(which="minor")
        axes.spines[:].set_visible(False)
        axes.tick_params(which="both", length=0)
        if len(names) <= COUNTS_UP_TO:
            for (row, column), count in np.ndenumerate(counts):
                weight = "bold" if share[row, column] > 0.5 else "normal"
                axes.text(column, row, f"{count:d}", ha="center", va="center", fontsize=8, fontweight=weight)
        slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 3 else {}
        axes.set_xticks(range(len(names)), names, **slanted)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        cut = [f"“{whole}”" for whole, name in zip(classes, names, strict=True) if whole != name]
        caption = (
            "Colour: share of the true class. Numbers: sample counts."
            if len(names) <= COUNTS_UP_TO
            else ("Colour: share of the true class.")
        )
        caption += f" Full names: {', '.join(cut)}." if cut else ""
        return Picture((fragment(figure, min_width=0.55),), "Confusion matrix on the held-out split", caption)


def agreement(predicted: NDArray[np.float64], label: NDArray[np.float64], unit: str) -> Picture:
    """Draw prediction against label, and a Bland-Altman plot with 95 % limits of agreement.

    Source: Bland and Altman, "Statistical methods for assessing agreement", The Lancet, 1986.
    """
    import numpy as np

    finite = np.isfinite(predicted) & np.isfinite(label)
    left_out = int((~finite).sum())
    predicted, label = predicted[finite], label[finite]
    of = f" [{unit}]" if unit else ""
    dots = {"color": BLUE, "markersize": 3, "markeredgewidth": 0, "alpha": max(0.25, min(0.8, 150 / (len(label) or 1)))}
    note = f" {left_out} of {len(finite)} pairs are not finite and were excluded." if left_out else ""
    with styled():
        pair = _figure(PANEL)
        axes = pair.subplots()
        axes.plot(label, predicted, "o", **dots)
        low, high = axes.get_xlim()
        low, high = min(low, axes.get_ylim()[0]), max(high, axes.get_ylim()[1])
        axes.plot((low, high), (low, high), color=INK, linewidth=0.9, zorder=1)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"label{of}", ylabel=f"prediction{of}")
        axes.set_title("Prediction against label")
        axes.grid()
        spread = _figure(PANEL)
        axes = spread.subplots()
        axes.plot((predicted + label) / 2, predicted - label, "o", **dots)
        if len(label):
            bias, sd = float((predicted - label).mean()), float((predicted - label).std())
            levels = [(bias, "bias"), (bias - 1.96 * sd, "−1.96 SD"), (bias + 1.96 * sd, "+1.96 SD")]
            for level, name in levels:
                axes.axhline(level, color=ORANGE, linewidth=1.1, linestyle="-" if name == "bias" else (0, (4, 3)))
            label_ends(axes, [(level, f"{name} {level:.1f}".replace("-", "−"), ORANGE) for level, name in levels])
        axes.set(xlabel=f"mean of prediction and label{of}", ylabel=f"prediction − label{of}")
        axes.set_title("Agreement (Bland–Altman)")
        axes.grid(axis="y")
        caption = f"{len(label)} samples. Gray line: prediction equals label.{note}"
        return Picture((fragment(pair), fragment(spread)), "Predictions against labels, and their agreement", caption)


def _loss(training: EvalRows, validation: EvalRows, last: float) -> Picture:
    with styled():
        figure = _figure(PANEL)
        axes = figure.subplots()
        ends: list[Label] = []
        if validation:
            ends += _line(axes, training, "loss", "training", BLUE, linewidth=1.0, alpha=0.5)
            ends += _line(axes, validation, "loss", "validation", BLUE)
        else:
            ends += _line(axes, training, "loss", "training", BLUE)
        seen = [y for line in axes.lines for y in line.get_ydata()] or [0.0, 1.0]
        trivial: list[Label] = []
        for name, (label, colour) in TRIVIAL.items():
            rows = validation if any(name in row for row in validation) else training
            trivial += _line(axes, rows, name, label, colour, linewidth=1.3, linestyle=(0, (4, 3)))
        low, high = min(seen), max(seen)
        if trivial:  # the lowest is always in view; one far above would flatten the other curves
            low, high = min([low, *(y for y, _, _ in trivial)]), max(high, min(y for y, _, _ in trivial))
            limit = high + 1.5 * (high - low)
            high = max([high, *(y for y, _, _ in trivial if y <= limit)])
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
        axes.set_ylim(low - margin, high + margin)
        ends += [(y, text if y <= high else f"{text} ↑", colour) for y, text, colour in trivial]
        _finish(axes, "Loss", last)
        label_ends(axes, ends)
        what = "Loss against epochs" + (", dashed: predictors without training" if trivial else "")
        return Picture((fragment(figure),), what, f"{what}." if trivial else "")


def _single(parts: Sequence[tuple[str, EvalRows, str]], last: float, alt: str) -> Picture:
    """Draw one panel per quantity, stacked, each labelled with its last value."""
    with styled():
        figure = _figure(PANEL)
        for i, (axes, (title, rows, name)) in enumerate(
            zip(figure.subplots(len(parts), sharex=True, squeeze=False)[:, 0], parts, strict=True)
        ):
            ends = _line(axes, rows, name, "", BLUE)
            if name in ("effective_rank", "embedding_std", "lr"):
                axes.set_ylim(bottom=0)
            _finish(axes, title, last, labelled=i == len(parts) - 1, ticks=5 if len(parts) == 1 else 3)
            if name != "lr":  # its last value is close to 0 by design
                label_ends(axes, ends)
        return Picture((fragment(figure),), alt)


def _line(axes: Axes, rows: EvalRows, name: str, label: str, colour: str, **style: Any) -> list[Label]:
    """Draw one metric against epochs and return the label for the end of the line."""
    points = [(row["epoch"], float(row[name])) for row in rows if _is_finite(row.get(name))]
    if not points:
        return []
    x, y = zip(*points, strict=True)
    axes.plot(
        x,
        y,
        **{
            "color": colour,
            "linewidth": 1.6,
            "marker": "o" if len(x) == 1 else None,
            "markersize": 4,
            "clip_on": len(x) > 1,
            **style,
        },
    )
    value = f"{y[-1]:.3g}" if abs(y[-1]) < 1000 else f"{y[-1]:,.0f}"
    return [(y[-1], f"{label} {value}".strip(), colour)]


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _finish(axes: Axes, title: str, last: float, *, labelled: bool = True, ticks: int = 5) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_title(title)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=last >= 2))
    axes.yaxis.set_major_locator(MaxNLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.5g}"))
    if labelled:
        axes.set_xlabel("epoch")


def label_ends(axes: Axes, labels: Sequence[Label]) -> None:
    """Write labels to the right of the axes at the height of each line's end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    rows = axes.get_subplotspec().get_gridspec().nrows if axes.get_subplotspec() else 1
    gap = 0.1 * rows
    ordered = sorted(labels)
    heights = [min(max((y - low) / (high - low), 0.0), 1.0) for y, _, _ in ordered]
    for _ in range(100):
        for i, (below, above) in enumerate(pairwise(heights)):
            lacking = max(0.0, gap - (above - below)) / 2
            heights[i], heights[i + 1] = below - lacking, above + lacking
    for height, (_, text, colour) in zip(heights, ordered, strict=True):
        axes.annotate(
            text,
            (1, height),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
        )


def _gaps(axes: Axes) -> list[tuple[float, float]]:
    """Intervals of the horizontal axis in which no line has a value."""
    import numpy as np

    x = np.asarray(axes.lines[0].get_xdata(), dtype=float)
    same = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines if len(line.get_xdata()) == len(x)]
    missing = np.isnan(same).all(axis=0)
    edges = np.flatnonzero(np.diff(np.r_[False, missing, False].astype(int)))
    last = len(x) - 1
    return [(float(x[max(start - 1, 0)]), float(x[min(end, last)])) for start, end in edges.reshape(-1, 2)]


def _y_limits(model: Axes, samples: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Limits of `model`, widened to include the samples by at most one axis height on each side."""
    import numpy as np

    low, high = model.get_ylim()
    values = np.concatenate([x[np.isfinite(x)].ravel() for x in samples])
    if not values.size:
        return low, high
    height, margin = high - low, 0.04 * (high - low)
    below, above = float(values.min()) - margin, float(values.max()) + margin
    return max(min(low, below), low - height), min(max(high, above), high + height)


def _literal(figure: Figure) -> None:
    """Show dollar signs literally and logarithmic ticks as plain numbers, because math text is disabled in SVG output."""
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter, LogFormatterMathtext

    for text in figure.findobj(Text):
        text.set_text(text.get_text().replace(r"\$", "$"))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatterMathtext):
                axis.set_major_formatter(LogFormatter())


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")
