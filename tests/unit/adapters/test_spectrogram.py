"""Spectrograms: levels, axes, what was measured, and what augmentation may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.spectrogram.spectrogram import SpectrogramAdapter
from maekit.data.sample import Axis, Sample, SignalInfo

RATE_HZ, LENGTH = 8000.0, 2048


def adapter(*, complex_: bool = False, channels: int = 1, length: int = LENGTH, **options: Any) -> SpectrogramAdapter:
    names = tuple(f"c{i}" for i in range(channels))
    return SpectrogramAdapter(SignalInfo(names, (Axis("time", length),), "V", complex_, RATE_HZ), **options)


def decibels(made: SpectrogramAdapter, x: np.ndarray, valid: np.ndarray | None = None) -> tuple[Any, Any]:
    signal, valid = made.prepare(Sample(x, valid, None, "g", "file:/record@0", RATE_HZ))
    batched = None if valid is None else torch.from_numpy(valid)[None]
    values, measured = made.make_front().transform(torch.from_numpy(signal)[None], batched)
    assert tuple(values.shape[1:]) == made.patchifier.sample_shape
    return values[0], None if measured is None else measured[0]


def tone(frequency_hz: float, *, complex_: bool, amplitude: float = 1.0) -> np.ndarray:
    phase = 2 * np.pi * frequency_hz * np.arange(LENGTH) / RATE_HZ
    return (amplitude * (np.exp(1j * phase) if complex_ else np.cos(phase)))[None]


@settings(max_examples=25, deadline=None)
@given(complex_=st.booleans(), bin_=st.integers(-60, 60), level=st.floats(1e-6, 1e6))
def test_a_tone_has_its_level_in_its_bin(complex_: bool, bin_: int, level: float) -> None:
    bin_ = bin_ if complex_ else abs(bin_) + 2
    made = adapter(complex_=complex_, n_fft=128, hop=64, reference=2.0, floor_db=-200.0)
    values, _ = decibels(made, tone(bin_ * RATE_HZ / 128, complex_=complex_, amplitude=level))
    row = bin_ + 64 if complex_ else bin_
    assert (values[0].argmax(dim=0) == row).all()
    assert values[0, row].numpy() == pytest.approx(20 * np.log10(level / 2.0), abs=0.01)


@pytest.mark.parametrize("level", [1e-25, 1e-9, 1.0, 3e4])
@pytest.mark.parametrize("complex_", [False, True])
def test_relative_levels_do_not_depend_on_the_unit(level: float, complex_: bool) -> None:
    x = tone(1000.0, complex_=complex_) + 1e-3 * tone(2500.0, complex_=complex_)
    made = adapter(complex_=complex_, n_fft=128, hop=64)
    values, _ = decibels(made, level * x)
    row = 40 + 64 * complex_
    assert values.max() == 0
    assert values[0, row].numpy() == pytest.approx(-60.0, abs=0.2)


def test_silence_lies_at_the_floor() -> None:
    values, _ = decibels(adapter(floor_db=-70.0), np.zeros((1, LENGTH)))
    assert (values == -70.0).all()


def test_negative_doppler_is_kept_apart() -> None:
    values, _ = decibels(adapter(complex_=True, n_fft=128, hop=64), tone(-1000.0, complex_=True))
    assert (values[0].argmax(dim=0) == 64 - 16).all()
    assert values[0, 64 + 16].max() < -60


def test_frames_with_missing_samples_are_missing() -> None:
    made = adapter(n_fft=128, hop=64, patch=(16, 1))
    valid = np.ones(LENGTH, dtype=bool)
    valid[1000] = False
    x = tone(1000.0, complex_=False)
    x[0, 1000] = np.nan
    values, measured = decibels(made, x, valid)
    frames = np.arange(values.shape[2])
    touched = (frames * 64 <= 1000) & (frames * 64 + 128 > 1000)
    assert touched.sum() == 2
    assert np.array_equal(measured[0].numpy(), ~touched)
    assert torch.isfinite(values).all()
    whole, _ = decibels(made, tone(1000.0, complex_=False))
    torch.testing.assert_close(values[:, :, ~touched], whole[:, :, ~touched])


def test_the_reference_is_something_measured() -> None:
    """A burst in the one frame that is not wholly measured does not set the level of the others."""
    x, valid = tone(1000.0, complex_=False, amplitude=0.01), np.ones(LENGTH, dtype=bool)
    x[0, 1980:1990] = 100.0
    valid[1990:] = False
    made = adapter(n_fft=128, hop=128, patch=(16, 1))
    values, measured = decibels(made, x, valid)
    assert not measured[0, -1]
    assert measured[0, :-1].all()
    assert values[:, measured].max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 127}, "must be even"),
        ({"hop": 0}, "hop"),
        ({"n_fft": 4096}, "has no"),
        ({"patch": (24, 4)}, "frequency"),
        ({"reference": -1.0}, "positive amplitude"),
        ({"floor_db": 10.0}, "negative"),
    ],
)
def test_sizes_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapter(**options)


@pytest.mark.parametrize("complex_", [False, True])
def test_drawn_axes_put_a_bin_at_its_frequency(complex_: bool) -> None:
    from matplotlib.figure import Figure

    made = adapter(complex_=complex_, n_fft=128, hop=64, carrier_hz=10e9 if complex_ else None)
    axes = Figure().subplots()
    values, _ = decibels(made, tone(1000.0, complex_=complex_))
    made.draw(axes, values.numpy(), title="a tone")
    left, right, bottom, top = axes.images[0].get_extent()
    scale = 299_792_458.0 / 10e9 / 2 if complex_ else 1.0
    row = int(values[0, :, 0].argmax())
    assert bottom + (row + 0.5) * (top - bottom) / values.shape[1] == pytest.approx(1000.0 * scale)
    assert left + 0.5 * (right - left) / values.shape[2] == pytest.approx(64 / RATE_HZ)  # the middle of frame 0
    assert axes.get_ylabel() == ("velocity [m/s]" if complex_ else "frequency [Hz]")


def test_blade_flashes_reach_the_speed_of_the_tip(tmp_path: Path) -> None:
    SpectrogramAdapter.simulate(tmp_path, drones=1, seconds=0.5)
    with h5py.File(tmp_path / "micro_doppler.h5") as file:
        assert len(file) == 3
        record = file["drone_00_1"]
        iq, rate_hz = record["iq"][:4000], float(record["iq"].attrs["rate_hz"])
        tip_mps = 2 * np.pi * record.attrs["turns_hz"] * record.attrs["blade_m"]
    info = SignalInfo(("iq",), (Axis("time", 4000),), "V", True, rate_hz)
    made = SpectrogramAdapter(info, n_fft=128, hop=16, patch=(16, 4), floor_db=-60.0)
    values, _ = decibels(made, iq[None])
    velocity = (np.arange(128) - 64) * rate_hz / 128 * 299_792_458.0 / 10e9 / 2
    loudest = values[0].amax(dim=1).numpy()
    beyond = loudest[np.abs(velocity) > 1.3 * tip_mps].max()
    assert loudest[np.abs(np.abs(velocity) - 0.9 * tip_mps) < 2].min() > beyond + 3
