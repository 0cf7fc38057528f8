"""What every prediction along a recording begins with: which recording, whether it fits the run, which windows have been measured."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from maekit.data.hdf5.safety import find_records
from maekit.data.sample import Sample
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import h5py

    from maekit.adapter import Adapter
    from maekit.build.experiment import Experiment
    from maekit.build.training_stats import TrainingStats
    from maekit.config.data_spec import DataSpec, Window
    from maekit.data.sample import SignalInfo
    from maekit.tasks.task import Task

T = TypeVar("T")
MOST_NAMED = 8


def record_of(file: h5py.File, spec: DataSpec, wanted: str | None) -> str:
    """The path of the recording in a file, where one is `wanted` by its name, and else the only one.

    Raises:
        UserError: no such recording, or several.
    """
    known = {path.strip("/"): path for path in find_records(file, spec.records)}
    if wanted is None and len(known) > 1:
        raise UserError(
            "several recordings in one file",
            location=str(file.filename),
            value=_some(known),
            expected="one",
            hint="Give one with --record.",
        )
    if wanted is None:
        return next(iter(known.values()))
    if wanted.strip("/") not in known:
        raise UserError(
            "no such recording",
            location="--record",
            value=wanted,
            expected="one of " + _some(known),
            hint=nearest(wanted, known),
        )
    return known[wanted.strip("/")]


def _some(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:MOST_NAMED]) + (f" ... ({len(known)} in all)" if len(known) > MOST_NAMED else "")


def check_fits(experiment: Experiment, info: SignalInfo, window: Window | None, location: str) -> None:
    """Refuse a recording whose windows are not what the model was trained on.

    Raises:
        UserError: other channels, another unit, other lengths, or a rate that the adapter does not turn into its own.
    """
    check_alike(experiment.adapter, experiment.source.info, info, window, location)


def check_alike(adapter: Adapter, own: SignalInfo, info: SignalInfo, window: Window | None, location: str) -> None:
    """Like `check_fits`, of any signal: `own` is what the adapter was made for."""
    hint = "Give the layout of the recording with --spec, or convert it to what the run was trained on."
    if (len(info.channels), info.unit) != (len(own.channels), own.unit):
        raise UserError(
            "another signal than the run was trained on",
            location=location,
            value=_told(info),
            expected=_told(own),
            hint=hint,
        )
    if info.rate_hz == own.rate_hz and info.shape == own.shape:
        return
    shapes = [_prepared_shape(adapter, info, location), _prepared_shape(adapter, own, "")]
    if shapes[0] != shapes[1] or (window is not None and window.length is not None and own.rate_hz is not None):
        raise UserError(
            "windows of another length or rate than the run was trained on",
            location=location,
            value=_told(info),
            expected=_told(own),
            hint=hint,
        )


def _prepared_shape(adapter: Adapter, info: SignalInfo, location: str) -> tuple[int, ...]:
    """Of what the adapter makes of a sample; where it cannot, the sample's own."""
    blank = np.zeros(info.shape, dtype=np.complex64 if info.complex else np.float32)
    return adapter.prepare(Sample(blank, None, None, "", location, info.rate_hz))[0].shape


def _told(info: SignalInfo) -> str:
    lengths = ", ".join(f"{axis.length} along {axis.name}" for axis in info.axes)
    rate = f", {info.rate_hz:g} Hz" if info.rate_hz else ""
    return f"{len(info.channels)} channel(s) in {info.unit or 'no unit'}, {lengths}{rate}"


def reason_against(experiment: Experiment, sample: Sample, known: TrainingStats | None) -> str:
    """Why there is no estimate from a window; empty where there is one."""
    missing = 0.0 if sample.valid is None else float(1 - sample.valid.mean())
    if missing > experiment.spec.missing_budget or missing >= 1:
        return f"{missing:.0%} of the window are missing"
    return known.shortcomings(experiment.adapter.quality(sample)) if known is not None else ""


def digest(task: Task) -> str:
    """SHA-256 of all weights, by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(task.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def batched(one_by_one: Iterator[T], at_once: int) -> Iterator[list[T]]:
    """Lists of so many."""
    while some := list(islice(one_by_one, at_once)):
        yield some
