"""Figures of the report, as SVG that reads on light and on dark ground."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from maekit.report.content import Picture

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

INK, GRID = "#7a7f87", "#9aa0a833"
# Okabe & Ito's palette, told apart by people with any colour vision; these three read on white and on black.
BLUE, ORANGE, GREEN = "#2b8fd6", "#e07b1a", "#12a37a"

STYLE = {
    "font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.titlecolor": INK, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "svg.fonttype": "none", "text.parse_math": False, "lines.color": BLUE,
    "axes.prop_cycle": "cycler('color', ['#2b8fd6', '#e07b1a', '#12a37a'])", "image.interpolation": "nearest",
}  # fmt: skip

Draw = Callable[..., None]


def curves(rows: Sequence[dict[str, Any]]) -> list[Picture]:
    """Loss (with the trivial predictors), learning rate and collapse monitor against epochs, from metrics rows."""
    training = [row for row in rows if row["kind"] == "train"]
    validation = [row for row in rows if row["kind"] == "validation"]
    if not training:
        return []

    def loss(axes: Axes) -> None:
        _line(axes, training, "loss", "training", BLUE, alpha=0.45)
        _line(axes, validation, "loss", "validation", BLUE)
        reference = validation or training
        _line(axes, reference, "loss_mean_patch", "mean patch", ORANGE, linestyle="--")
        _line(axes, reference, "loss_interpolation", "interpolation", GREEN, linestyle="--")
        axes.set_title("Loss")

    def metric(name: str, source: Sequence[dict[str, Any]]) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            _line(axes, source, name, "", BLUE)
            axes.set_title(name)

        return draw

    def monitor(axes: Axes) -> None:
        _line(axes, validation or training, "effective_rank", "", BLUE)
        axes.set_title("Effective rank of the embeddings")

    pictures = [_picture(loss, "Training and validation loss against epochs")]
    for name in ("mae", "accuracy"):
        if any(name in row for row in validation):
            pictures.append(_picture(metric(name, validation), f"{name} on the validation split against epochs"))
    if any("effective_rank" in row for row in validation or training):
        pictures.append(_picture(monitor, "Effective rank against epochs"))
    pictures.append(_picture(metric("lr", training), "Learning rate against epochs"))
    return pictures


def reconstruction(
    draw: Draw, panels: Sequence[tuple[str, NDArray[np.float32]]], *, caption: str, shared: NDArray[np.float32]
) -> Picture:
    """Panels one beside the other in the modality's own drawing, removed patches left out, on one scale.

    Args:
        draw: an adapter's `draw(axes, x, title=...)`.
        panels: (title, sample) with NaN where nothing is to be shown.
        caption: says how predictions were turned back into units.
        shared: the sample whose range sets the scale of all panels.
    """
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(panels), 3.0), layout="constrained")
        low, high = float(np.nanmin(shared)), float(np.nanmax(shared))
        margin = 0.05 * (high - low) or 1.0
        for axes, (title, x) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axes, x, title=title)
            for image in axes.images:
                if image.get_array().ndim == 2:
                    image.set_clim(low, high)
            if axes.lines:
                axes.set_ylim(low - margin, high + margin)
        return Picture(_svg(figure), "Original, masked and reconstructed sample", caption, wide=True)


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> Picture:
    """Which class was taken for which; rows are the truth. Long names are cut."""
    names = [name if len(name) <= 20 else f"{name[:19]}…" for name in classes]

    def draw(axes: Axes) -> None:
        share = counts / counts.sum(axis=1, keepdims=True).clip(1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (r, c), value in _enumerate(counts):
            axes.text(
                c,
                r,
                str(value),
                ha="center",
                va="center",
                color="#ffffff" if share[r, c] > 0.5 else "#30343a",
                fontsize=8,
            )
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title("Confusion on the test split")

    side = 1.8 + 0.42 * len(names) + 0.08 * max(map(len, names))
    return _picture(draw, "Confusion matrix", size=(side + 0.6, side))


def agreement(predicted: NDArray[np.float64], label: NDArray[np.float64], unit: str) -> Picture:
    """Difference against mean of prediction and label, with bias and limits of agreement (Bland & Altman, 1986)."""

    def draw(axes: Axes) -> None:
        difference = predicted - label
        bias, spread = float(difference.mean()), float(difference.std())
        axes.plot((predicted + label) / 2, difference, ".", markersize=3, alpha=0.5, color=BLUE)
        for level, name in ((bias, "bias"), (bias - 1.96 * spread, "-1.96 sd"), (bias + 1.96 * spread, "+1.96 sd")):
            axes.axhline(level, color=ORANGE, linewidth=1, linestyle="-" if name == "bias" else "--")
            axes.annotate(
                f"{name} {level:.1f}",
                (1, level),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8,
            )
        axes.set_xlabel(f"mean of prediction and label [{unit}]")
        axes.set_ylabel(f"prediction - label [{unit}]")
        axes.set_title("Agreement on the test split")

    return _picture(draw, "Bland-Altman plot")


def _line(axes: Axes, rows: Sequence[dict[str, Any]], name: str, label: str, colour: str, **style: Any) -> None:
    points = [(row["epoch"], row[name]) for row in rows if name in row]
    if not points:
        return
    x, y = zip(*points, strict=True)
    axes.plot(x, y, color=colour, linewidth=1.6, marker="o" if len(points) == 1 else None, markersize=3, **style)
    if label:  # beside the line's end, so that no legend has to be read
        axes.annotate(
            label, (x[-1], y[-1]), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=colour
        )


def _picture(draw: Callable[[Axes], None], alt: str, size: tuple[float, float] = (5.4, 2.9)) -> Picture:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        if not axes.images and not axes.get_xlabel():
            axes.grid(axis="y", color=GRID)
            axes.set_xlabel("epoch")
        return Picture(_svg(figure), alt)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Many figures share one page: ids must differ, and size comes from the page.
    mark = f"f{zlib.crc32(text.encode()):08x}-"
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', lambda m: m[0] + mark, text)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )


def _enumerate(values: NDArray[np.int64]) -> list[tuple[tuple[int, int], int]]:
    return [((r, c), int(values[r, c])) for r in range(values.shape[0]) for c in range(values.shape[1])]
