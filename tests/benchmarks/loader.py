"""How many windows a second does the loader read and prepare, beside h5py's slices and other libraries on the same data?

    PYTHONPATH=tests python -m benchmarks.loader [--rounds 5] [--memory]

Windows of 1,000 float32 samples in batches of 64, in one process on one core, warm; contenders take turns in each round of 6,400:

- `h5py slices`: open datasets, random windows, nothing else: the limit;
- `maekit`: its loader on a recipe's way, from files as it writes and packs them, in random order with masking noise; `heart_rate` with that
  adapter; `maekit, foreign file`: in gzip chunks of h5py's guess;
- `h5py Dataset`, `zarr`, `WebDataset`, `MosaicML Streaming`: a torch DataLoader as their documentation shows it, each from files of its own form
  with one window a chunk or sample. Zarr and the h5py Dataset read in random order, the others shuffle shards and buffers.
  What is not installed is left out and named.

`--memory`: how much the peak memory of a process grows that reads 1,000 random windows of a file of 0.5 GB, and of one of 50 GB (sparse).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.rows import Row
from maekit.adapter.base import Adapter
from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.config.data_spec import DataSpec
from maekit.core import GridPatchifier
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.loading import Samples, loader
from maekit.data.sampler import BatchSampler

RECORDINGS, SAMPLES, WINDOW, BATCH = 16, 400_000, 1000, 64
WINDOWS = RECORDINGS * SAMPLES // WINDOW
LIMIT = "h5py slices"

Batches = Callable[[int], Iterable[Any]]
"""(round) -> batches, whose first axis is windows."""


class Plain(Adapter):
    """Takes samples as they are read."""

    def __init__(self, info: Any) -> None:
        super().__init__(info, GridPatchifier(info.shape, (20,), ("time",)))

    def draw(self, axes: Any, x: Any, *, title: str = "") -> None:
        """Not drawn here."""


def spec(**window: Any) -> DataSpec:
    """One recording a group."""
    signal = {"path": "x", "axes": ["time"], "unit": "mm", "rate_hz": 100}
    cut = {"axis": "time", "length": WINDOW, **window}
    return DataSpec.model_validate({"name": "b", "files": "*.h5", "records": "/*", "signal": signal, "window": cut})


def maekit(folder: Path, make: Callable[[Any], Adapter]) -> Batches:
    """The loader of a training run."""
    source = HDF5Windows(spec(), folder)
    adapter = make(source.info)

    def batches(turn: int) -> Iterable[Any]:
        samples = Samples(source, np.arange(len(source)), adapter, patches=50, seed=turn)
        return (batch["signal"] for batch in loader(samples, BatchSampler(len(source), BATCH, seed=turn)))

    return batches


def h5py_slices(folder: Path) -> Batches:
    """Random slices of open datasets."""
    file = h5py.File(folder / "f.h5")
    data = [file[f"{i:02}/x"] for i in range(RECORDINGS)]

    def batches(turn: int) -> Iterator[Any]:
        order = np.random.default_rng(turn).permutation(WINDOWS).tolist()
        for at in range(0, WINDOWS, BATCH):
            yield [_cut(data, i) for i in order[at : at + BATCH]]

    return batches


def _cut(data: list[h5py.Dataset], i: int) -> Any:
    recording, number = divmod(i, SAMPLES // WINDOW)
    return data[recording][number * WINDOW : (number + 1) * WINDOW]


class Windows(Dataset[Any]):
    """What people write first: one window of an array at a time."""

    def __init__(self, read: Callable[[int], Any]) -> None:
        self.read = read

    def __len__(self) -> int:
        return WINDOWS

    def __getitem__(self, index: int) -> Any:
        return self.read(index)


def by_index(read: Callable[[int], Any]) -> Batches:
    """A DataLoader in random order."""

    def batches(turn: int) -> Iterable[Any]:
        generator = torch.Generator().manual_seed(turn)
        return DataLoader(Windows(read), batch_size=BATCH, shuffle=True, generator=generator)

    return batches


def h5py_dataset(folder: Path, values: np.ndarray) -> Batches:
    """An open file and a DataLoader."""
    del values
    file = h5py.File(folder / "f.h5")
    data = [file[f"{i:02}/x"] for i in range(RECORDINGS)]
    return by_index(lambda i: _cut(data, i))


def zarr(folder: Path, values: np.ndarray) -> Batches:
    """An array of windows, without compression, which it reads fastest."""
    import zarr

    array = zarr.create_array(
        str(folder / "z"),
        shape=(WINDOWS, WINDOW),
        chunks=(1, WINDOW),
        shards=(1000, WINDOW),
        dtype="f4",
        compressors=None,
    )
    array[:] = values.reshape(WINDOWS, WINDOW)
    return by_index(lambda i: array[i])


def webdataset(folder: Path, values: np.ndarray) -> Batches:
    """Tar files of `.npy` members."""
    import webdataset

    with webdataset.ShardWriter(f"{folder}/w-%03d.tar", maxcount=1000, verbose=0) as writer:
        for i, window in enumerate(values.reshape(WINDOWS, WINDOW)):
            writer.write({"__key__": f"{i:06}", "npy": window})
    shards = sorted(map(str, folder.glob("w-*.tar")))

    def batches(turn: int) -> Iterable[Any]:
        stream = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=turn).shuffle(1000)
        return (batch for (batch,) in DataLoader(stream.decode().to_tuple("npy").batched(BATCH), batch_size=None))

    return batches


def streaming(folder: Path, values: np.ndarray) -> Batches:
    """Shards of MDS."""
    from streaming import MDSWriter, StreamingDataset

    with MDSWriter(out=str(folder / "m"), columns={"x": f"ndarray:float32:{WINDOW}"}) as writer:
        for window in values.reshape(WINDOWS, WINDOW):
            writer.write({"x": window})
    data = StreamingDataset(local=str(folder / "m"), shuffle=True, batch_size=BATCH)

    def batches(turn: int) -> Iterable[Any]:
        del turn
        return (batch["x"] for batch in DataLoader(data, batch_size=BATCH))

    return batches


PEERS: dict[str, Callable[[Path, np.ndarray], Batches]] = {
    "h5py Dataset": h5py_dataset,
    "zarr": zarr,
    "WebDataset": webdataset,
    "MosaicML Streaming": streaming,
}


def contenders(folder: Path) -> tuple[dict[str, Batches], list[str]]:
    """Those that can run, with files of their own, and the names of those that are not installed."""
    values = np.random.default_rng(0).standard_normal((RECORDINGS, SAMPLES), dtype=np.float32)
    theirs = folder / "foreign"
    theirs.mkdir()
    for path, options in ((folder / "f.h5", {}), (theirs / "f.h5", {"compression": "gzip"})):
        with h5py.File(path, "w") as file:
            for i, recording in enumerate(values):
                file.create_dataset(f"{i:02}/x", data=recording, **options)
    found = {
        LIMIT: h5py_slices(folder),
        "maekit": maekit(folder, Plain),
        "maekit, heart_rate": maekit(folder, HeartRateAdapter),
        "maekit, foreign file": maekit(theirs, Plain),
    }
    absent = []
    for name, make in PEERS.items():
        try:
            found[name] = make(folder, values)
        except ImportError:
            absent.append(name)
    return found, absent


def rate(batches: Iterable[Any], windows: int) -> float:
    """Windows a second."""
    count, began = 0, time.perf_counter()
    for batch in batches:
        count += len(batch)
        if count >= windows:
            break
    return count / (time.perf_counter() - began)


def rows(rounds: int = 3) -> list[Row]:
    """Windows a second of each contender; of maekit over the limit and over each peer."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found, absent = contenders(Path(folder))
        rates: dict[str, list[float]] = {name: [] for name in found}
        for turn in range(-1, rounds):
            for name, batches in found.items():
                measured = rate(batches(turn + 1), WINDOWS // 20 if "foreign" in name else WINDOWS)
                if turn >= 0:
                    rates[name].append(measured)
    for name in absent:
        print(f"not installed: {name}")
    table = [_row(name, LIMIT, rates) for name in rates if name != LIMIT]
    return table + [_row("maekit", name, rates) for name in PEERS if name in rates]


def _row(name: str, peer: str, rates: dict[str, list[float]]) -> Row:
    ratio = statistics.median(a / b for a, b in zip(rates[name], rates[peer], strict=True))
    return Row(f"loader: {name}", statistics.median(rates[name]), "windows/s", peer, ratio)


def memory_rows() -> list[Row]:
    """Growth of peak memory by reading a file, of 0.5 GB and of 50 GB."""
    grown = []
    for size in (500 * 10**6, 50 * 10**9):
        out = subprocess.run(
            [sys.executable, "-m", "benchmarks.loader", "--read", str(size)], check=True, capture_output=True, text=True
        )
        grown.append(json.loads(out.stdout))
    name = "loader: peak memory of reading 1,000 windows of a 50 GB file"
    index = "loader: and of indexing its 100 times as many windows"
    return [
        Row(name, grown[1]["read"], "MB", "a 0.5 GB file", grown[1]["read"] / max(grown[0]["read"], 0.1)),
        Row(index, grown[1]["index"], "MB", "a 0.5 GB file", grown[1]["index"] / max(grown[0]["index"], 0.1)),
    ]


def read_sparse(size: int) -> None:
    """Print by how many MB peak memory grows: by the index, and by reading 1,000 random windows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.h5")
        with h5py.File(path, "w") as file:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((size // 2,))
            h5py.h5d.create(file.create_group("a").id, b"x", h5py.h5t.STD_I16LE, space, dcpl=properties)
        assert path.stat().st_size >= size
        assert path.stat().st_blocks * 512 < size // 100
        before = peak_mb()
        source = HDF5Windows(spec(hop=100_000), Path(folder))
        indexed = peak_mb()
        batches = loader(
            Samples(source, np.arange(len(source)), Plain(source.info), patches=50), BatchSampler(len(source), BATCH)
        )
        rate((batch["signal"] for batch in batches), 1000)
        peak = peak_mb()
    print(json.dumps({"index": indexed - before, "read": peak - indexed}))


def peak_mb() -> float:
    """Peak memory of this process; on Linux without that of the process that started it, which `getrusage` counts too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--read", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read_sparse(options.read)
        return
    for row in memory_rows() if options.memory else rows(options.rounds):
        print(row)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
