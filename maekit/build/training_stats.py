"""What a run keeps of its training data, so that it can be used without them: the shape of a sample, and how good one was.

`training_stats.json` in the run folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf, isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.adapter import Adapter
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.sample import Axis, SignalInfo
from maekit.errors import UnreadableError, UserError
from maekit.tracking import drift_of

if TYPE_CHECKING:
    from pathlib import Path

    from maekit.build.experiment import Experiment

FILE = "training_stats.json"
WINDOWS_A_GROUP = 200
"""Training samples of one group that the limits of quality are learned from, evenly spread."""
QUANTILE = 0.05


@dataclass(frozen=True)
class Pace:
    """How labels go on along a recording.

    Attributes:
        window_s: length of a window.
        drift: of the training labels, see `maekit.tracking.drift_of`.
        lowest, highest: of the training labels.
    """

    window_s: float
    drift: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class TrainingStats:
    """The signal of a run, its limits of quality, and how its labels go on.

    Attributes:
        signal: what all samples had in common.
        limits: by the names of `Baselines.quality`, the least that a sample needs for an estimate: that which all but a
            twentieth of the samples reach even in the poorest training group.
        pace: see `pace_of`.
        auxiliary: what all samples of each signal beside had in common, by name.
    """

    signal: SignalInfo
    limits: Mapping[str, float] = field(default_factory=dict)
    pace: Pace | None = None
    auxiliary: Mapping[str, SignalInfo] = field(default_factory=dict)

    def shortcomings(self, quality: Mapping[str, float]) -> str:
        """What is wrong with a sample of this quality; empty where nothing is."""
        return "; ".join(name for name, value in quality.items() if not value >= self.limits.get(name, -inf))


def measure(experiment: Experiment) -> TrainingStats:
    """From the training split of a run."""
    found: dict[str, dict[str, list[float]]] = {}
    source, train = experiment.source, experiment.split["train"]
    if type(experiment.adapter).quality is Adapter.quality:  # it judges nothing: nothing need be read
        return TrainingStats(source.info, pace=pace_of(experiment), auxiliary=source.auxiliary)
    for group in np.unique(source.groups[train]):
        indices = train[source.groups[train] == group]
        for i in indices[:: -(-len(indices) // WINDOWS_A_GROUP)]:
            try:
                quality = experiment.adapter.quality(source[int(i)])
            except UnreadableError:
                continue
            for name, value in quality.items():
                if not isnan(value):
                    found.setdefault(name, {}).setdefault(str(group), []).append(value)
    limits = {
        name: min(float(np.quantile(values, QUANTILE)) for values in groups.values()) for name, groups in found.items()
    }
    return TrainingStats(source.info, limits, pace_of(experiment), source.auxiliary)


def pace_of(experiment: Experiment) -> Pace | None:
    """From the training split; None without values of windows in time, or where labels do not say how they go on."""
    source, train = experiment.source, experiment.split["train"]
    if (
        source.classes
        or source.objects
        or source.labels is None
        or not isinstance(source, HDF5Windows)
        or source.window_s is None
    ):
        return None
    recording, time_s = source.positions[train].T
    label = experiment.labels[train].astype(np.float64)
    drift = drift_of(label, recording, time_s, source.window_s)
    return Pace(source.window_s, drift, float(label.min()), float(label.max())) if drift > 0 else None


def write(folder: Path, known: TrainingStats) -> None:
    """Into a run folder."""
    unfinished = folder / f".{FILE}.unfinished"
    unfinished.write_text(json.dumps(asdict(known), indent=1))
    unfinished.replace(folder / FILE)


def read(folder: Path) -> TrainingStats | None:
    """Of a run folder; None where a run was made before they were kept.

    Raises:
        UserError: a file that is not as it was written.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        stated = json.loads((folder / FILE).read_text())
        auxiliary = {name: _info(signal) for name, signal in stated.get("auxiliary", {}).items()}
        pace = None if stated.get("pace") is None else Pace(**stated["pace"])
        return TrainingStats(_info(stated["signal"]), stated["limits"], pace, auxiliary)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "not what a run wrote",
            location=str(folder / FILE),
            value=str(error),
            hint="Remove it; it is made again where the training data are at hand.",
        ) from error


def _info(stated: dict[str, Any]) -> SignalInfo:
    axes = tuple(Axis(**axis) for axis in stated["axes"])
    listed = {"axes": axes, "channels": tuple(stated["channels"]), "objects": tuple(stated.get("objects", ()))}
    return SignalInfo(**{**stated, **listed})
