"""Reads all the metadata of HDF5 files, and MAT files, in a process of its own that their libraries may crash or never return in.

Run as a script by `examine.py`, never imported: it loads h5py and numpy only, and SciPy for the first MAT file. Each line on standard input is
a JSON list [path, library, seconds of processor time]; each line on standard output is a JSON list [problem, errno], both null for a
file without one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
from typing import Any

import h5py

MEMORY_BYTES = 4 << 30
"""Address space of this process, with the libraries' own."""
IDLE_S = 30
"""Seconds without a file after which this process ends."""
VALUE_BYTES = 64 << 20
"""Bytes of a file's values that are read: all of a small file, the beginnings of the datasets of a large one."""
_BAD_CONVERSION = "conversion path"


def walk(path: str) -> None:
    """Visit every object of a file, and read what a reader of metadata reads, then values.

    Raises:
        Exception: whatever h5py raises at something damaged.
    """
    with h5py.File(path, "r") as file:
        seen: set[Any] = set()
        pending: list[Any] = [file["/"]]
        budget = VALUE_BYTES
        while pending:
            item = pending.pop()
            info = h5py.h5o.get_info(item.id)
            if info.addr in seen:
                continue
            seen.add(info.addr)
            read_attributes(item)
            if isinstance(item, h5py.Group):
                for name in item:
                    if isinstance(item.get(name, getlink=True), h5py.HardLink):
                        pending.append(item[name])
            elif isinstance(item, h5py.Dataset) and read_layout(item) and budget > 0:
                budget -= read_values(item, budget)
        file.visititems(lambda _name, _item: None)


def read_attributes(item: Any) -> None:
    """Read the value of every attribute; one whose type NumPy has no equivalent for is left out."""
    for name in item.attrs:
        try:
            item.attrs[name]
        except (TypeError, ValueError, NotImplementedError):
            continue
        except OSError as error:
            if _BAD_CONVERSION not in str(error):
                raise


def read_layout(data: h5py.Dataset) -> bool:
    """Read the shape, type, filters and chunk index of a dataset.

    Returns:
        Whether its values are numbers, text or compounds that can be read from this file.
    """
    data.shape, data.maxshape, data.size, data.chunks  # noqa: B018
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    stored = data.id.get_storage_size()
    if data.is_virtual or properties.get_external_count():
        return False
    if data.chunks is not None:
        data.id.get_num_chunks()
        data.id.chunk_iter(lambda _chunk: None)
    try:
        data.dtype  # noqa: B018
    except (TypeError, ValueError, NotImplementedError):
        return False
    if any(not h5py.h5z.filter_avail(code) for code in filters):
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")
    return stored > 0 and all(h5py.h5z.filter_avail(code) for code in filters)


def read_values(data: h5py.Dataset, budget: int) -> int:
    """Read the first rows of a dataset, for the crashes of filters and of the heap that holds texts.

    An error is no concern here: whoever reads these values meets it again.

    Returns:
        Bytes that were read, about.
    """
    row = data.dtype.itemsize * (data.size // data.shape[0] if data.shape and data.shape[0] else 1)
    chunk = data.chunks[0] if data.chunks else 1
    wanted = data.shape[0] if data.shape else 1
    for axis, length in enumerate(data.chunks or ()):
        if axis and length > data.shape[axis]:
            row = row * length // max(data.shape[axis], 1)
    rows = min(wanted, budget // max(row * chunk, 1) * chunk)
    if rows:
        with contextlib.suppress(Exception):
            data[:rows] if data.shape else data[()]
    return max(int(rows * row), 1 << 12)


def load_mat(path: str) -> None:
    """Read a MAT file up to version 7; an error is no concern here: whoever reads it meets it again."""
    with contextlib.suppress(Exception):
        importlib.import_module("scipy.io").loadmat(path, appendmat=False)


WAYS = {"HDF5": walk, "MAT": load_mat}
"""By library."""


def limit_memory() -> None:
    """Let allocations beyond `MEMORY_BYTES` fail, on systems that can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer for one file after another, until the input ends or nothing comes for long."""
    limit_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    rest = b""
    while True:
        while b"\n" not in rest:
            if not select.select([0], [], [], IDLE_S)[0] or not (more := os.read(0, 1 << 16)):
                return
            rest += more
        line, _, rest = rest.partition(b"\n")
        path, library, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer: list[Any] = [None, None]
        try:
            WAYS[library](path)
        except BaseException as error:  # h5py raises anything
            answer = [f"{error}" or type(error).__name__, getattr(error, "errno", None)]
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
