"""ADC cubes through their adapter: simulated (no recording of whole cubes is at hand), drawn, augmented, pretrained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from maekit.adapters.radar.adc_cube import AdcCubeAdapter
from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.simulate.cube_scene import CUBE_RADAR, simulate_cubes
from maekit.config.data_spec import load_spec
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.inference.predict import predict
from maekit.runs.evaluate import predictions
from maekit.runs.train import finetune, pretrain
from maekit.testing import check_adapter

RADAR = CUBE_RADAR
KNOWN = {"carrier_hz": RADAR.carrier_hz, "bandwidth_hz": RADAR.bandwidth_hz, "chirp_interval_s": RADAR.chirp_interval_s}
RECEIVERS = 8


def cube_info(*, receivers: int | None = RECEIVERS, frames: int | None = None, **changes: Any) -> SignalInfo:
    axes = [Axis("chirp", RADAR.chirps), Axis("sample", RADAR.samples)]
    axes = axes if receivers is None else [Axis("receiver", receivers), *axes]
    axes = axes if frames is None else [Axis("frame", frames), *axes]
    return SignalInfo(("echo",), tuple(axes), "V", **{"complex": True, **changes})


def echo(range_m: float, velocity: float, azimuth_deg: float) -> np.ndarray:
    time = (np.arange(RADAR.chirps) - (RADAR.chirps - 1) / 2) * RADAR.chirp_interval_s
    sine = np.sin(np.radians([azimuth_deg]))
    return RADAR.array_signal((range_m + velocity * time)[None], sine, 1.0, receivers=RECEIVERS)


def sample_of(signal: np.ndarray, valid: np.ndarray | None = None) -> Sample:
    return Sample(signal[None], valid, None, "g", "file:/record@0")


def maps_of(adapter: AdcCubeAdapter, signal: np.ndarray, valid: np.ndarray | None = None) -> tuple[torch.Tensor, Any]:
    x, measured = adapter.prepare(sample_of(signal, valid))
    batched = None if measured is None else torch.from_numpy(measured)[None]
    found, whole = adapter.make_front().transform(torch.from_numpy(x)[None], batched)
    assert tuple(found.shape[1:]) == adapter.patchifier.sample_shape
    return found[0], None if whole is None else whole[0]


def location(adapter: AdcCubeAdapter, found: torch.Tensor) -> list[float]:
    """Where the strongest bin is, in the units of the axes."""
    bins = np.unravel_index(int(found[0].argmax()), found[0].shape)
    return [axis.start + (axis.step or 0) * i for axis, i in zip(adapter.map_axes, bins, strict=True)]


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cubes")
    simulate_cubes(folder, drives=4, frames=4, seed=3)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        KNOWN,
        {"view": "range_azimuth", "azimuth_bins": 48, "patch": (8, 6), **KNOWN},
        {"view": "range_azimuth", "method": "capon", "clutter": "mean", "loading": 0.1},
        {"clutter": "two_pulse", "window": "hamming"},
    ],
)
def test_it_conforms_on_its_simulator(cubes: Path, options: dict[str, Any]) -> None:
    source = HDF5Windows(load_spec(cubes / "simulated_cubes.yaml"), cubes)
    assert source.info.complex
    assert [axis.name for axis in source.info.axes] == ["receiver", "chirp", "sample"]
    adapter = AdcCubeAdapter(source.info, **options)
    check_adapter(adapter, source)
    assert adapter.unit == "dB re 1 V"


def test_simulations_are_a_function_of_the_seed_and_the_drive(tmp_path: Path) -> None:
    def read(name: str, **size: int) -> dict[str, np.ndarray]:
        simulate_cubes(tmp_path / name, frames=2, **size)
        with h5py.File(tmp_path / name / "cubes.h5") as file:
            return {record: group["adc"][()] for record, group in file.items()}

    first, more, other = read("a", drives=2), read("b", drives=3), read("c", drives=2, seed=1)
    assert all(np.array_equal(first[name], more[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_simulated_objects_are_where_the_file_says(tmp_path: Path) -> None:
    """A car alone on the road, after clutter is taken out: the strongest bin lies on it, for it is metres long."""
    simulate_cubes(tmp_path, drives=3, frames=4, users=1, seed=5)
    with h5py.File(tmp_path / "cubes.h5") as file:
        record = file["drive_002"]
        signals, objects = record["adc"][()], record["objects"][()]
        assert list(record["objects"].attrs["columns"]) == ["range", "azimuth", "doppler", "class"]
    doppler = AdcCubeAdapter(cube_info(), clutter="mean", **KNOWN)
    azimuth = AdcCubeAdapter(cube_info(), view="range_azimuth", clutter="mean", azimuth_bins=120, patch=(8, 8), **KNOWN)
    for signal, (range_m, azimuth_deg, velocity, kind) in zip(signals, objects[:, 0], strict=True):
        assert kind == 2
        found = location(doppler, maps_of(doppler, signal)[0])
        assert abs(found[0] - range_m) < 3.5
        assert abs(found[1] - velocity) < 2.0
        found = location(azimuth, maps_of(azimuth, signal)[0])
        assert abs(found[0] - range_m) < 3.5
        assert abs(found[1] - azimuth_deg) < np.degrees(np.arctan(3.0 / range_m)) + 5


@pytest.mark.parametrize(("range_m", "velocity", "azimuth_deg"), [(10.2, 5.3, 31.0), (21.7, -9.1, -47.0)])
def test_axes_are_in_metres_metres_a_second_and_degrees(range_m: float, velocity: float, azimuth_deg: float) -> None:
    signal = echo(range_m, velocity, azimuth_deg)
    doppler = AdcCubeAdapter(cube_info(), **KNOWN)
    assert [axis.unit for axis in doppler.map_axes] == ["m", "m/s"]
    steps = [axis.step or 0.0 for axis in doppler.map_axes]
    found = location(doppler, maps_of(doppler, signal)[0])
    assert abs(found[0] - range_m) <= 0.51 * steps[0]
    assert abs(found[1] - velocity) <= 0.51 * steps[1]
    for method in ("fft", "capon"):
        azimuth = AdcCubeAdapter(cube_info(), view="range_azimuth", method=method, **KNOWN)  # type: ignore[arg-type]
        found = location(azimuth, maps_of(azimuth, signal)[0])
        assert abs(found[0] - range_m) <= 0.51 * steps[0]
        assert abs(found[1] - azimuth_deg) <= 0.51 * 120 / 64
        mirrored = AdcCubeAdapter(cube_info(), view="range_azimuth", method=method, spacing=-0.5)  # type: ignore[arg-type]
        assert location(mirrored, maps_of(mirrored, signal)[0])[1] == pytest.approx(-found[1])


def test_a_canceller_keeps_the_axis_and_loses_what_stands_still() -> None:
    signal = 100 * echo(10.0, 0.0, 0.0) + echo(20.0, 6.0, 0.0)
    for clutter in ("mean", "two_pulse", "three_pulse"):
        adapter = AdcCubeAdapter(cube_info(), clutter=clutter, **KNOWN)  # type: ignore[arg-type]
        found = location(adapter, maps_of(adapter, signal)[0])
        assert found[0] == pytest.approx(20.0, abs=0.51 * (adapter.map_axes[0].step or 0))
        assert found[1] == pytest.approx(6.0, abs=0.51 * (adapter.map_axes[1].step or 0))


def test_without_receivers_and_in_clips() -> None:
    signal = echo(10.0, 5.0, 0.0)
    alone = AdcCubeAdapter(cube_info(receivers=None), **KNOWN)
    all_receivers = AdcCubeAdapter(cube_info(), **KNOWN)
    found, _ = maps_of(alone, signal[0])
    near = maps_of(all_receivers, signal)[0] > -200
    assert torch.allclose(found[near], maps_of(all_receivers, signal)[0][near], atol=1.0)
    clip = AdcCubeAdapter(cube_info(frames=4), patch=(2, 8, 8), **KNOWN)
    assert clip.patchifier.axes == ("frame", "range", "doppler")
    frames = np.stack([echo(10.0 + 3 * i, 5.0, 0.0) for i in range(4)])
    found, _ = maps_of(clip, frames)
    for frame, chart in zip(frames, found[0], strict=True):
        assert torch.allclose(chart, maps_of(all_receivers, frame)[0][0], atol=0.1)


def test_a_map_is_measured_where_all_of_its_cube_is() -> None:
    adapter = AdcCubeAdapter(cube_info(frames=3), patch=(1, 8, 8))
    frames = np.stack([echo(10.0, 5.0, 0.0)] * 3)
    valid = np.ones(frames.shape, dtype=bool)
    valid[1, 2, 5, 7] = False
    frames[1, 2, 5, 7] = np.nan
    found, whole = maps_of(adapter, frames, valid)
    assert torch.isfinite(found).all()
    assert whole.shape == found.shape[1:]
    assert [bool(frame.all()) for frame in whole] == [True, False, True]
    assert not whole[1].any()
    x, patches = adapter.make_front()(
        torch.from_numpy(np.nan_to_num(frames))[None, None], torch.from_numpy(valid)[None]
    )
    assert torch.isfinite(x).all()
    assert patches.float().mean() == pytest.approx(2 / 3)


@pytest.mark.parametrize(("view", "label"), [("range_doppler", "Doppler [m/s]"), ("range_azimuth", "azimuth [deg]")])
def test_drawn_axes_put_a_target_at_its_place(view: str, label: str) -> None:
    from matplotlib.figure import Figure

    adapter = AdcCubeAdapter(cube_info(), view=view, **KNOWN)  # type: ignore[arg-type]
    found, _ = maps_of(adapter, echo(12.0, 6.0, 30.0))
    axes = Figure().subplots()
    adapter.draw(axes, found.numpy(), title="a target")
    assert axes.get_ylabel() == "range [m]"
    assert axes.get_xlabel() == label
    left, right, bottom, top = axes.images[0].get_extent()
    row, column = np.unravel_index(int(found[0].argmax()), found[0].shape)
    across = left + (column + 0.5) * (right - left) / found.shape[2]
    assert bottom + (row + 0.5) * (top - bottom) / found.shape[1] == pytest.approx(12.0, abs=0.3)
    assert across == pytest.approx(6.0 if view == "range_doppler" else 30.0, abs=1.0)
    unknown = AdcCubeAdapter(cube_info())
    axes = Figure().subplots()
    unknown.draw(axes, maps_of(unknown, echo(12.0, 6.0, 30.0))[0].numpy())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Doppler [bin]", "range [bin]")


RECIPE = """\
name: cubes
adapter: {{name: adc_cube, view: {view}, carrier_hz: 77.0e9, bandwidth_hz: 300.0e6, clutter: mean}}
augment: [{{name: noise, snr_db: 10}}]
data:
  spec: {folder}/simulated_cubes.yaml
  root: {folder}
  split: {{validation: [drive000], test: [drive001]}}
model:
  encoder: {{width: 16, depth: 1, heads: 2}}
  decoder: {{width: 8, depth: 1, heads: 2}}
schedule: {{epochs: 1, warmup_epochs: 0}}
training: {{batch_size: 4, log_every_steps: 1}}
"""


@pytest.mark.parametrize("view", ["range_doppler", "range_azimuth"])
def test_a_masked_autoencoder_takes_two_steps_on_cubes(view: str, cubes: Path, tmp_path: Path) -> None:
    """Eight cubes of two drives, four a step; the chirp interval comes from the data spec."""
    (tmp_path / "cubes.yaml").write_text(RECIPE.format(view=view, folder=cubes))
    done = pretrain(tmp_path / "cubes.yaml", runs=tmp_path, device="cpu")
    lines = (done.folder / "metrics.jsonl").read_text()
    assert '"step": 2' in lines or '"step":2' in lines
    assert "NaN" not in lines


@pytest.mark.parametrize(
    ("options", "info", "said"),
    [
        ({"view": "map"}, {}, "view 'map'"),
        ({"clutter": "median"}, {}, "clutter 'median'"),
        ({"method": "music"}, {}, "method 'music'"),
        ({"window": "kaiser"}, {}, "window 'kaiser'"),
        ({"taper": "kaiser"}, {}, "window 'kaiser'"),
        ({"view": "range_azimuth"}, {"receivers": None}, "needs an axis receiver"),
        ({}, {"complex": False}, "complex"),
        ({"patch": (7, 8)}, {}, "range"),
        ({"azimuth_deg": (60.0, -60.0)}, {}, "azimuth_deg"),
        ({"spacing": 0.0}, {}, "spacing"),
        ({"bandwidth_hz": -1.0}, {}, "bandwidth_hz -1.0 must be positive"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], info: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AdcCubeAdapter(cube_info(**info), **options)


def test_axes_that_are_no_cube_are_refused() -> None:
    info = SignalInfo(("echo",), (Axis("sample", 16), Axis("chirp", 16)), "V", True)
    with pytest.raises(ValueError, match="a cube has the axes"):
        AdcCubeAdapter(info)


def test_azimuth_bins_fill_what_is_between_the_stated_edges() -> None:
    adapter = AdcCubeAdapter(cube_info(), view="range_azimuth", azimuth_bins=40, azimuth_deg=(-30.0, 50.0))
    azimuth = adapter.map_axes[1]
    assert (azimuth.step, azimuth.start, azimuth.length) == (2.0, -29.0, 40)


def test_parameters_come_from_the_spec_where_it_has_them() -> None:
    axes = (Axis("receiver", 4), Axis("chirp", 32, "s", 60e-6), Axis("sample", 64))
    adapter = AdcCubeAdapter(SignalInfo(("echo",), axes, "", True), carrier_hz=77e9, bandwidth_hz=300e6)
    expected = FMCW(carrier_hz=77e9, bandwidth_hz=300e6, samples=64, chirps=32, chirp_interval_s=60e-6)
    assert adapter.map_axes[1].step == pytest.approx(expected.velocity_resolution_mps)
    assert adapter.map_axes[1].start == pytest.approx(-16 * expected.velocity_resolution_mps)
    assert adapter.unit == "dB"


def test_objects_are_found_in_cubes(tmp_path: Path) -> None:
    """By CFAR at the place of an echo, and by a network that learns from a data spec with objects, of which a file is written."""
    adapter = AdcCubeAdapter(cube_info(), view="range_azimuth", **KNOWN)
    noise = RADAR.noise(np.random.default_rng(0), (RECEIVERS, RADAR.chirps, RADAR.samples))
    sample = sample_of((echo(10.0, 0.0, 20.0) + noise).astype(np.complex64))
    strongest = adapter.detectors()["CFAR, clusters"].find(sample)
    strongest = strongest[strongest[:, 2].argmax()]
    assert strongest[0] == pytest.approx(10.0, abs=0.5)
    assert strongest[1] == pytest.approx(20.0, abs=4.0)
    assert AdcCubeAdapter(cube_info()).plane() is None

    spec = simulate_cubes(tmp_path, drives=4, frames=4)
    text = spec.read_text().replace(
        "label: {path: label, ", "label: {path: objects, objects: [range, azimuth, class], "
    )
    spec.write_text(text)
    options = ", ".join(f"{name}: {value!r}" for name, value in KNOWN.items())
    recipe = tmp_path / "cubes.yaml"
    recipe.write_text(
        f"name: cubes\nadapter: {{name: adc_cube, view: range_azimuth, patch: [8, 8], {options}}}\n"
        f"data: {{spec: {spec}, root: {tmp_path}, split: {{test: [drive003]}}}}\n"
        "model: {encoder: {width: 16, depth: 1, heads: 2}}\noptimizer: {base_lr: 8.0e-3}\n"
        "task: {name: detection, kappa: [0.1, 0.1, 0.1], lengths: [0.5, 1.7, 4], skip_channels: 4, mix: 0.5}\n"
        "schedule: {epochs: 1, warmup_epochs: 0}\ntraining: {batch_size: 4}\n"
    )
    run = finetune(recipe, "random", runs=tmp_path / "runs").folder
    metrics, rows = predictions(run, side="test")
    assert len(rows["index"]) == 4
    assert np.isfinite(metrics["loss"])
    out = tmp_path / "found.json"
    predict(run, tmp_path / "cubes.h5", out, record="drive_003", pictures=[out.with_suffix(".png")])
    assert out.stat().st_size > 0
    assert (tmp_path / "found.png").stat().st_size > 1000
