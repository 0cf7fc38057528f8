"""Maps with bright spots that are objects, and pictures of the same moment with a bright column in their direction."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

RANGES, AZIMUTHS, WIDTH = 32, 16, 32
SPEC = """\
name: blobs
files: "*.h5"
records: "/*"
signal:
  path: map
  axes: [frame, range, azimuth]
  unit: dB
  steps: {range: {step: 1, start: 1, unit: m}, azimuth: {step: 7.5, start: -56.25, unit: deg}}
auxiliary:
  picture: {path: picture, axes: [frame, height, width], channels: [level]}
group: {attribute: drive}
label:
  path: objects
  objects: [range, azimuth, class, range_extent, azimuth_extent]
  classes: [person, car]
window: {axis: frame, length: 1}
split: {test: [drive3], validation: [drive2]}
"""
RECIPE = """\
name: blobs
adapter: {name: range_azimuth, patch: [4, 4]}
data: {spec: blobs.yaml, root: ROOT}
model:
  encoder: {width: 48, depth: 2, heads: 3}
  decoder: {width: 32, depth: 1, heads: 2}
optimizer: {base_lr: 8.0e-3}
schedule: {epochs: 2, warmup_epochs: 0.5}
training: {batch_size: 32, log_every_steps: 1}
"""
PICTURE = "{name: image, size: [8, 32], patch: 8, normalisation: fit, full_scale: 1}"
DETECTION = "task={name: detection, kappa: [0.02, 0.02], lengths: [1, 2]}"


def write(folder: Path, *, frames: int = 48, drives: int = 4, without_picture: tuple[int, ...] = ()) -> Path:
    """Write `blobs.h5`, `blobs.yaml` and the recipe, whose path is returned. Drive `i` has the objects of seed `i`."""
    with h5py.File(folder / "blobs.h5", "w") as file:
        for drive in range(drives):
            rng = np.random.default_rng(drive)
            record = file.create_group(f"drive{drive}")
            record.attrs["drive"] = f"drive{drive}"
            maps = rng.standard_normal((frames, RANGES, AZIMUTHS))
            pictures = rng.uniform(0, 0.3, (frames, 8, WIDTH))
            objects = np.full((frames, 2, 5), np.nan)
            for frame in range(frames):
                for number in range(int(rng.integers(0, 3))):
                    row, column, kind = (
                        int(rng.integers(2, RANGES - 2)),
                        int(rng.integers(1, AZIMUTHS - 1)),
                        int(rng.integers(2)),
                    )
                    reach = 2 * kind
                    maps[frame, row - reach : row + 1 + reach, column - kind : column + 1 + kind] += 10
                    pictures[frame, :, 2 * column : 2 * column + 2] = 1.0
                    objects[frame, number] = [1 + row, -56.25 + 7.5 * column, kind, 1 + 4 * kind, 7.5 + 15 * kind]
            record["map"] = maps.astype(np.float32)
            if drive not in without_picture:
                record["picture"] = pictures.astype(np.float32)
            record["objects"] = objects.astype(np.float32)
            record["objects"].attrs["columns"] = ["range", "azimuth", "class", "range_extent", "azimuth_extent"]
    (folder / "blobs.yaml").write_text(SPEC)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("ROOT", str(folder)))
    return recipe
