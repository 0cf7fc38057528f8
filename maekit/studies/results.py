"""The result of a study, for its page and tables: points of a grid, methods at each, and differences between methods."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal

Interval = tuple[float, float] | None
Kind = Literal["trained", "linear", "no learning", "oracle"]


@dataclass(frozen=True)
class OverSeeds:
    """Metrics with their spread.

    Attributes:
        per_seed: metrics of each seed, over the held-out samples of all folds together.
        intervals: 95 % of each metric, by resampling groups; None where there is one group.
    """

    per_seed: list[dict[str, float]]
    intervals: dict[str, Interval]

    def mean(self, metric: str) -> float:
        """Mean over seeds."""
        return fmean(row[metric] for row in self.per_seed)

    def spread(self, metric: str) -> float:
        """Standard deviation over seeds; 0 for one."""
        values = [row[metric] for row in self.per_seed]
        return stdev(values) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Method(OverSeeds):
    """One way to spend the labels.

    Attributes:
        name: for people.
        kind: a `trained` network, a `linear` model (or nearest neighbours) on features that were not trained with labels,
            `no learning`, or an `oracle`, which knows the label and competes with nothing.
        groups: metrics of each held-out group, averaged over seeds.
    """

    name: str
    kind: Kind
    groups: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Difference(OverSeeds):
    """One method less another, seed by seed and over the same resampled groups."""

    one: str
    other: str


@dataclass(frozen=True)
class PointResult:
    """One point of the grid.

    Attributes:
        values: of the swept keys, by their labels.
        methods: in the order in which they are shown.
        differences: what pretraining bought.
        samples: number of held-out samples in all folds together.
    """

    values: dict[str, Any]
    methods: list[Method]
    differences: list[Difference]
    samples: int

    def method(self, name: str) -> Method | None:
        """The method of this name, None where there is none."""
        return next((method for method in self.methods if method.name == name), None)

    @property
    def title(self) -> str:
        """Labels and values of the swept keys."""
        return ", ".join(f"{label} {_shown(value)}" for label, value in self.values.items())

    def of(self, *kinds: Kind) -> list[Method]:
        """Methods of some kinds, in order."""
        return [method for method in self.methods if method.kind in kinds]


@dataclass(frozen=True)
class Study:
    """All points, and what they were measured on.

    Attributes:
        recipe: its name.
        kind: `study` or `sweep`.
        points: of the grid, one where nothing was swept.
        chosen: index of the point that is the recipe itself, of the last where there is none.
        metrics: their names, the primary one first.
        main_metrics: those that verdicts and curves are of.
        lower_is_better: those of which a smaller value is better.
        titles: of the curves of the main metrics.
        units: of each metric; empty where it has none.
        seeds: how many.
        folds: how many.
        notes: what a reader must know.
    """

    recipe: str
    kind: str
    points: list[PointResult]
    chosen: int
    metrics: list[str]
    main_metrics: list[str]
    lower_is_better: list[str]
    titles: dict[str, str]
    units: dict[str, str]
    seeds: int
    folds: int
    notes: list[str] = field(default_factory=list)

    def best(self, methods: list[Method], metric: str) -> Method:
        """The method with the best mean."""
        return (min if metric in self.lower_is_better else max)(methods, key=lambda method: method.mean(metric))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
