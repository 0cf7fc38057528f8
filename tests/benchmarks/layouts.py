"""What does compression of HDF5 files cost when windows are read in random order?

    PYTHONPATH=tests python -m benchmarks.layouts [--rounds 5] [--windows 60]

The same numbers, contiguous and in chunks of whole rows of 256 KiB and of 1 MiB with each compression; read by h5py in turn, warm, in one
process. `maekit.data.hdf5.writing` keeps the numbers, and why nothing is compressed. Blosc2 is left out where hdf5plugin is not installed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.rows import Row

CHUNK_BYTES = (256 << 10, 1 << 20)


def contents() -> dict[str, tuple[np.ndarray, int]]:
    """Arrays like those of sensors, and rows of a window of each."""
    rng = np.random.default_rng(0)
    beats = np.sin(7.5 * np.arange(4_000_000) / 250) * np.exp(np.cos(7.5 * np.arange(4_000_000) / 250))
    noisy = (beats + 0.05 * rng.standard_normal(len(beats))).astype(np.float32)[:, None]
    lines = beats[:1_000_000, None] * 200 + 3 * rng.standard_normal((1_000_000, 8))
    return {
        "rows of 8 x 200 int8": ((6 * rng.standard_normal((15_346, 8, 200))).clip(-128, 127).astype(np.int8), 1),
        "recording of float32": (noisy, 1000),
        "recording of 8 x int16": (lines.astype(np.int16), 1000),
        "maps of 256 x 128 float32": (np.round(10 * rng.standard_normal((400, 256, 128)), 1).astype(np.float32), 1),
    }


def filters() -> dict[str, dict[str, Any]]:
    """Options of `create_dataset`."""
    found: dict[str, dict[str, Any]] = {
        "no filter": {},
        "gzip 1, shuffle": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
        "lzf, shuffle": {"compression": "lzf", "shuffle": True},
    }
    try:
        import hdf5plugin

        found["Blosc2, LZ4"] = dict(hdf5plugin.Blosc2(cname="lz4"))
    except ImportError:
        pass
    return found


def rows(rounds: int = 5, windows: int = 60) -> list[Row]:
    """Windows a second of each layout, as a part of those of the contiguous one."""
    rng, found = np.random.default_rng(1), list[Row]()
    for name, (values, length) in contents().items():
        layouts: dict[str, dict[str, Any]] = {"contiguous": {}}
        for size in CHUNK_BYTES:
            chunk = (max(size // values[0].nbytes, 1), *values.shape[1:])
            layouts |= {f"{kind}, chunks {size >> 10} KiB": {"chunks": chunk, **o} for kind, o in filters().items()}
        with tempfile.TemporaryDirectory() as folder:
            files, sizes = {}, {}
            for number, (layout, options) in enumerate(layouts.items()):
                path = Path(folder, f"{number}.h5")
                with h5py.File(path, "w") as file:
                    file.create_dataset("x", data=values, **options)
                files[layout], sizes[layout] = h5py.File(path), path.stat().st_size
            seconds: dict[str, list[float]] = {layout: [] for layout in layouts}
            for _ in range(rounds):
                for layout, file in files.items():
                    data, starts = file["x"], rng.integers(0, len(values) - length + 1, windows).tolist()
                    began = time.perf_counter()
                    for start in starts:
                        data[start : start + length]
                    seconds[layout].append((time.perf_counter() - began) / windows)
            for layout, file in files.items():
                file.close()
                ratio = statistics.median(a / b for a, b in zip(seconds["contiguous"], seconds[layout], strict=True))
                label = f"layouts: {name}, {layout}, {sizes[layout] / values.nbytes:.0%} of the bytes"
                found.append(Row(label, 1 / statistics.median(seconds[layout]), "windows/s", "contiguous", ratio))
    return found


def long_rows() -> list[Row]:
    """See `rows`."""
    return rows()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=int, default=60)
    options = parser.parse_args()
    for row in rows(options.rounds, options.windows):
        print(row)


if __name__ == "__main__":
    main()
