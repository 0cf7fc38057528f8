"""What the author of a plug-in runs: conformance checks, as plain assertions that say what is wrong."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from maekit.adapter import Augmentations
from maekit.data.loading import prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maekit.adapter import Adapter, Augmentation, Front
    from maekit.core.patchify import Patchifier
    from maekit.data.loading import Prepared
    from maekit.data.sample import Sample, Source


def check_patchifier(patchifier: Patchifier) -> None:
    """Shapes agree with what is declared, and `unpatchify` is the exact inverse of `patchify`.

    Raises:
        AssertionError: with what differs.
    """
    x = torch.randn(2, *patchifier.sample_shape)
    patches = patchifier.patchify(x)
    expected = (2, prod(patchifier.grid_size), patchifier.patch_dim)
    assert tuple(patches.shape) == expected, f"patchify gives {tuple(patches.shape)}, declared is {expected}"
    assert torch.equal(patchifier.unpatchify(patches), x), "unpatchify does not give back what patchify was given"
    assert len(patchifier.axes) == len(patchifier.grid_size), "one name for each axis of the grid"
    assert patches.numel() == x.numel(), "every number of a sample belongs to exactly one patch"


def check_adapter(adapter: Adapter, source: Source, augmentations: Sequence[Augmentation] = ()) -> None:
    """Check what the loader, the model and the report rely on, with the first samples of a source.

    Args:
        adapter: built for `source.info`.
        source: with at least one sample.
        augmentations: built for the adapter; see `check_augmentation`.

    Raises:
        AssertionError: with what differs.
    """
    check_patchifier(adapter.patchifier)
    samples = [source[i] for i in range(min(4, len(source)))]
    statistics = adapter.fit(samples)
    signals = []
    for sample in samples:
        signal, valid = adapter.prepare(sample)
        again, _ = adapter.prepare(sample)
        assert np.array_equal(signal, again, equal_nan=True), "prepare is random; randomness belongs to augmentations"
        assert valid is None or valid.dtype == np.bool_, "valid is boolean"
        assert valid is None or valid.shape == signal.shape[1:], f"valid is {valid.shape}, the signal {signal.shape}"
        signals.append(signal)
        _check_baselines(adapter, sample)
        for augmentation in augmentations:
            check_augmentation(augmentation, adapter, sample)
    _check_geometry(adapter)
    shapes = {signal.shape for signal in signals}
    assert len(shapes) == 1, f"prepare gives different shapes: {shapes}"
    front = _check_fronts(adapter)
    front.set_statistics(statistics)
    x, measured = front(torch.from_numpy(np.stack(signals)), None)
    expected = (len(samples), *adapter.patchifier.sample_shape)
    assert tuple(x.shape) == expected, f"front gives {tuple(x.shape)}, the patchifier takes {expected}"
    assert measured is None, "without `valid`, everything was measured"
    assert x.dtype == torch.float32, f"front gives {x.dtype}"
    assert torch.isfinite(x).all(), "front gives values that are not finite"
    _draw(adapter, front.to_units(x)[0].numpy())


def check_augmentation(augmentation: Augmentation, adapter: Adapter, sample: Sample) -> None:
    """Check that an augmentation repeats by its generator alone, keeps shapes, types and finite values, and labels unless it says so.

    Args:
        augmentation: built for the adapter.
        adapter: of the sample.
        sample: as it is read.

    Raises:
        AssertionError: with what differs.
    """
    name, front = type(augmentation).__name__, adapter.make_front().train()
    stages = Augmentations.by_stage([augmentation])
    assert stages != Augmentations(), (
        f"{name} is of no stage: derive it from one of the three classes of maekit.adapter"
    )
    front.set_augmentations(stages.of_batch)
    plain, _ = adapter.prepare(sample)
    read = sample.signal.copy()
    for seed in range(8):
        draws = []
        for _ in range(2):
            torch.manual_seed(seed)
            rng = np.random.default_rng(seed)
            varied = stages.vary_sample(sample, rng)
            signal, valid = stages.vary_signal(*_copied(prepared(adapter, varied)), rng)
            batched = None if valid is None else torch.from_numpy(valid)[None]
            draws.append((signal, front(torch.from_numpy(signal)[None], batched)[0], varied.label))
        (signal, x, label), (again, x_again, label_again) = draws
        assert np.array_equal(signal, again, equal_nan=True), f"{name} depends on something beside its generator"
        assert torch.equal(x, x_again), f"{name} depends on something beside its generator"
        assert np.array_equal(sample.signal, read, equal_nan=True), f"{name} alters the sample that it is given"
        assert signal.shape == plain.shape, f"{name} changes the shape from {plain.shape} to {signal.shape}"
        assert signal.dtype == plain.dtype, f"{name} changes the type from {plain.dtype} to {signal.dtype}"
        assert torch.isfinite(x).all(), f"{name} gives values that are not finite"
        assert (label is None) == (sample.label is None), f"{name} adds a label or takes it away"
        _check_label(augmentation, sample.label, label, label_again)


def _check_label(augmentation: Augmentation, read: Any, label: Any, again: Any) -> None:
    name = type(augmentation).__name__
    if read is None:
        return
    assert np.array_equal(label, again, equal_nan=True), (
        f"the label from {name} depends on something beside its generator"
    )
    if not augmentation.changes_label:
        assert np.array_equal(label, read, equal_nan=True), (
            f"{name} changes the label without declaring `changes_label`"
        )


def _copied(pair: Prepared) -> Prepared:
    signal, valid = pair
    return signal.copy(), None if valid is None else valid.copy()


def _check_baselines(adapter: Adapter, sample: Sample) -> None:
    quality = adapter.quality(sample)
    assert all(isinstance(value, float) for value in quality.values()), f"quality gives more than floats: {quality}"
    for name, estimate in adapter.estimators().items():
        assert np.ndim(estimate(sample)) == 0, f"the estimator {name!r} gives more than a number"
    for name, candidates in adapter.candidates().items():
        assert np.ndim(candidates(sample)) == 1, f"the candidates {name!r} are not (value,)"
    for name, detector in adapter.detectors().items():
        detections = detector.find(sample)
        columns = 3 + len(detector.features)
        assert detections.ndim == 2, f"the detector {name!r} gives {detections.shape}, not (detection, column)"
        assert detections.shape[1] == columns, (
            f"the detector {name!r} gives {detections.shape[1]} columns, not {columns}"
        )


def _check_geometry(adapter: Adapter) -> None:
    values, plane = adapter.patch_values(), adapter.plane()
    if values is not None:
        assert len(values) == prod(adapter.patchifier.grid_size), "patch_values are as many as patches"
        assert (np.diff(values) > 0).all(), "patch_values rise"
    if plane is not None:
        shape = tuple(adapter.patchifier.sample_shape[-2:])
        assert plane.shape == shape, f"the plane has {plane.shape} cells, a sample {shape}"
        corner = np.array([float(axis[0]) for axis in plane.coordinates])
        assert adapter.drawn_at(corner).shape == (2,), "drawn_at keeps the last axis"


def _check_fronts(adapter: Adapter) -> Front:
    """A front of the adapter, once it is sure that a second one and the adapter share nothing with it."""
    front, second = adapter.make_front(), adapter.make_front()
    assert front is not second, "make_front gives the same module twice"
    tensors = [
        {tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers()) if tensor.numel()}
        for module in (front, second)
    ]
    assert not tensors[0] & tensors[1], "two fronts share memory: moving or training one would alter the other"
    for name, value in vars(adapter).items():
        assert not isinstance(value, nn.Module | torch.Tensor), f"the adapter holds {name}, which belongs in its front"
    return front


def _draw(adapter: Adapter, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    adapter.draw(axes, x, title="a sample")
    assert axes.lines or axes.images or axes.collections or axes.patches, "draw draws nothing"
