"""Packets that the DCA1000 capture card lost: known by their numbers, or seen as stretches of zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maekit.adapters.radar.conversions import cube_displacement, dca1000_displacement
from maekit.adapters.radar.dca1000 import DATA_BYTES, remove_packet_headers
from maekit.errors import UserError

SAMPLES, CHIRPS, RECEIVERS, FRAMES = 128, 2, 4, 400
CHIRP = {"carrier_hz": 77.4e9, "bandwidth_hz": 3.5e9, "sample_rate_hz": 4e6, "within_m": (0.3, 1.5)}
OPTIONS: dict[str, Any] = {**CHIRP, "samples": SAMPLES, "chirps": CHIRPS}


def beat() -> np.ndarray[Any, Any]:
    """(frame, chirp, receiver, sample) of a chest at 0.9 m that moves by 2 mm."""
    rng = np.random.default_rng(0)
    range_m = 0.9 + 0.002 * np.sin(2 * np.pi * 0.01 * np.arange(FRAMES))
    slope = 3.5e9 * 4e6 / SAMPLES
    phase = 2 * np.pi * (77.4e9 + slope * np.arange(SAMPLES) / 4e6) * 2 * range_m[:, None] / 299792458.0
    shape = (FRAMES, CHIRPS, RECEIVERS, SAMPLES)
    noise = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return 3000 * np.exp(1j * phase)[:, None, None, :] + 60 * noise


@pytest.fixture(scope="module")
def numbers() -> np.ndarray[Any, np.dtype[np.int16]]:
    """A file of the card, of two lanes."""
    cube = beat()
    real, imag = (part.round().reshape(-1, 2) for part in (cube.real, cube.imag))
    return np.stack([real, imag], axis=1).astype("<i2").ravel()


def packets(numbers: np.ndarray[Any, Any], *, lost: tuple[int, ...] = (), first: int = 1) -> np.ndarray[Any, Any]:
    """A dump of packets with their headers."""
    content, parts = numbers.tobytes(), []
    for index, start in enumerate(range(0, len(content), DATA_BYTES)):
        if index not in lost:
            header = (first + index).to_bytes(4, "little") + ((first + index - 1) * DATA_BYTES).to_bytes(6, "little")
            parts.append(header + content[start : start + DATA_BYTES])
    return np.frombuffer(b"".join(parts), dtype="<i2")


def frames_of(packet: int) -> set[int]:
    frame_bytes = SAMPLES * CHIRPS * RECEIVERS * 4
    return set(range(packet * DATA_BYTES // frame_bytes, ((packet + 1) * DATA_BYTES - 1) // frame_bytes + 1))


def test_frames_of_lost_packets_are_missing_according_to_the_numbers(numbers: np.ndarray[Any, Any]) -> None:
    lost = (7, 8, 300)
    whole, _, _ = dca1000_displacement(numbers, **OPTIONS)
    line, _, findings = dca1000_displacement(packets(numbers, lost=lost), **OPTIONS)
    assert set(np.flatnonzero(np.isnan(line))) == set().union(*map(frames_of, lost))
    assert any("lack packets, according to their numbers" in text for text in findings)
    there = np.isfinite(line)
    assert np.abs((line - whole)[there] - np.median((line - whole)[there])).max() < 0.05


def test_packets_out_of_order_are_put_in_order(numbers: np.ndarray[Any, Any]) -> None:
    dump = packets(numbers, first=5)
    rows = dump[: len(dump) // 733 * 733].reshape(-1, 733).copy()
    rows[[10, 11]] = rows[[11, 10]]
    result = remove_packet_headers(np.concatenate([rows.ravel(), dump[rows.size :]]))
    assert result is not None
    data, lost = result
    assert np.array_equal(data, numbers)
    assert not lost.any()


def test_a_file_without_headers_is_not_taken_for_packets(numbers: np.ndarray[Any, Any]) -> None:
    assert remove_packet_headers(numbers) is None
    assert remove_packet_headers(np.zeros(733 * 4, np.int16)) is None
    _, _, findings = dca1000_displacement(numbers, **OPTIONS)
    assert findings == [
        "the file has no packet numbers: packets that were lost show only where they were filled with zeros"
    ]


def test_headers_that_break_off_are_refused(numbers: np.ndarray[Any, Any]) -> None:
    dump = packets(numbers).copy()
    with pytest.raises(UserError, match="packet headers at first, but not in the whole file"):
        remove_packet_headers(np.delete(dump, 733 * 100 + 50))


@pytest.mark.parametrize("at", [0, 5, 1000])
def test_a_single_packet_of_zeros_is_noticed(numbers: np.ndarray[Any, Any], at: int) -> None:
    filled = numbers.copy()
    filled[at * 728 : (at + 1) * 728] = 0
    line, _, findings = dca1000_displacement(filled, **OPTIONS)
    assert set(np.flatnonzero(np.isnan(line))) == frames_of(at)
    assert any("as packets that were lost leave them" in text for text in findings)


@pytest.mark.parametrize("real", [True, False])
def test_cubes_in_any_order_of_axes(real: bool) -> None:
    cube = beat()
    expected, _, _ = cube_displacement(cube, axes=["frame", "chirp", "receiver", "sample"], **CHIRP)
    measured = cube.real / 5000 + 0.5 if real else cube
    line, _, _ = cube_displacement(
        measured.transpose(3, 0, 2, 1), axes=["sample", "frame", "receiver", "chirp"], **CHIRP
    )
    assert np.std(line) == pytest.approx(2 / np.sqrt(2), rel=0.05)
    assert np.std(line - expected) < (0.1 if real else 1e-3)
    one, _, _ = cube_displacement(measured[:, 0, 0], axes=["frame", "sample"], **CHIRP)
    assert np.std(one) == pytest.approx(2 / np.sqrt(2), rel=0.1)
    with pytest.raises(ValueError, match="`axes` names the 4 axes"):
        cube_displacement(measured, axes=["frame", "sample"], **CHIRP)
