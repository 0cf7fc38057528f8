"""Raw radar files through `maekit data convert`: capture-card files of simulated people, and real 60 GHz recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as dsp
from typer.testing import CliRunner

from maekit.adapters.radar.conversions import profiles_displacement
from maekit.adapters.radar.dca1000 import dca1000_cube
from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.simulate.vital_signs import adc_cube, chest
from maekit.cli.main import app
from maekit.config.data_spec import find_spec
from maekit.data.convert import readers
from maekit.data.convert.timing import put_on_grid
from maekit.errors import UserError

RATE_HZ = 50.0


def written(cube: Any, *, lanes: int = 2, iq_order: str = "IQ", real: bool = False) -> Any:
    """The int16 of a capture, number by number in the order of the lanes, as SWRA581 draws it."""
    out: list[int] = []
    for chirp in cube.reshape(-1, *cube.shape[-2:]):
        if lanes == 4:
            for sample in chirp.T:
                parts = [sample.real] if real else [sample.real, sample.imag]
                for part in parts if iq_order == "IQ" else parts[::-1]:
                    out += [int(v) for v in part]
        else:
            for receiver in chirp:
                if real:
                    out += [int(v) for v in receiver.real]
                    continue
                for two in receiver.reshape(-1, 2):
                    for part in (two.real, two.imag) if iq_order == "IQ" else (two.imag, two.real):
                        out += [int(v) for v in part]
    return np.array(out, dtype="<i2")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([2, 4]),
    st.sampled_from(["IQ", "QI"]),
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([2, 6]),
    st.integers(0, 2**32 - 1),
)
def test_every_layout_is_read_as_it_is_drawn(
    lanes: int, iq_order: str, real: bool, frames: int, chirps: int, receivers: int, samples: int, seed: int
) -> None:
    receivers = 4 if lanes == 4 else receivers
    shape = frames, chirps, receivers, samples
    rng = np.random.default_rng(seed)
    cube = rng.integers(-32768, 32768, shape) + 1j * rng.integers(-32768, 32768, shape)
    layout: dict[str, Any] = {"lanes": lanes, "iq_order": iq_order, "real": real}
    values = written(cube, **layout)
    found = dca1000_cube(values, samples=samples, chirps=chirps, receivers=receivers, **layout)
    assert found.dtype == (np.float32 if real else np.complex64)
    assert np.array_equal(found, cube.real if real else cube)
    if chirps % 2 == 0:
        two = dca1000_cube(values, samples=samples, chirps=chirps, receivers=receivers, transmitters=2, **layout)
        assert np.array_equal(two[:, 0, receivers:], found[:, 1])
    with pytest.raises(UserError, match="no whole number of frames"):
        dca1000_cube(values[:-1], samples=samples, chirps=chirps, receivers=receivers, **layout)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"lanes": 3}, "no such layout"),
        ({"iq_order": "QQ"}, "no such layout"),
        ({"lanes": 4, "receivers": 2}, "four lanes always carry four"),
        ({"transmitters": 3}, "go round the transmitters"),
        ({"samples": 3, "receivers": 1}, "in pairs"),
        ({"samples": 6}, r"2 frames and 32 numbers.*multiple of 96"),
    ],
)
def test_a_capture_that_does_not_fit_is_named(layout: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dca1000_cube(np.zeros(224, dtype=np.int16), **{"samples": 4, "chirps": 2, **layout})


def convert(spec: str, source: Path, target: Path) -> Any:
    return CliRunner().invoke(app, ["data", "convert", spec, "--from", str(source), "--to", str(target), "--overwrite"])


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with one person's capture at the settings of the shipped spec, and the true displacement."""
    folder = tmp_path_factory.mktemp("capture")
    rng = np.random.default_rng(4)
    truth_mm, _, _ = chest(rng, 16.0, RATE_HZ, motion=False)
    radar = FMCW(carrier_hz=77.42e9, bandwidth_hz=3.5e9, sample_rate_hz=4e6, samples=200, chirps=2)
    cube = adc_cube(radar, rng, 0.9, truth_mm, 10.0)
    (folder / "anna").mkdir()
    written_ = cube / np.abs(cube).max() * 30_000
    # The layout, fast: the slow, literal writer is compared with the reader above.
    pairs = written_.reshape(-1, 2)
    np.stack([pairs.real, pairs.imag], axis=1).astype("<i2").tofile(folder / "anna" / "morning.bin")
    return folder, truth_mm - truth_mm.mean()


def copy_of(name: str, folder: Path, stream: dict[str, Any] | None = None, **options: Any) -> str:
    """A shipped spec with other numbers."""
    spec = yaml.safe_load(find_spec(name).read_text())
    displacement = spec["convert"]["streams"]["displacement"]
    displacement.update(stream or {})
    given = {
        key: float(v) if isinstance(v, str) and v[0].isdigit() else v
        for key, v in displacement["through"]["options"].items()
    }
    displacement["through"]["options"] = {**given, **options}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    return str(folder / f"{name}.yaml")


def test_a_capture_becomes_displacement(capture: tuple[Path, Any], tmp_path: Path) -> None:
    folder, truth_mm = capture
    done = convert("ti_dca1000_vital_signs", folder, tmp_path)
    assert done.exit_code == 0, done.output
    with h5py.File(tmp_path / "ti_dca1000_vital_signs.h5") as file:
        assert file["anna_morning"].attrs["subject"] == "anna"
        data = file["anna_morning/displacement"]
        assert np.std(data[()] - truth_mm) < 0.05 * np.std(truth_mm)
        assert data.attrs["rate_hz"] == RATE_HZ
        assert data.attrs["range_m"] == pytest.approx(0.9, abs=0.05)
        assert data.attrs["wavelength_m"] == pytest.approx(3.79e-3, abs=1e-5)
        assert data.attrs["unit"] == "mm"
        assert [text for text in data.attrs["findings"] if "no packet numbers" not in text] == []
    checked = CliRunner().invoke(app, ["data", "check", "ti_dca1000_vital_signs", "--root", str(tmp_path)])
    assert checked.exit_code == 0, checked.output
    assert "1 groups: anna" in checked.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iq_order": "QI"}, "I and Q seem to be swapped"),
        ({"samples": 190}, "no whole number of frames"),
        ({"antennas": 3}, "antennas"),
        ({"within_m": [90, 100]}, "no range bin lies within"),
        ({"carrier_hz": -1.0}, "carrier_hz"),
    ],
)
def test_wrong_options_are_named(
    capture: tuple[Path, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    done = convert(copy_of("ti_dca1000_vital_signs", tmp_path, **options), capture[0], tmp_path / "out")
    assert done.exit_code != 0
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert "morning.bin" in str(done.exception)
    assert not list((tmp_path / "out").glob("*"))


def test_lost_packets_are_missing_and_said(capture: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = capture
    values = np.fromfile(folder / "anna/morning.bin", dtype="<i2")
    values[100 * 3200 : 120 * 3200] = 0
    (tmp_path / "in/anna").mkdir(parents=True)
    values.tofile(tmp_path / "in/anna/morning.bin")
    done = convert("ti_dca1000_vital_signs", tmp_path / "in", tmp_path)
    assert done.exit_code == 0, done.output
    assert "zeros only" in " ".join(done.stderr.split())
    with h5py.File(tmp_path / "ti_dca1000_vital_signs.h5") as file:
        data = file["anna_morning/displacement"]
        assert np.flatnonzero(np.isnan(data[()])).tolist() == list(range(100, 120))
        assert any("zeros only" in text for text in data.attrs["findings"])


def test_functions_and_options_that_do_not_exist_are_named(capture: tuple[Path, Any], tmp_path: Path) -> None:
    through = {"adapter": "heart_rate", "function": "dca1000_displacment", "options": {}}
    spec = copy_of("ti_dca1000_vital_signs", tmp_path, stream={"through": through})
    done = convert(spec, capture[0], tmp_path / "out")
    assert "Did you mean 'dca1000_displacement'?" in str(done.exception)
    through["function"] = "profiles_displacement"
    done = convert(copy_of("ti_dca1000_vital_signs", tmp_path, stream={"through": through}), capture[0], tmp_path)
    assert "not the options of profiles_displacement" in str(done.exception)


def test_hdf5_is_read_by_path_and_pairs_become_complex(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        pairs = np.zeros((3, 2), dtype=[("real", "<i2"), ("imag", "<i2")])
        pairs["real"], pairs["imag"] = 3, -4
        file["a/iq"], file["a/t"] = pairs, np.arange(3)
        file["b"] = h5py.ExternalLink("other.h5", "/x")
    content = readers.read(tmp_path / "x.h5")
    assert np.array_equal(content.numbers("a/iq"), np.full((3, 2), 3 - 4j))
    assert content.numbers("a/t").dtype.kind == "i"
    with pytest.raises(UserError, match=r"no such column or key.*Did you mean 'a/iq'"):
        content.pick("a/iqs")
    assert "b" not in content.arrays, "links that leave the file are not followed"
    (tmp_path / "torn.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:700])
    with pytest.raises(UserError, match="damaged or truncated HDF5"):
        readers.read(tmp_path / "torn.h5")
    (tmp_path / "odd.bin").write_bytes(b"123")
    with pytest.raises(UserError, match="no whole number of samples"):
        readers.read(tmp_path / "odd.bin", "int16")


def line_hz(x: Any, rate_hz: float) -> tuple[float, float]:
    """The highest line between 0.1 and 0.6 Hz, and its height over the median there."""
    frequency, power = dsp.periodogram(dsp.detrend(x), rate_hz, window="hann", nfft=1 << 14)
    inside = (frequency >= 0.1) & (frequency <= 0.6)
    return float(frequency[inside][power[inside].argmax()]), float(power[inside].max() / np.median(power[inside]))


@pytest.fixture(scope="module")
def a121(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a121")
    done = convert("acconeer_a121", real_data / "radar_iq_hdf5/a121", folder)
    assert done.exit_code == 0, done.output
    return folder / "acconeer_a121.h5"


def test_real_breathing_shows_in_the_displacement(a121: Path) -> None:
    """What neighbouring points in space say, each by itself, is 0.29 to 0.31 and 0.345 Hz."""
    with h5py.File(a121) as file:
        for name, breathing_hz in (("breathing-sitting", 0.30), ("breathing-sitting-no-presence", 0.345)):
            x = file[name]["displacement"][()].astype(float)
            found, height = line_hz(x, file[name]["displacement"].attrs["rate_hz"])
            assert found == pytest.approx(breathing_hz, abs=0.015)
            assert height > 10
            # Continuous: a step of half a wavelength would be a slip of the unwrapping.
            assert np.abs(np.diff(x)).max() < 1.25
            assert 2 < np.ptp(x) < 20
            assert not file[name]["saturated"][()].any()


def test_swapped_quadratures_turn_the_sign_of_a_profile(real_data: Path) -> None:
    """All that the swap does to a radar that gives range profiles, so that nothing there can tell."""
    content = readers.read(real_data / "radar_iq_hdf5/a121/breathing-sitting.h5")
    frames = content.numbers("sessions/session_0/group_0/entry_0/result/frame")
    options: dict[str, Any] = {"carrier_hz": 60.5e9, "start_m": 0.3, "step_m": 0.06, "within_m": (0.4, 1.5)}
    right, _, _ = profiles_displacement(frames, **options)
    swapped, _, _ = profiles_displacement(frames, iq_order="QI", **options)
    assert swapped == pytest.approx(-right, abs=1e-3)
    for wrong in (frames.real, frames[0, 0]):
        with pytest.raises(ValueError, match=r"complex \(frame, sweep, distance\)"):
            profiles_displacement(wrong, **options)


def test_a_wrong_rate_is_refused_by_the_real_stamps(real_data: Path, tmp_path: Path) -> None:
    spec = copy_of("acconeer_a121", tmp_path, stream={"rate_hz": 25})
    done = convert(spec, real_data / "radar_iq_hdf5/a121", tmp_path / "out")
    assert "do not keep the stated rate" in str(done.exception)
    # The vendor's own software for this 50 Hz device took 20 frames a second for granted.
    content = readers.read(real_data / "radar_phase_ecg/subject01/radar.csv.gz")
    stamps, x = content.numbers("Timestamp"), content.numbers("unwrapPhasePeak_mm")
    with pytest.raises(UserError, match="do not keep the stated rate"):
        put_on_grid(x, stamps, 20.0, None, "here")


def test_a_real_recording_on_another_grid_keeps_its_breathing_and_lets_nothing_alias(real_data: Path) -> None:
    content = readers.read(real_data / "radar_phase_ecg/subject01/radar.csv.gz")
    stamps, x = content.numbers("Timestamp"), content.numbers("unwrapPhasePeak_mm")
    x = x + 2 * np.sin(
        2 * np.pi * 9.7 * (stamps - stamps[0])
    )  # without a low-pass it folds to 0.3 Hz, 150 times as high
    even, coarse = put_on_grid(x, stamps, 50.0, None, ""), put_on_grid(x, stamps, None, 10.0, "")
    one, two = (
        part.values[round(part.rate_hz * 60) : round(part.rate_hz * 180)] for part in (even, coarse) if part.rate_hz
    )
    assert line_hz(one, 50.0)[0] == pytest.approx(line_hz(two, 10.0)[0], abs=0.005)
    frequency, power = dsp.periodogram(dsp.detrend(two), 10.0, window="hann")
    folded = power[np.abs(frequency - 0.3) < 0.02].max()
    assert folded < 10 * np.median(power[(frequency > 0.2) & (frequency < 0.4)])


def test_an_empty_room_has_no_breath(real_data: Path) -> None:
    def heights(name: str) -> list[float]:
        content = readers.read(real_data / f"radar_phase_ecg/{name}/radar.csv.gz")
        part = put_on_grid(content.numbers("unwrapPhasePeak_mm"), content.numbers("Timestamp"), 50.0, None, name)
        windows = [part.values[i : i + 1500] for i in range(0, len(part.values) - 1500, 1500)]
        return [
            np.std(dsp.sosfiltfilt(dsp.butter(2, (0.1, 0.6), "bandpass", fs=50, output="sos"), w))
            for w in windows
            if np.isfinite(w).all()
        ]

    assert np.median(heights("no_subject")) < 0.2 * np.median(heights("subject01"))
