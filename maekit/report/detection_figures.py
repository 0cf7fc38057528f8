"""Figures of detections: on the sample, in the bird's-eye view, and beside a camera picture of the same moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from maekit.report.content import Picture
from maekit.report.figures import PANEL, label_ends
from maekit.report.svg import BLUE, DARK, GREEN, INK, ORANGE, fragment, styled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from maekit.report.figures import Label

Axes: TypeAlias = Any
Figure: TypeAlias = Any
Artist: TypeAlias = Any
"""matplotlib's classes; its own annotations are unions too wide to be useful here."""

MARKS = ("#ff5a5f", "#ffffff", "#ffb02e", "#ff8ad8", "#5ad1ff", "#c0ff6b")
"""Colours of the classes, repeated beyond six."""
LINES = (BLUE, ORANGE, GREEN, "#a35bb8", "#8f7a10", "#c9486b")
HEIGHT, DPI = 3.5, 150
"""Panel height in inches, and the resolution of rasterised parts."""
SHADES = 48
"""Number of colours of the colour map that an animation keeps."""
TITLE = {"fontsize": 9.5, "fontweight": "bold", "x": 0.01, "ha": "left"}
SHADE = {"boxstyle": "square,pad=0.12", "facecolor": (0, 0, 0, 0.5), "linewidth": 0}
LETTER, LINE = 4.7, 9.5
"""Approximate letter width and line height of the object labels, in points."""
MAX_LABELLED = 12
"""Maximum number of objects with a label, in descending order of score."""


@dataclass(frozen=True)
class Objects:
    """Positions, classes and scores of the objects in one sample.

    Attributes:
        at: (object, 2) coordinates on the axes that the adapter draws.
        kind: (object,) class index.
        score: (object,) of detections; None for labels.
        above: (object, 2) bird's-eye coordinates, if the geometry is known.
        outline: (object, corner, 2) corners of boxes, if there are boxes, on the axes that the adapter draws.
    """

    at: NDArray[np.float64]
    kind: NDArray[np.int64]
    score: NDArray[np.float64] | None = None
    above: NDArray[np.float64] | None = None
    outline: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Scene:
    """One sample with its detections and labels.

    Attributes:
        x: sample in the form that the adapter's `draw` takes.
        cells: (first, second) values along the two axes on which objects are located.
        found: detections.
        truth: labels, if there are any.
        picture: (height, width, 3) camera picture with values from 0 to 1, if there is one.
        title: title of the figure.
    """

    x: Any
    cells: NDArray[np.float64]
    found: Objects
    truth: Objects | None = None
    picture: NDArray[np.float64] | None = None
    title: str = ""


class SceneView:
    """A figure that shows scenes one after the other with the axes and colour limits of the first.

    Positions are fixed after the first scene, so that an animation does not jump.

    Args:
        draw: the adapter's `draw`.
        first: scene that determines the axes and whether there is a panel for a picture.
        classes: class names.
        corners: (first + 1, second + 1, 2) cell corners in the bird's-eye view; None: no such panel.
        unit: unit of bird's-eye coordinates.
        limits: colour limits; None: from the first scene.
        beside: title of the picture's panel.
        page: transparent background for a page instead of white.
    """

    def __init__(
        self,
        draw: Callable[..., None],
        first: Scene,
        classes: Sequence[str],
        *,
        corners: NDArray[np.float64] | None = None,
        unit: str = "",
        limits: tuple[float, float] | None = None,
        beside: str = "",
        page: bool = False,
    ) -> None:
        from matplotlib.figure import Figure

        self.draw, self.classes, self.on_white = draw, classes, not page
        with styled(on_white=self.on_white):
            widths = [1.35 * HEIGHT]
            if corners is not None:
                widths.append(min(max(HEIGHT * _aspect(corners), 0.6 * HEIGHT), 1.5 * HEIGHT))
            if first.picture is not None:
                tall, wide = first.picture.shape[:2]
                widths.append(min(max(HEIGHT * wide / tall, 0.7 * HEIGHT), 1.4 * HEIGHT))
            self.figure: Figure = Figure(figsize=(sum(widths), HEIGHT + 0.3), layout="constrained", dpi=DPI)
            panels = list(self.figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
            self.map: Axes = panels.pop(0)
            draw(self.map, first.x, title="")
            image = self.map.images[-1] if self.map.images else None
            if image is not None and limits is not None:
                image.set_clim(*limits)
            self.above: Axes = panels.pop(0) if corners is not None else None
            if corners is not None:
                _from_above(self.above, corners, first.cells, image, unit)
            self.beside: Axes = panels.pop(0) if first.picture is not None else None
            if self.beside is not None:
                self.beside.imshow(first.picture)
                self.beside.set_anchor("N")
                self.beside.set_axis_off()
                self.beside.set_title(beside)
            self._legend(first)
            self._marks: list[Artist] = []
            self.figure.suptitle(first.title, **TITLE)
            self.figure.draw_without_rendering()
            # The layout is fixed here: labels are placed relative to it, and an animation does not jump.
            self.figure.set_layout_engine("none")
            self.show(first)

    def _legend(self, scene: Scene) -> None:
        """Add the legend of the markers below the panels."""
        from matplotlib.lines import Line2D

        plain: dict[str, Any] = {"linestyle": "none", "markersize": 7, "color": DARK if self.on_white else INK}
        hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.4}
        shown = [
            Line2D(
                [],
                [],
                marker="o" if scene.found.outline is None else "s",
                label="detection, with score",
                **plain,
                **hollow,
            )
        ]
        if scene.truth is not None:
            shown.append(Line2D([], [], marker="x", label="ground truth", markeredgewidth=1.6, **plain))
        if len(self.classes) > 1:
            for i, name in enumerate(self.classes):
                colour: dict[str, Any] = {
                    "markerfacecolor": MARKS[i % len(MARKS)],
                    "markeredgecolor": "0.2",
                    "markeredgewidth": 0.6,
                }
                shown.append(Line2D([], [], marker="s", linestyle="none", markersize=7, label=name, **colour))
        self.figure.legend(
            handles=shown,
            loc="outside lower center",
            ncols=len(shown),
            frameon=False,
            fontsize=8.5,
            handletextpad=0.3,
            columnspacing=1.4,
        )

    def show(self, scene: Scene) -> None:
        """Replace the scene on display."""
        from matplotlib.figure import Figure

        with styled(on_white=self.on_white):
            for mark in self._marks:
                mark.remove()
            model: Axes = Figure().subplots()
            self.draw(model, scene.x, title="")
            for image, source in zip(self.map.images, model.images, strict=False):
                image.set_data(source.get_array())
            if self.above is not None:
                self.above.collections[0].set_array(scene.cells)
            if self.beside is not None:
                blank = 0 * self.beside.images[0].get_array() + 0.5
                self.beside.images[0].set_data(blank if scene.picture is None else scene.picture)
            self._marks = []
            self.figure.suptitle(scene.title, **TITLE)
            alone = len(self.classes) == 1
            for objects in (scene.truth, scene.found):
                if objects is None:
                    continue
                self._marks += _marked(self.map, objects.at, objects, objects.outline, alone=alone)
                if self.above is not None and objects.above is not None:
                    self._marks += _marked(self.above, objects.above, objects, None, alone=alone)
            self._marks += _named(self.map, scene.found, self.classes)

    def pixels(self, dpi: int) -> NDArray[np.uint8]:
        """Render the figure to (height, width, 3) RGB values from 0 to 255."""
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        with styled(on_white=self.on_white):
            self.figure.set_dpi(dpi)
            canvas = FigureCanvasAgg(self.figure)
            canvas.draw()
            return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def colours(self) -> NDArray[np.uint8]:
        """(colour, 3) RGB colours that carry meaning: those of the classes and of the colour map."""
        import numpy as np
        from matplotlib.colors import to_rgb

        palette = [to_rgb(colour) for colour in MARKS]
        if self.map.images:
            palette += self.map.images[-1].get_cmap()(np.linspace(0, 1, SHADES))[:, :3].tolist()
        return np.asarray(np.round(255 * np.array(palette)), dtype=np.uint8)

    def picture(self, alt: str, caption: str = "") -> Picture:
        """Convert the figure to SVG."""
        with styled(on_white=self.on_white):
            return Picture((fragment(self.figure),), alt, caption)


def precision_recall(
    curves: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]], similarity: float
) -> Picture:
    """Draw precision against recall, one line per class, for matches of at least the given similarity.

    Args:
        curves: (class name, recall, precision) of each line.
        similarity: threshold of a match, see `maekit.metrics.similarity`.
    """
    from matplotlib.figure import Figure

    with styled():
        figure: Figure = Figure(figsize=(PANEL[0], PANEL[1] * 1.1), layout="constrained")
        axes: Axes = figure.subplots()
        ends: list[Label] = []
        for i, (name, recall, precision) in enumerate(curves):
            colour = LINES[i % len(LINES)]
            axes.plot(recall, precision, color=colour, linewidth=1.6, drawstyle="steps-pre")
            ends.append((float(precision[-1]) if len(precision) else 0.0, name, colour))
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.set_title(f"Precision against recall (similarity ≥ {similarity:g})")
        axes.grid()
        label_ends(axes, ends)
        alt = f"Precision against recall at similarity {similarity:g} for {', '.join(name for name, _, _ in curves)}"
        return Picture((fragment(figure),), alt, "Each line ends at the recall that all detections together reach.")


def _aspect(corners: NDArray[np.float64]) -> float:
    """Width over height of the bird's-eye view."""
    wide, tall = (float(corners[..., i].max() - corners[..., i].min()) for i in (0, 1))
    return wide / tall


def _from_above(axes: Axes, corners: NDArray[np.float64], cells: NDArray[np.float64], image: Artist, unit: str) -> None:
    """Draw the cells at their positions; the sensor is at the origin and faces upward."""
    colours = (
        {} if image is None else {"cmap": image.get_cmap(), "vmin": image.get_clim()[0], "vmax": image.get_clim()[1]}
    )
    axes.pcolormesh(corners[..., 0], corners[..., 1], cells, shading="flat", rasterized=True, **colours)
    axes.set_aspect("equal", anchor="N")
    of = f" [{unit}]" if unit else ""
    axes.set(xlabel=f"right{of}", ylabel=f"ahead{of}")
    axes.set_title("Bird's-eye view")


def _marked(
    axes: Axes, at: NDArray[np.float64], objects: Objects, outline: NDArray[np.float64] | None, *, alone: bool
) -> list[Artist]:
    """Draw circles for detections, crosses for labels, or boxes; with a single class (`alone`) labels have a colour of their own."""
    from matplotlib.patches import Polygon

    artists: list[Artist] = []
    true = objects.score is None
    for i, ((x, y), kind) in enumerate(zip(at.tolist(), objects.kind.tolist(), strict=True)):
        colour = MARKS[1] if alone and true else MARKS[kind % len(MARKS)]
        mark = {"marker": "x", "markersize": 6.5, "markeredgewidth": 1.5, "markeredgecolor": colour}
        if not true:
            mark |= {"marker": "o", "markersize": 10, "markerfacecolor": "none", "markeredgewidth": 1.4}
        if true or outline is None:
            artists += axes.plot([x], [y], linestyle="none", zorder=5, clip_on=False, path_effects=_edged(2.8), **mark)
        if outline is not None:
            style = (0, (2, 2)) if true else "-"
            box = Polygon(outline[i], fill=False, edgecolor=colour, linewidth=1.3, linestyle=style, zorder=5)
            box.set_path_effects(_edged(2.4))
            artists.append(axes.add_patch(box))
    return artists


def _named(axes: Axes, found: Objects, classes: Sequence[str]) -> list[Artist]:
    """Write class and score beside each detection in descending order of score; labels that would overlap move by whole lines."""
    artists: list[Artist] = []
    if found.score is None:
        return artists
    points = 72 / axes.figure.dpi
    low, high = axes.get_xlim()
    taken: list[tuple[float, float, float]] = []
    for i, ((x, y), kind) in enumerate(zip(found.at[:MAX_LABELLED].tolist(), found.kind.tolist(), strict=False)):
        text = f"{classes[kind]} {found.score[i]:.2f}" if len(classes) > 1 else f"{found.score[i]:.2f}"
        right = x <= low + 0.7 * (high - low)  # a label at the right edge would leave the axes
        along, up = (points * axes.transData.transform((x, y))).tolist()
        wide = LETTER * len(text)
        left = along + 8 if right else along - 8 - wide
        tries = [step for n in range(6) for step in (n * LINE, -n * LINE)]
        free = (
            s
            for s in tries
            if not any(abs(up + s - b) < LINE and left < a + w and a < left + wide for a, b, w in taken)
        )
        step = next(free, 0.0)
        taken.append((left, up + step, wide))
        artists.append(
            axes.annotate(
                text,
                (x, y),
                xytext=(8 if right else -8, step),
                textcoords="offset points",
                fontsize=8,
                color=MARKS[kind % len(MARKS)],
                ha="left" if right else "right",
                va="center",
                zorder=6,
                annotation_clip=False,
                bbox=SHADE,
            )
        )
    return artists


def _edged(width: float) -> list[Any]:
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width, foreground="black"), Normal()]
