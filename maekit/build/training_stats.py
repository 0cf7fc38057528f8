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
from maekit.build.experiment import task_class
from maekit.data.hdf5.digest import recording_digest
from maekit.data.hdf5.safety import open_hdf5
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.sample import Axis, SignalInfo
from maekit.errors import UnreadableError, UserError
from maekit.files import write_text
from maekit.tracking import LabelDynamics, drift_of

if TYPE_CHECKING:
    from pathlib import Path

    from maekit.build.experiment import Experiment

FILE = "training_stats.json"
WINDOWS_A_GROUP = 200
"""Training samples of one group that the limits of quality are learned from, evenly spread."""
QUANTILE = 0.05


@dataclass(frozen=True)
class TrainingStats:
    """The signal of a run, its limits of quality, and how fast its labels change.

    Attributes:
        signal: what all samples had in common.
        limits: by the names of `Baselines.quality`, the least that a sample needs for a prediction: what 95 % of the samples
            reach even in the poorest training group.
        label_dynamics: see there; None where labels are not continuous along recordings.
        auxiliary: what all samples of each auxiliary signal had in common, by name.
        recordings: the side of the split that each recording was on, by its digest.
    """

    signal: SignalInfo
    limits: Mapping[str, float] = field(default_factory=dict)
    label_dynamics: LabelDynamics | None = None
    auxiliary: Mapping[str, SignalInfo] = field(default_factory=dict)
    recordings: Mapping[str, str] = field(default_factory=dict)

    def shortcomings(self, quality: Mapping[str, float]) -> str:
        """The qualities in which a sample falls short of training, in words; empty where there are none."""
        return "; ".join(name for name, value in quality.items() if not value >= self.limits.get(name, -inf))


def measure(experiment: Experiment) -> TrainingStats:
    """From the training split of a run."""
    qualities: dict[str, dict[str, list[float]]] = {}
    source, train = experiment.source, experiment.split["train"]
    if type(experiment.adapter).quality is Adapter.quality:  # it judges nothing: nothing need be read
        dynamics, recordings = label_dynamics(experiment), recording_sides(experiment)
        return TrainingStats(source.info, {}, dynamics, source.auxiliary, recordings)
    for group in np.unique(source.groups[train]):
        indices = train[source.groups[train] == group]
        for i in indices[:: -(-len(indices) // WINDOWS_A_GROUP)]:
            try:
                quality = experiment.adapter.quality(source[int(i)])
            except UnreadableError:
                continue
            for name, value in quality.items():
                if not isnan(value):
                    qualities.setdefault(name, {}).setdefault(str(group), []).append(value)
    limits = {
        name: min(float(np.quantile(values, QUANTILE)) for values in groups.values())
        for name, groups in qualities.items()
    }
    return TrainingStats(source.info, limits, label_dynamics(experiment), source.auxiliary, recording_sides(experiment))


def recording_sides(experiment: Experiment) -> dict[str, str]:
    """The side of the split of each HDF5 recording, by its digest; `train` where windows of it are on several."""
    source, sides = experiment.source, {}
    if not isinstance(source, HDF5Windows):
        return {}
    for side in ("test", "validation", "train"):
        for number in np.unique(source.positions[experiment.split.get(side, [])][:, 0].astype(np.int64)):
            recording = source.recordings[int(number)]
            with open_hdf5(recording.file) as file:
                sides[recording_digest(file[recording.dataset])] = side
    return sides


def label_dynamics(experiment: Experiment) -> LabelDynamics | None:
    """From the training split; None where labels are not continuous, windows are not in time, or there are too few labels."""
    source, train = experiment.source, experiment.split["train"]
    kind = task_class(experiment.loaded).label_kind
    if kind is None or not kind.is_continuous or not isinstance(source, HDF5Windows) or source.window_s is None:
        return None
    recording, time_s = source.positions[train].T
    label = experiment.labels[train].astype(np.float64)
    drift = drift_of(label, recording, time_s, source.window_s)
    return LabelDynamics(source.window_s, drift, float(label.min()), float(label.max())) if drift > 0 else None


def write(folder: Path, stats: TrainingStats) -> None:
    """Into a run folder."""
    write_text(folder / FILE, json.dumps(asdict(stats), indent=1))


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
        dynamics = None if stated["label_dynamics"] is None else LabelDynamics(**stated["label_dynamics"])
        recordings = dict(stated.get("recordings", {}))
        return TrainingStats(_info(stated["signal"]), stated["limits"], dynamics, auxiliary, recordings)
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
