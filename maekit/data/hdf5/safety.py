"""Opening HDF5 files that somebody else wrote: what could lie or leave the file is refused before it is read."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any

import h5py

from maekit.data.hdf5.examine import DAMAGED_HINT, examine
from maekit.errors import UserError, nearest

DECLARED_LIMIT = 2**30
"""Bytes up to which a dataset may declare more than is stored (compression, within reason)."""
DECLARED_RATIO = 500
"""Declared over stored bytes beyond which a large dataset is taken for a memory bomb."""
BLOCK_LIMIT = 2**30
"""Bytes of one chunk, window or label dataset that are read at once."""
_SOFT_LINKS = 32


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading, once a child process has walked through the file.

    Raises:
        UserError: missing, a folder, not HDF5, damaged, or open in another program.
    """
    location = str(path)
    if path.is_dir():
        raise UserError("a folder where an HDF5 file is expected", location=location, hint="Give the file inside it.")
    if not path.is_file():
        raise UserError("no such file", location=location, expected="an HDF5 file")
    try:
        if not h5py.is_hdf5(path):
            raise UserError(
                "not an HDF5 file",
                location=location,
                value=_beginning(path),
                expected="a file that begins with the HDF5 signature",
                hint="`maekit data convert` makes HDF5 from CSV, NPY, NPZ, MAT and WAV.",
            )
        examine(path)
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"damaged or truncated HDF5 file ({error})", location=location, hint=DAMAGED_HINT) from None


@contextmanager
def damage_as_error(location: str) -> Iterator[None]:
    """Turn what h5py raises inside the block into an error that names the file.

    Args:
        location: of the file or dataset.

    Raises:
        UserError: an exception came from within h5py. Others pass unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not _comes_from_h5py(error):
            raise
        raise UserError(
            f"damaged HDF5 file, or of a type that is not read ({type(error).__name__}: {error})",
            location=location,
            hint=DAMAGED_HINT,
        ) from None


def _comes_from_h5py(error: Exception) -> bool:
    trace, module = error.__traceback__, ""
    while trace is not None:
        module, trace = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_next
    return module.split(".")[0] == "h5py"


def follow(file: h5py.File, path: str, record: str = "/") -> Any:
    """The group or dataset at `path` inside `record`, never leaving the file.

    Raises:
        UserError: nothing there (with the nearest dataset), an external link, or a soft link that leads nowhere.
    """
    return _walk(
        file, _absolute(path, record), location=f"{file.filename}:{_absolute(path, record)}", links=_SOFT_LINKS
    )


def find_dataset(file: h5py.File, path: str, record: str) -> h5py.Dataset:
    """Like `follow`, and it is a dataset."""
    found = follow(file, path, record)
    if isinstance(found, h5py.Datatype):
        raise UserError(
            "a named type where a dataset is expected",
            location=f"{file.filename}:{_absolute(path, record)}",
            expected="one of " + (", ".join(dataset_names(file)) or "(no dataset is in it)"),
            hint="Correct the `path` in the data spec.",
        )
    if not isinstance(found, h5py.Dataset):
        raise UserError(
            "a group where a dataset is expected",
            location=f"{file.filename}:{_absolute(path, record)}",
            expected="one of " + (", ".join(dataset_names(found)) or "(no dataset is in it)"),
            hint="Correct the `path` in the data spec.",
        )
    return found


def find_records(file: h5py.File, pattern: str | None) -> list[str]:
    """Paths of the groups that match a pattern such as `/*` (None: the file itself is the one recording).

    Raises:
        UserError: none does.
    """
    found = ["/"]
    for part in [part for part in (pattern or "").split("/") if part]:
        matches = []
        for parent in found:
            group = follow(file, parent)
            names = [name for name in group if fnmatchcase(name, part)]
            # A dataset beside the recordings is no recording; a link is followed only inside the file.
            matches += [path for name in names if _is_group(file, path := f"{parent.rstrip('/')}/{name}")]
        found = matches
    if not found:
        raise UserError(
            "no HDF5 group matches `records`",
            location=file.filename,
            value=pattern,
            expected="a pattern of groups; the file holds " + (", ".join(list(file)[:20]) or "nothing"),
            hint="Correct `records`, or omit it where the whole file is one recording.",
        )
    return sorted(found)


def dataset_names(group: h5py.Group, limit: int = 200) -> list[str]:
    """Paths of the datasets below a group, without following links."""
    names: list[str] = []

    def visit(name: str, item: object) -> bool | None:
        if isinstance(item, h5py.Dataset):
            names.append(name)
        return True if len(names) >= limit else None

    group.visititems(visit)
    return names


def check_storage(dataset: h5py.Dataset, location: str) -> None:
    """Refuse what is not really stored in this file, before a byte of it is read.

    Raises:
        UserError: virtual, external, declared far beyond what is stored, unwritten, or a filter that is not there.
    """
    if dataset.shape is None:
        raise UserError(
            "a dataset without a value (a null dataspace)",
            location=location,
            expected="stored values",
            hint="Write the values, or leave the recording out.",
        )
    properties = dataset.id.get_create_plist()
    if dataset.is_virtual:
        raise UserError(
            "a virtual dataset, whose values stand in other files",
            location=location,
            expected="values stored in the file itself",
            hint="Write the values into the file (h5repack does not; read and write them once).",
        )
    if properties.get_external_count():
        raise UserError(
            "external storage, values kept in another file",
            location=location,
            value=properties.get_external(0)[0],
            expected="values stored in the file itself",
            hint="Copy the dataset into one file with `h5repack`.",
        )
    declared, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if declared > DECLARED_LIMIT and declared > DECLARED_RATIO * stored:
        raise UserError(
            f"the shape declares {declared / 2**30:.1f} GiB but {stored} bytes are stored",
            location=location,
            value=dataset.shape,
            expected=f"at most {DECLARED_RATIO} declared bytes for each stored one",
            hint="Write the dataset with the shape that was really recorded.",
        )
    if dataset.chunks is not None:
        grid = prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        written = dataset.id.get_num_chunks() if grid else 0
        if written < grid:
            raise UserError(
                "chunks that were never written would read as fill values",
                location=location,
                value=f"{written} of {grid} chunks",
                expected="every chunk written",
                hint="Resize the dataset to what was recorded, or write NaN where nothing was.",
            )
        if prod(dataset.chunks) * dataset.dtype.itemsize > BLOCK_LIMIT:
            raise UserError(
                "one chunk is too large to decode at once",
                location=location,
                value=dataset.chunks,
                expected=f"chunks of at most {BLOCK_LIMIT / 2**30:.0f} GiB",
                hint="Rewrite it with smaller chunks (`h5repack`).",
            )
    elif declared and not stored:
        raise UserError(
            "a dataset that was never written would read as fill values",
            location=location,
            value=dataset.shape,
            expected="stored values",
            hint="Write the values, or leave the recording out.",
        )
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            load_filters()
        if not h5py.h5z.filter_avail(code):
            raise UserError(
                "compressed with a filter that is not installed",
                location=location,
                value=name.decode(errors="replace") or code,
                hint="Install the extra: pip install 'maekit[sensors]'.",
            )


def load_filters() -> None:
    """Register the compression filters of hdf5plugin, where it is installed."""
    with suppress(ImportError):
        importlib.import_module("hdf5plugin")


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(24)


def field_hint(key: str) -> str:
    """What makes a dataset of one field of compound values: a rule in the data spec.

    Args:
        key: path of the compound dataset, a point, the field.
    """
    return (
        "Convert the file: `convert: {streams: {NAME: {files: '*.h5', key: "
        + key.strip("/")
        + "}}}` in the data spec names one field."
    )


def _absolute(path: str, record: str) -> str:
    return path if path.startswith("/") else f"{record.rstrip('/')}/{path}"


def _is_group(file: h5py.File, path: str) -> bool:
    return isinstance(follow(file, path), h5py.Group)


def _walk(file: h5py.File, path: str, *, location: str, links: int) -> Any:
    item: Any = file["/"]
    here = ""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for i, part in enumerate(parts):
        if ".." in parts:
            raise UserError(
                "`..` has no meaning in an HDF5 path", location=location, hint="Give the path from the record."
            )
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) and part in item.keys() else None  # noqa: SIM118
        if isinstance(link, h5py.ExternalLink):
            raise UserError(
                "an external link, which leaves the file",
                location=location,
                value=f"{link.filename}:{link.path}",
                expected="values stored in the file itself",
                hint="Copy what it points to into the file (`h5copy`).",
            )
        if isinstance(link, h5py.SoftLink):
            target = "/".join([_absolute(link.path, here or "/"), *parts[i + 1 :]])
            if not links:
                raise UserError("soft links that go round in a circle", location=location, value=link.path)
            try:
                return _walk(file, target, location=location, links=links - 1)
            except UserError as error:
                if error.problem != "nothing stands here":
                    raise
                raise UserError(
                    "a soft link to nothing",
                    location=location,
                    value=link.path,
                    expected="a link to something in the same file",
                    hint="Mend the link or name the target itself.",
                ) from None
        if isinstance(item, h5py.Dataset) and part in (item.dtype.names or ()):
            raise UserError(
                "a field of compound values, which is read by conversion only",
                location=location,
                value=part,
                expected="a dataset",
                hint=field_hint(f"{here}.{part}"),
            )
        if link is None:
            known = dataset_names(file)
            short = {name.rsplit("/", 1)[-1]: name for name in known}
            near = nearest(path.strip("/"), known) or nearest(parts[-1], short)
            raise UserError(
                "nothing stands here",
                location=location,
                expected="a dataset or group of the file; datasets: " + (", ".join(known[:20]) or "none"),
                hint=near or "Correct the path in the data spec; `maekit data inspect` shows the tree.",
            )
        here = f"{here}/{part}"
        item = item[part]
    return item
