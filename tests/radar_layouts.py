"""Tiny files in the folders in which public radar sets are published, with a target in each map where its mark says.

Two sequences of three frames each. What is written is returned: where each target is, in metres, degrees and m/s.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TARGETS = {0: (5.0, -20.0, -2.0, 0), 1: (9.0, 10.0, 1.0, 2), 2: (15.0, 35.0, 4.0, 1)}
"""By frame: range (m), azimuth (degrees), Doppler (m/s, positive receding), class."""


def _picture(path: Path, width: int, height: int, frame: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = np.full((height, width, 3), 40 * frame, dtype=np.uint8)
    half[:, width // 2 :, 0] = 200
    Image.fromarray(half).save(path, quality=95) if path.suffix == ".jpg" else Image.fromarray(half).save(path)


def _save(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def _noise(shape: tuple[int, ...], frame: int) -> Any:
    return np.random.default_rng(frame).uniform(0.0, 1.0, shape).astype(np.float32)


def cruw(folder: Path) -> dict[str, Any]:
    """ROD2021: one marked training sequence, one test sequence without pictures and marks."""
    for split, name in (
        ("train", "2019_04_09_BMS1001"),
        ("train", "2019_05_29_MLMS006"),
        ("test", "2019_05_28_CM1S013"),
    ):
        for frame, (distance, azimuth, _, _) in TARGETS.items():
            row, column = round(distance / 0.21305486) - 3, round((np.sin(np.radians(azimuth)) + 1) * 127 / 2)
            for chirp in (0, 64, 128, 192):
                values = 0.01 * _noise((128, 128, 2), 10 * frame + chirp)
                values[row, column] = (3.0, 4.0)
                _save(folder / f"sequences/{split}/{name}/RADAR_RA_H/{frame:06d}_{chirp:04d}.npy", values)
            if split == "train":
                _picture(folder / f"sequences/{split}/{name}/IMAGES_0/{frame:010d}.jpg", 144, 88, frame)
        if split == "train":
            lines = [
                f"{frame} {d:.4f} {np.radians(a):.4f} {('pedestrian', 'cyclist', 'car')[kind]}\n"
                for frame, (d, a, _, kind) in TARGETS.items()
                if frame != 1
            ]
            (folder / "annotations/train").mkdir(parents=True, exist_ok=True)
            (folder / f"annotations/train/{name}.txt").write_text("".join(lines))
    return {"floor": -40.0, "peak": 10 * np.log10(25.0), "tolerance": (0.11, 0.8)}


def radarcity(folder: Path) -> dict[str, Any]:
    """One site, a part in train and one in test; what moves in a file of its own."""
    for split in ("train", "test"):
        site = folder / f"{split}/Arcisstrasse1"
        for frame, (distance, azimuth, _, _) in TARGETS.items():
            values = _noise((224, 221), frame)
            row, column = (
                round(distance / 0.14686897) - 7,
                round((np.sin(np.radians(azimuth)) + 0.8660254) / 0.00787295822),
            )
            values[row, column] = 50.0
            _save(site / f"RADAR_RA_H/{frame:06d}.npy", values)
            _picture(site / f"IMAGES_0/{frame:06d}.png", 64, 48, frame)
        _save(site / "semantic_depth_35.npy", np.full((48, 64, 2), 7.0))
        for file, frames in (("Annotations_polar.txt", (0,)), ("Annotations_moving_polar.txt", (1, 2))):
            lines = [
                f"{frame} {TARGETS[frame][0]:.4f} {np.radians(TARGETS[frame][1]):.4f} "
                f"{('pedestrian', 'cyclist', 'car')[TARGETS[frame][3]]}\n"
                for frame in frames
            ]
            (site / file).write_text("".join(lines))
    return {"floor": 1.0, "peak": 50.0, "tolerance": (0.08, 0.5)}


def carrada(folder: Path) -> dict[str, Any]:
    """Maps with the far end or the near end first, Doppler counting approach; frame 0 of the second sequence unmarked."""
    for name in ("2019-09-16-12-52-12", "2020-02-28-13-14-35"):
        by_angle: dict[str, Any] = {}
        by_doppler: dict[str, Any] = {}
        for frame, (distance, azimuth, doppler, kind) in TARGETS.items():
            bins, column = round(distance / 0.1953125), 128 + round(azimuth / 0.703125)
            slow = 32 - round(doppler / 0.41968031)
            ra, rd = 40 + _noise((256, 256), frame), 40 + _noise((256, 64), frame)
            ra[255 - bins, column], rd[bins, slow] = 90.0, 90.0
            _save(folder / f"{name}/range_angle_processed/{frame:06d}.npy", ra.astype(np.float64))
            _save(folder / f"{name}/range_doppler_processed/{frame:06d}.npy", rd.astype(np.float64))
            _picture(folder / f"{name}/camera_images/{frame:06d}.jpg", 123, 102, frame)
            if frame == 0 and name.startswith("2020"):
                continue
            row = 255 - bins
            by_angle[f"{frame:06d}"] = {"boxes": [[row - 2, column - 3, row + 2, column + 3]], "labels": [kind + 1]}
            by_doppler[f"{frame:06d}"] = {"boxes": [[bins - 2, slow - 1, bins + 2, slow + 1]], "labels": [kind + 1]}
        boxes = folder / name / "annotations/box"
        boxes.mkdir(parents=True)
        (boxes / "range_angle_light.json").write_text(json.dumps(by_angle))
        (boxes / "range_doppler_light.json").write_text(json.dumps(by_doppler))
        (folder / name / "camera_images/camera_timestamps.txt").write_text("0\n")
    return {
        "floor": 41.0,
        "peak": 90.0,
        "tolerance": (0.1, 0.4),
        "sizes": (4 * 0.1953125, 6 * 0.703125, 2 * 0.41968031),
    }


def raddet(folder: Path, *, name_of_core: str = "numpy._core") -> dict[str, Any]:
    """Cubes with the far end first, in train and test; frame 1 is in test."""
    names = ("person", "bicycle", "car")
    for frame, (distance, azimuth, doppler, kind) in TARGETS.items():
        side = "test" if frame == 1 else "train"
        far, slow = 255 - round(distance / 0.1953125), 32 + round(doppler / 0.41968031)
        across = 128 + round(float(np.sin(np.radians(azimuth))) / 0.0077922078)
        cube = np.zeros((256, 256, 64), dtype=np.complex64)
        cube[far, across, slow] = 1000.0 + 1000.0j
        _save(folder / f"{side}/RAD/part1/{frame:06d}.npy", cube)
        _picture(folder / f"{side}/stereo_image/part1/{frame:06d}.jpg", 160, 60, frame)
        gt = folder / f"{side}/gt/part1/{frame:06d}.pickle"
        gt.parent.mkdir(parents=True, exist_ok=True)
        boxes = np.array([[far, across, slow, 4, 10, 2]], dtype=np.float64)
        content = pickle.dumps({"classes": [names[kind]], "boxes": boxes, "cart_boxes": np.ones((1, 4))}, 3)
        gt.write_bytes(content.replace(b"numpy._core", name_of_core.encode()))
    return {"floor": 0.0, "tolerance": (0.1, 0.4)}
