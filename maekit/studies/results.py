"""What a study found, as its page and its tables take it: methods, the differences between them, and points of a grid."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal

Interval = tuple[float, float] | None
Kind = Literal["trained", "linear", "no learning", "oracle"]
LOWER_IS_BETTER = ("mae", "rmse", "mape")


@dataclass(frozen=True)
class OverSeeds:
    """Metrics of each seed, over the held-out samples of all folds together, and their 95 % intervals by resampling groups."""

    per_seed: list[dict[str, float]]
    intervals: dict[str, Interval]

    def mean(self, metric: str) -> float:
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
        kind: `trained` network, `linear` model or neighbours on what was not trained with labels, `unlearned`, or the `ceiling`,
            which knows the label and is no method.
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
    """One point of the grid; `values` has the value of each swept key by its label."""

    values: dict[str, Any]
    methods: list[Method]
    differences: list[Difference]
    samples: int

    def method(self, name: str) -> Method | None:
        return next((method for method in self.methods if method.name == name), None)

    @property
    def title(self) -> str:
        return ", ".join(f"{label} {_shown(value)}" for label, value in self.values.items())

    def of(self, *kinds: Kind) -> list[Method]:
        """Arms of some kinds, in order."""
        return [method for method in self.methods if method.kind in kinds]


@dataclass(frozen=True)
class Study:
    """All points, and what they were measured on.

    Attributes:
        recipe: its name.
        kind: `study` or `sweep`.
        points: of the grid, one where nothing was swept.
        chosen: which of them is the recipe as it stands (else the last).
        metrics: the main one first.
        unit: of the labels.
        within: what `within` counts as close.
        seeds, folds: how many.
        notes: what a reader must know.
    """

    recipe: str
    kind: str
    points: list[PointResult]
    chosen: int
    metrics: list[str]
    unit: str
    within: float
    seeds: int
    folds: int
    notes: list[str] = field(default_factory=list)


def best(methods: list[Method], metric: str) -> Method:
    """The method with the best mean."""
    return (min if metric in LOWER_IS_BETTER else max)(methods, key=lambda method: method.mean(metric))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
