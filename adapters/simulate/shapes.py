"""Small simulated pictures of shapes on textured backgrounds, for demonstrations and tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maekit.config.data_spec import find_spec
from maekit.data.hdf5.writing import replacing_hdf5
from maekit.files import write_text

CLASSES = ("disc", "square", "cross", "ring")


def simulate_shapes(folder: Path, *, pictures: int = 400, painters: int = 8, size: int = 32, seed: int = 0) -> Path:
    """Write `shapes.h5` and its data spec; each painter, the group of splits, has its own colours and texture.

    Returns:
        Path of the data spec.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    styles = rng.uniform(0, 1, (painters, 2, 3)), rng.uniform(2, 9, (painters, 2))
    painter, label = rng.integers(0, painters, pictures), rng.integers(0, len(CLASSES), pictures)
    values = np.empty((pictures, 3, size, size), dtype=np.uint8)
    for i in range(pictures):
        cx, cy, r = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(0.3, 0.5)
        dx, dy = x - cx, y - cy
        distance = np.hypot(dx, dy)
        inside = (
            distance < r,
            np.maximum(abs(dx), abs(dy)) < 0.85 * r,
            (np.minimum(abs(dx), abs(dy)) < 0.3 * r) & (np.maximum(abs(dx), abs(dy)) < r),
            abs(distance - 0.8 * r) < 0.25 * r,
        )[label[i]]
        texture = 0.15 * np.sin(styles[1][painter[i], 0] * x + styles[1][painter[i], 1] * y + rng.uniform(0, 6))
        colour = np.where(
            inside[None], styles[0][painter[i], 0, :, None, None], styles[0][painter[i], 1, :, None, None]
        )
        values[i] = (255 * np.clip(colour + texture + 0.03 * rng.standard_normal(x.shape), 0, 1)).astype(np.uint8)
    with replacing_hdf5(folder / "shapes.h5") as file:
        file.create_dataset("pictures", data=values)
        file.create_dataset("label", data=label)
        file.create_dataset("painter", data=np.array([f"painter{p}" for p in painter], dtype="S"))
    spec = folder / "simulated_shapes.yaml"
    write_text(spec, find_spec("simulated_shapes").read_text())
    return spec
