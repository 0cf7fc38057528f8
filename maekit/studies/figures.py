"""Curves of a study or a sweep: what a metric does along a swept key, with the spread over seeds."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

from maekit.report.content import Picture
from maekit.report.figures import PANEL, label_ends
from maekit.report.svg import BLUE, GREEN, INK, ORANGE, fragment, styled
from maekit.studies.results import Method, PointResult, Study

if TYPE_CHECKING:
    from collections.abc import Sequence

Line = tuple[str, list[tuple[Any, Method]], bool]
"""Name, methods by value of the swept key, and whether it is a yardstick rather than what is swept."""

COLOURS = (BLUE, ORANGE, GREEN, "#a35bb8", "#8f7a10", "#c9486b")
"""Told apart by people with any colour vision together with the end labels; those beyond are repeated."""
WIDE = 20
"""Ratio between the largest and the smallest value from which the axis is logarithmic."""
SWEPT_METHOD = "pretrained, linear probe"
YARDSTICKS = ("random weights, linear probe", "raw input, linear model")
DRAWN = ("pretrained, fine-tuned", "from scratch, fine-tuned", "pretrained, linear probe")
MOST_PICTURES = 12


def curves(study: Study) -> list[Picture]:
    """A picture for each swept key and setting of the others; for a sweep one, whose lines are the settings of the others."""
    values = {key: _distinct(point.values[key] for point in study.points) for key in study.points[0].values}
    keys = [key for key, distinct in values.items() if len(distinct) > 1]
    if not keys:
        return []
    if study.kind == "sweep":
        along = next((key for key in keys if all(_is_number(v) for v in values[key])), keys[0])
        return [_picture(study, along, values[along], _swept(study, along), "")]
    pictures = []
    for key in keys:
        others = [other for other in keys if other != key]
        for setting in product(*(values[other] for other in others)):
            held = dict(zip(others, setting, strict=True))
            points = [p for p in study.points if all(p.values[k] == v for k, v in held.items())]
            title = ", ".join(f"{k} {_word(v)}" for k, v in held.items())
            pictures.append(_picture(study, key, values[key], _of_methods(study, points, key), title))
    return pictures[:MOST_PICTURES]


def _swept(study: Study, along: str) -> list[Line]:
    """One line for each setting of the keys beside the one along the axis; beside them what was not pretrained."""
    lines: dict[str, list[tuple[Any, Method]]] = {}
    for point in study.points:
        name = ", ".join(
            _word(v) if isinstance(v, str) else f"{k} {_word(v)}" for k, v in point.values.items() if k != along
        )
        lines.setdefault(name or SWEPT_METHOD, []).append((point.values[along], _method(point, SWEPT_METHOD)))
    return [(name, points, False) for name, points in lines.items()] + _yardsticks(study, study.points, along)


def _of_methods(study: Study, points: Sequence[PointResult], along: str) -> list[Line]:
    """One line for each trained method."""
    smoothed = ", median of "
    names = [
        method.name
        for method in points[0].methods
        if method.name in DRAWN or (method.kind == "trained" and smoothed not in method.name)
    ]
    lines: list[Line] = [(name, [(p.values[along], _method(p, name)) for p in points], False) for name in names]
    return lines + _yardsticks(study, points, along)


def _yardsticks(study: Study, points: Sequence[PointResult], along: str) -> list[Line]:
    """What the swept key does not train; one of the points where several share a value."""
    without_learning = [method for method in points[0].of("no learning") if ", median of " not in method.name]
    names = [name for name in YARDSTICKS if points[0].method(name)] if study.kind == "sweep" else []
    constants = [method.name for method in without_learning if method.name.startswith("constant")]
    estimators = [method for method in without_learning if method.name not in constants]
    names += [study.best(estimators, study.metrics[0]).name] if estimators else []
    yardsticks: list[Line] = []
    for name in [*names, *constants]:
        by_value = {json.dumps(point.values[along]): (point.values[along], _method(point, name)) for point in points}
        yardsticks.append((name.split(" (")[0], list(by_value.values()), True))
    return yardsticks


def _method(point: PointResult, name: str) -> Method:
    method = point.method(name)
    assert method is not None
    return method


def _picture(study: Study, along: str, values: list[Any], lines: list[Line], title: str) -> Picture:
    panels = [
        _panel(metric, study.titles[metric], study.units.get(metric, ""), along, values, lines)
        for metric in study.main_metrics
    ]
    spread = f"Bands: standard deviation over {study.seeds} seeds. " if study.seeds > 1 else ""
    dashed = "Dashed: what the key does not train."
    caption = f"{title + '. ' if title else ''}{spread}{dashed}"
    return Picture(tuple(panels), f"Metrics along {along}{', ' + title if title else ''}", caption)


def _panel(metric: str, title: str, unit: str, along: str, values: list[Any], lines: list[Line]) -> str:
    from matplotlib.figure import Figure

    numeric = all(_is_number(v) for v in values)
    at = {json.dumps(v): float(v) if numeric else float(i) for i, v in enumerate(values)}
    with styled():
        figure = Figure(figsize=(PANEL[0] * 1.25, PANEL[1] * 1.15), layout="constrained")
        axes = figure.subplots()
        ends, colour = [], iter(COLOURS * len(lines))
        for name, methods, yardstick in lines:
            methods = sorted(methods, key=lambda pair: at[json.dumps(pair[0])])
            x = [at[json.dumps(value)] for value, _ in methods]
            mean, spread = (
                [method.mean(metric) for _, method in methods],
                [method.spread(metric) for _, method in methods],
            )
            ink = INK if yardstick else next(colour)
            axes.plot(
                x,
                mean,
                color=ink,
                linewidth=1.1 if yardstick else 1.6,
                marker=None if yardstick else "o",
                markersize=3.5,
                linestyle=(0, (4, 3)) if yardstick else "-",
            )
            low, high = zip(*((m - s, m + s) for m, s in zip(mean, spread, strict=True)), strict=True)
            axes.fill_between(x, low, high, color=ink, alpha=0.15, linewidth=0)
            ends.append((mean[-1], name, ink))
        if numeric and min(at.values()) > 0 and max(at.values()) >= WIDE * min(at.values()):
            axes.set_xscale("log")
        axes.set_xticks(list(at.values()), [_word(v) for v in values])
        axes.minorticks_off()
        axes.margins(x=0.02)
        axes.set(xlabel=along, ylabel=f"{metric}{f' [{unit}]' if unit else ''}")
        axes.set_title(title)
        axes.grid(axis="y")
        label_ends(axes, ends)
        return fragment(figure)


def _distinct(values: Any) -> list[Any]:
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
