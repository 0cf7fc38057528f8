"""Physics, units and conformance of the four adapters and their simulators."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from maekit.adapters.heart import beats
from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.adapters.image.image import ImageAdapter
from maekit.adapters.radar.fmcw import FMCW, SPEED_OF_LIGHT
from maekit.adapters.radar.range_doppler import RangeDopplerAdapter
from maekit.adapters.radar.range_doppler_map import range_doppler_map
from maekit.adapters.simulate.vital_signs import chest, displacement_mm, slow_time
from maekit.adapters.spectrogram.spectrogram import SpectrogramAdapter
from maekit.config.data_spec import load_spec
from maekit.config.options import call_with_settings
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UserError
from maekit.testing import check_adapter

LINE = SignalInfo(("displacement",), (Axis("time", 500, "s", 0.02),), "mm", False, 50.0)

SIMULATED: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "heart_rate": (HeartRateAdapter, {"people": 3, "seconds": 30}, {"patch_s": 0.4, "difference": True}),
    "spectrogram": (SpectrogramAdapter, {"drones": 1, "seconds": 0.5}, {"n_fft": 128, "hop": 32, "patch": (16, 8)}),
    "range_doppler": (RangeDopplerAdapter, {"drives": 3, "frames": 3}, {"patch": (8, 8)}),
    "image": (ImageAdapter, {"pictures": 12}, {"size": 32, "patch": 4, "crop_ratio": 1.0}),
}


@pytest.mark.parametrize("name", SIMULATED)
def test_adapters_conform_on_their_simulator(name: str, tmp_path: Path) -> None:
    kind, size, options = SIMULATED[name]
    spec = kind.simulate(tmp_path / "a", seed=3, **size)
    source = HDF5Windows(load_spec(spec), tmp_path / "a", reducers=kind.reducers)
    check_adapter(kind(source.info, **options), source)
    kind.simulate(tmp_path / "b", seed=3, **size)
    again = HDF5Windows(load_spec(spec), tmp_path / "b", reducers=kind.reducers)
    assert all(np.array_equal(source[i].signal, again[i].signal) for i in range(len(source)))
    assert len(set(source.groups.tolist())) > 1 or name == "spectrogram"


def test_simulations_take_settings_from_a_command_line(tmp_path: Path) -> None:
    settings = ["people=2", "seconds=20", "snr_db=[7, 7]", "radar={noise_figure_db: 9}"]
    call_with_settings(HeartRateAdapter.simulate, "heart_rate", settings, tmp_path, seed=1)
    with h5py.File(tmp_path / "vital_signs.h5") as file:
        assert [record.attrs["snr_db"] for record in file.values()] == [7, 7]
    for wrong, said in {
        "peple=2": "'people'",
        "people=two": "integer",
        "seconds=1": "at least",
        "seed=3": "no option",
        "people": "key=value",
        "radar.nose=3": "nose",
        "snr_db=[20, 5]": "lower first",
    }.items():
        with pytest.raises(UserError, match=said):
            call_with_settings(HeartRateAdapter.simulate, "heart_rate", [wrong], tmp_path / "not", seed=1)
    assert not (tmp_path / "not").exists()


def test_fmcw_formulas() -> None:
    radar = FMCW()
    assert radar.range_resolution_m == pytest.approx(SPEED_OF_LIGHT / 2 / 3.6e9)
    one, two = (float(radar.received_w(np.array(r), 1.0)) for r in (5.0, 10.0))
    assert 10 * np.log10(one / two) == pytest.approx(12.04, abs=0.01)
    still = np.full((1, radar.chirps), 20 * radar.range_resolution_m)
    assert np.abs(np.fft.fft(radar.beat_signal(still, 1.0)[0])).argmax() == 20
    moved = radar.beat_signal(still[:, :1] + radar.wavelength_m / 8, 1.0) / radar.beat_signal(still[:, :1], 1.0)
    assert np.angle(moved[0, 0]) == pytest.approx(4 * np.pi / 8, abs=0.05)  # phase is 4 pi d / wavelength
    noise = radar.noise(np.random.default_rng(0), (400, 500))
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(radar.noise_w, rel=0.02)


@pytest.mark.parametrize(("range_m", "velocity"), [(12.0, 5.0), (20.0, -7.5)])
def test_a_target_lies_where_it_is(range_m: float, velocity: float) -> None:
    radar = FMCW(bandwidth_hz=300e6, samples=128, sample_rate_hz=4e6, chirps=64, chirp_interval_s=60e-6)
    time = (np.arange(radar.chirps) - radar.chirps / 2) * radar.chirp_interval_s
    found = range_doppler_map(torch.from_numpy(radar.beat_signal((range_m + velocity * time)[None], 1.0)))
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    assert abs(row * radar.range_resolution_m - range_m) <= radar.range_resolution_m
    assert abs((column - radar.chirps // 2) * radar.velocity_resolution_mps - velocity) <= radar.velocity_resolution_mps


def test_displacement_comes_back() -> None:
    """Under 5 % error at 20 dB, from the chest through echo, circle fit, arctangent and unwrapping."""
    radar, rng = FMCW(), np.random.default_rng(5)
    truth, _, _ = chest(rng, 60, 50.0, motion=False)
    found = displacement_mm(slow_time(radar, rng, 1.0, truth, 20.0), radar)
    error = found - (truth - truth.mean())
    assert np.sqrt((error**2).mean()) / truth.std() < 0.05


def test_beats_of_a_clean_simulation() -> None:
    rng = np.random.default_rng(2)
    _, times, _ = chest(rng, 60, 50.0, motion=False)
    assert 50 < beats.beat_rate_bpm(times[times < 10], 10.0) < 110
    assert np.isnan(beats.beat_rate_bpm(times[:2], 10.0))
    assert np.isnan(beats.beat_rate_bpm(times[times < 4], 10.0))
    t = np.arange(0, 10, 0.02)
    slow_and_beat = 5 * np.sin(2 * np.pi * 0.25 * t) + 0.2 * np.sin(2 * np.pi * 1.2 * t)
    assert beats.spectral_peak_bpm(slow_and_beat, 50) == pytest.approx(72, abs=1)


def test_r_peaks_on_annotated_ecg(real_data: Path) -> None:
    """MIT-BIH record 100: sensitivity and precision within 75 ms (ANSI/AAMI EC57 takes 150 ms)."""
    wfdb = pytest.importorskip("wfdb")
    record = str(real_data / "ecg_wfdb" / "100")
    ecg, annotation = wfdb.rdrecord(record), wfdb.rdann(record, "atr")
    truth = annotation.sample[np.isin(annotation.symbol, list("NAV"))] / ecg.fs
    found = beats.r_peaks(ecg.p_signal[:, 0], ecg.fs)
    near = np.abs(found[:, None] - truth[None]).min(axis=0) < 0.075
    precise = np.abs(found[:, None] - truth[None]).min(axis=1) < 0.075
    assert near.mean() > 0.99
    assert precise.mean() > 0.99


def test_spectral_peak_on_real_radar(real_data: Path) -> None:
    """One person of radar_phase_ecg: the no-learning estimator is near the ECG's rate, as the data's README says."""
    folder = real_data / "radar_phase_ecg" / "subject02"
    with gzip.open(folder / "radar.csv.gz", "rt") as file:
        rows = np.genfromtxt(file, delimiter=",", skip_header=1, usecols=(0, 10))
    with gzip.open(folder / "attys.csv.gz", "rt") as file:
        ecg = np.genfromtxt(file, delimiter=",", skip_header=1)
    start = np.median(rows[:, 0] - np.arange(len(rows)) / 50)
    times = beats.r_peaks(ecg[:, 1], 125.0) + ecg[0, 0] - start
    errors = []
    for begin in range(0, int(len(rows) / 50) - 30, 10):
        inside = times[(times >= begin) & (times < begin + 30)] - begin
        truth = beats.beat_rate_bpm(inside, 30)
        found = beats.spectral_peak_bpm(rows[begin * 50 : (begin + 30) * 50, 1], 50)
        errors.append(abs(found - truth))
    assert 40 < 60 / np.median(np.diff(times)) < 110
    assert np.nanmedian(errors) < 20


def test_missing_samples_stay_missing() -> None:
    adapter = HeartRateAdapter(LINE, patch_s=0.4, difference=True, band_hz=(0.7, 4.0))
    signal = np.cumsum(np.random.default_rng(0).standard_normal((1, 500)), axis=1).astype(np.float32)
    valid = np.ones(500, dtype=bool)
    valid[100:150] = False
    signal[:, ~valid] = np.nan
    x, measured = adapter.prepare(Sample(signal, valid, None, "a", "here", 50.0))
    assert np.isfinite(x).all()
    assert measured is not None
    assert not measured[100:151].any()
    front, patches = adapter.make_front()(torch.from_numpy(x)[None], torch.from_numpy(measured)[None])
    assert torch.isfinite(front).all()
    assert patches is not None
    assert torch.where(~patches[0])[0].tolist() == [5, 6, 7]


def test_resampling_keeps_the_signal() -> None:
    adapter = HeartRateAdapter(LINE, patch_s=0.4, rate_hz=20)
    t = np.arange(1000) / 100
    sample = Sample(np.sin(2 * np.pi * 1.3 * t)[None], None, None, "a", "here", 100.0)
    x, _ = adapter.prepare(sample)
    assert x.shape == (1, 200)
    assert np.allclose(x[0, 10:-10], np.sin(2 * np.pi * 1.3 * np.arange(200) / 20)[10:-10], atol=0.02)


def test_heart_rate_refuses() -> None:
    with pytest.raises(ValueError, match="no whole number of samples at 50 Hz"):
        HeartRateAdapter(LINE, patch_s=0.333)
    with pytest.raises(ValueError, match="does not divide the time axis"):
        HeartRateAdapter(LINE, patch_s=0.6)
    flat = HeartRateAdapter(LINE)
    with pytest.raises(UserError, match=r"a channel that never changes.*displacement"):
        flat.fit([Sample(np.ones((1, 500)), None, None, "a", "here", 50.0)])


def test_spectrogram_of_a_tone() -> None:
    info = SignalInfo(("sound",), (Axis("time", 8000, "s", 1 / 8000),), "", False, 8000.0)
    adapter = SpectrogramAdapter(info, n_fft=256, hop=80, patch=(16, 8), reference=1.0)
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)[None].astype(np.float32)
    decibel, _ = adapter.make_front().transform(torch.from_numpy(tone)[None], None)
    assert decibel.shape == (1, 1, 128, 96)
    assert (decibel[0, 0].argmax(0) == 32).all()
    assert decibel.max().item() == pytest.approx(0, abs=0.1)  # 0 dB is a tone of that amplitude
    short = torch.ones(1, 8000, dtype=torch.bool)
    short[:, 4000:] = False
    _, patches = adapter.make_front()(torch.from_numpy(tone)[None], short)
    assert patches is not None
    assert patches.view(8, 12)[:, :5].all()
    assert not patches.view(8, 12)[:, 6:].any()
    complex_info = SignalInfo(("iq",), (Axis("time", 1024, "s", 1 / 1000),), "", True, 1000.0)
    two_sided = SpectrogramAdapter(complex_info, n_fft=64, hop=32, patch=(8, 1))
    approaching = np.exp(-2j * np.pi * 250 * np.arange(1024) / 1000)[None].astype(np.complex64)
    spectrum, _ = two_sided.make_front().transform(torch.from_numpy(approaching)[None], None)
    assert (spectrum[0, 0].argmax(0) == 16).all()  # a quarter below the middle: the sign is kept


def test_normalisation_is_that_of_the_training_samples() -> None:
    adapter = HeartRateAdapter(LINE)
    rng = np.random.default_rng(1)
    samples = [Sample(3 + 2 * rng.standard_normal((1, 500)), None, None, "a", "", 50.0) for _ in range(20)]
    front = adapter.make_front()
    front.set_statistics(adapter.fit(samples))
    everything = np.concatenate([s.signal for s in samples])
    assert front.mean.item() == pytest.approx(everything.mean(), rel=1e-4)
    assert front.std.item() == pytest.approx(everything.std(), rel=1e-4)
    x = torch.randn(2, 1, 500)
    assert torch.allclose(front(front.to_units(x))[0], x, atol=1e-5)


def test_real_range_doppler_maps(real_data: Path) -> None:
    maps = np.load(real_data / "radar_range_doppler_maps" / "rd_maps.npz", allow_pickle=False)["rd"][:8]
    info = SignalInfo(("power",), (Axis("range", 128, "m", 0.33, -9.0), Axis("doppler", 64)), "")
    adapter = RangeDopplerAdapter(info, patch=(16, 8), scale="log10")
    samples = [Sample(m[None], None, None, "a", "", None) for m in maps]
    front = adapter.make_front()
    front.set_statistics(adapter.fit(samples))
    x, _ = front(torch.from_numpy(np.stack([adapter.prepare(s)[0] for s in samples])))
    assert abs(x.mean().item()) < 1e-3
    assert x.std().item() == pytest.approx(1, abs=1e-2)
    assert front.to_units(x).max().item() == pytest.approx(20 * maps.max(), rel=1e-4)


def test_real_iq_pairs(real_data: Path, tmp_path: Path) -> None:
    """A vendor's HDF5 with I and Q as fields of a compound type, through a data spec of a few lines."""
    text = """
name: breathing
files: "breathing-sitting.h5"
signal: {path: sessions/session_0/group_0/entry_0/result/frame, axes: [frame, sweep, range], complex: pairs}
window: {axis: frame, length: 20}
"""
    (tmp_path / "spec.yaml").write_text(text)
    source = HDF5Windows(load_spec(tmp_path / "spec.yaml"), real_data / "radar_iq_hdf5" / "a121")
    assert source[3].signal.shape == (1, 20, 16, 21)
    assert source[3].signal.dtype == np.complex64
    with h5py.File(real_data / "radar_iq_hdf5/a121/breathing-sitting.h5") as file:
        raw = file["sessions/session_0/group_0/entry_0/result/frame"][60:80]
    assert np.array_equal(source[3].signal[0], raw["real"] + 1j * raw["imag"])
