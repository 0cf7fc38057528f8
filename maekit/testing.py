"""What the author of a plug-in runs: conformance checks, as plain assertions that say what is wrong."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.adapter import Adapter, Front
    from maekit.core.patchify import Patchifier
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


def check_adapter(adapter: Adapter, source: Source) -> None:
    """What the loader, the model and the report rely on, tried on the first samples of a source.

    Raises:
        AssertionError: with what differs.
    """
    check_patchifier(adapter.patchifier)
    samples = [source[i] for i in range(min(4, len(source)))]
    statistics = adapter.fit(samples)
    prepared = [adapter.prepare(sample) for sample in samples]
    shapes = {signal.shape for signal, _ in prepared}
    assert len(shapes) == 1, f"prepare gives different shapes: {shapes}"
    for sample, (signal, valid) in zip(samples, prepared, strict=True):
        again, _ = adapter.prepare(sample)
        assert np.array_equal(signal, again, equal_nan=True), "prepare is random; randomness belongs to augment"
        assert valid is None or valid.dtype == np.bool_, "valid is boolean"
        (one, first), (two, second) = (_varied(adapter, sample) for _ in range(2))
        assert first == second, "the label of a varied sample depends on something beside the generator"
        assert (first is None) == (sample.label is None), "a variation adds no label and takes none away"
        assert np.array_equal(one, two, equal_nan=True), "augmentation depends on something beside its generator"
        assert one.shape == signal.shape, f"augmentation changes the shape from {signal.shape} to {one.shape}"
        assert one.dtype == signal.dtype, f"augmentation changes the type from {signal.dtype} to {one.dtype}"
        quality = adapter.quality(sample)
        assert all(isinstance(value, float) for value in quality.values()), (
            f"quality gives other things than floats: {quality}"
        )
    batch = torch.from_numpy(np.stack([signal for signal, _ in prepared]))
    front = _check_fronts(adapter)
    front.set_statistics(statistics)
    x, measured = front(batch, None)
    expected = (len(samples), *adapter.patchifier.sample_shape)
    assert tuple(x.shape) == expected, f"front gives {tuple(x.shape)}, the patchifier takes {expected}"
    assert measured is None, "without `valid`, everything was measured"
    assert x.dtype == torch.float32, f"front gives {x.dtype}"
    assert torch.isfinite(x).all(), "front gives values that are not finite"
    _draw(adapter, front.to_units(x)[0].numpy())


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


def _varied(adapter: Adapter, sample: Sample) -> tuple[NDArray[Any], Any]:
    rng = np.random.default_rng(1)
    varied = adapter.augment_sample(sample, rng)
    return adapter.training_sample(varied, rng)[0], varied.label


def _draw(adapter: Adapter, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    adapter.draw(axes, x, title="a sample")
    assert axes.lines or axes.images or axes.collections or axes.patches, "draw draws nothing"
