"""Pack HDF5 recordings: files of the same names and content whose numbers lie in one piece, to be read by position (`contiguous.py`)."""

from __future__ import annotations

import shutil
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py

from maekit.data.hdf5.safety import check_storage, damage_as_error, load_filters, open_hdf5
from maekit.data.hdf5.source import find_files
from maekit.data.hdf5.writing import Hdf5File, replacing_hdf5
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from maekit.config.data_spec import DataSpec

PACKED = "maekit_packed"
"""Attribute of a packed file: size and time of change of the file that it was made of, by which an interrupted pack goes on."""
_SLAB_BYTES = 64 << 20
"""Bytes that are copied at once, unless one chunk is larger."""
_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")
"""Attributes that point at other datasets by their place in the file, which is another one in the pack."""


class PackedRecordings(NamedTuple):
    """The folder, its files, and their bytes."""

    folder: Path
    files: int
    bytes: int


def pack_recordings(
    spec: DataSpec, root: Path, target: Path, *, tell: Callable[[str], None] = lambda _line: None
) -> PackedRecordings:
    """Write the files of a data spec anew, with every chunked or compressed dataset of numbers in one piece.

    The pack is read with the same data spec: samples, their order and their random numbers are the same. All else is copied as it is. Memory
    use does not depend on the length of recordings. A file appears under its name when it is complete; the same call goes on after the
    last one.

    Args:
        spec: of HDF5 files.
        root: the folder of the files.
        target: a new folder, or one with an unfinished pack.
        tell: receives one line a file.

    Raises:
        UserError: a file is damaged, the folder holds something else, or the disk is full.
    """
    sources = find_files(root, spec.files or "")
    if target.resolve() == root.resolve() or root.resolve() in target.resolve().parents:
        raise UserError(
            "the pack would lie inside the folder it is made of",
            location=str(target),
            hint="Choose another folder with --to.",
        )
    total = 0
    for number, path in enumerate(sources, 1):
        copy = target / path.relative_to(root)
        state = path.stat()
        origin = f"{state.st_size} {state.st_mtime_ns}"
        if _is_packed(copy, origin):
            tell(f"{copy.name}: packed already ({number} of {len(sources)})")
        else:
            load_filters()
            with open_hdf5(path) as file, damage_as_error(str(path)):
                _write(file, copy, origin)
            tell(f"{copy.name}: {copy.stat().st_size / 2**20:.1f} MiB ({number} of {len(sources)})")
        total += copy.stat().st_size
    return PackedRecordings(target, len(sources), total)


def _is_packed(copy: Path, origin: str) -> bool:
    """Whether a file was packed from the same state of its source.

    Raises:
        UserError: another file has its place.
    """
    if not copy.exists():
        return False
    found = None
    if h5py.is_hdf5(copy):
        with open_hdf5(copy) as file:
            found = file.attrs.get(PACKED)
    if found is None:
        raise UserError(
            "a file that is no pack",
            location=str(copy),
            expected="a new folder, or an unfinished pack of the same files",
            hint="Choose another folder with --to.",
        )
    return bool(found == origin)


def _write(file: h5py.File, copy: Path, origin: str) -> None:
    needed = sum(data.size * data.dtype.itemsize for data in _datasets(file) if _can_be_rewritten(data))
    existing = next(folder for folder in copy.absolute().parents if folder.exists())
    if needed > (free := shutil.disk_usage(existing).free):
        raise UserError(
            "not enough room",
            location=str(copy),
            value=f"{free / 2**30:.1f} GiB free",
            expected=f"{needed / 2**30:.1f} GiB",
        )
    try:
        with replacing_hdf5(copy) as new:
            _Copy(new).group(file["/"], new["/"])
            new.attrs[PACKED] = origin
    except OSError as error:
        if error.errno is None:  # of the library, about the file that is read
            raise
        raise UserError(
            f"cannot write ({error.strerror})",
            location=str(copy),
            hint="Make room and run the same command again: it resumes where it stopped.",
        ) from error


class _Copy:
    """Copies the tree of a file; a second link to an object becomes one again."""

    def __init__(self, new: Hdf5File) -> None:
        self.new = new
        self._copied: dict[Any, str] = {}

    def group(self, old: h5py.Group, new: h5py.Group) -> None:
        """Copy what is in a group."""
        self._copied[h5py.h5o.get_info(old.id).addr] = new.name
        _copy_attributes(old, new)
        for name in old:
            link = old.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                new[name] = link
                continue
            item = old[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in self._copied:
                new[name] = self.new[self._copied[address]]
            elif isinstance(item, h5py.Group):
                self.group(item, new.create_group(name))
            elif isinstance(item, h5py.Dataset) and _can_be_rewritten(item):
                self._dataset(item, new, name)
            else:
                old.copy(name, new)
            self._copied.setdefault(address, f"{new.name.rstrip('/')}/{name}")

    def _dataset(self, old: h5py.Dataset, group: h5py.Group, name: str) -> None:
        # The stored type itself, which NumPy may have no equal for.
        identifier = h5py.h5d.create(
            group.id, name.encode(errors="surrogateescape"), old.id.get_type(), h5py.h5s.create_simple(old.shape)
        )
        new = h5py.Dataset(identifier)
        _copy_attributes(old, new)
        for part in _parts(old):
            new[part] = old[part]
            self.new.check()


def _datasets(file: h5py.File) -> Iterator[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    file.visititems(lambda _name, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    yield from found


def _can_be_rewritten(data: h5py.Dataset) -> bool:
    """Whether a dataset is of numbers that stand in chunks of this file."""
    if data.chunks is None or not data.size or data.dtype.hasobject or data.dtype.kind not in "biufcV":
        return False
    try:
        check_storage(data, data.name)
    except UserError:  # declared but not written, or stored elsewhere: of no use in a pack, and no smaller than it is
        return False
    return True


def _parts(data: h5py.Dataset) -> Iterator[Any]:
    """Selections that cover a chunked dataset and decode each chunk once: slabs of whole rows where these are small, else chunks."""
    chunk = data.chunks[0]
    row_bytes = data.dtype.itemsize * prod(data.shape[1:])
    if chunk * row_bytes > _SLAB_BYTES:
        yield from data.iter_chunks()
        return
    step = max(_SLAB_BYTES // (chunk * row_bytes), 1) * chunk
    for start in range(0, data.shape[0], step):
        yield slice(start, min(start + step, data.shape[0]))


def _copy_attributes(old: Any, new: Any) -> None:
    for name in old.attrs:
        if name in _SCALES:
            continue
        try:
            value = old.attrs[name]
        except (TypeError, ValueError, OSError):  # of a type that NumPy has no equal for: nobody reads it
            continue
        new.attrs.create(
            name, value, dtype=None if isinstance(value, str | h5py.Empty) else old.attrs.get_id(name).dtype
        )
