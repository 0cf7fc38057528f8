"""Zip archives and packed files, within limits of size and inside their folder."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from maekit.errors import UserError
from maekit.files import described_errors, partial_path, remove

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 4 << 30
"""Largest size of an unpacked file."""

HARMLESS_BYTES = 256 << 20
"""Up to this size any compression ratio is accepted; above it, at most `MAX_RATIO`."""

MAX_RATIO = 500
PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""Endings of packed files, and what opens them."""
_BLOCK = 16 << 20


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive, all of whose members would be unpacked inside the target folder.

    Raises:
        UserError: it is not a zip archive, is damaged, or has a member with a path that leaves the folder.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UserError(f"not a sound zip archive ({error})", location=str(path), hint="Copy it again.") from error
    for name in archive.namelist():
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            archive.close()
            raise UserError(
                "a member that would be written outside the folder",
                location=str(path),
                value=name,
                hint="Do not trust this archive.",
            )
        if not name.endswith("/") and not PurePosixPath(name).parts:
            archive.close()
            raise UserError(
                "a member that names no file",
                location=str(path),
                value=name,
                expected="a path inside of the archive",
                hint="Is it damaged? Copy it again, or unpack it yourself.",
            )
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Unpack one member of a zip archive.

    Raises:
        UserError: it is damaged or encrypted, or its size or compression ratio is over the limit.
    """
    location = str(archive.filename)
    check_members(archive, location, [name])
    try:
        return archive.read(name)
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"cannot be unpacked ({error})",
            location=f"{location}!{name}",
            hint="Is it damaged or encrypted? Copy it again, or unpack it yourself.",
        ) from error


def check_members(archive: zipfile.ZipFile, location: str, names: Sequence[str]) -> None:
    """Refuse members over the limits of size and compression ratio.

    Raises:
        UserError: see above.
    """
    for name in names:
        info = archive.getinfo(name)
        _check_size(info.file_size, info.compress_size, f"{location}!{name}")


def read_limited(path: Path) -> bytes:
    """The bytes of a file, unpacked if its ending is one of `PACKED`.

    Raises:
        UserError: it is damaged, or packed and over the limits of size and compression ratio.
    """
    packed = path.stat().st_size
    try:
        if path.suffix not in PACKED:
            return path.read_bytes()
        blocks, size = [], 0
        with PACKED[path.suffix](path) as file:
            while block := file.read(_BLOCK):
                size += len(block)
                _check_size(size, packed, str(path))
                blocks.append(block)
        return b"".join(blocks)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"cannot be read ({error})", location=str(path), hint="Is it cut off? Copy it again."
        ) from error


def unpack(source: Path, target: Path) -> Path:
    """Unpack a zip archive to a folder; top-level folders of the archive replace those of the same names, others stay.

    Returns:
        The folder.

    Raises:
        UserError: the archive is damaged, there is not enough space, or a folder to replace holds files of others. Nothing
            is then changed.
    """
    with open_zip(source) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        target.mkdir(parents=True, exist_ok=True)
        size, free = sum(info.file_size for info in archive.infolist()), shutil.disk_usage(target).free
        if size > free:
            raise UserError(
                "not enough space", location=str(target), value=f"{free >> 20} MiB", expected=f"{size >> 20} MiB"
            )
        folder = partial_path(target / "archive")
        with described_errors(target, size):
            try:
                for name in names:
                    path = folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(read_member(archive, name))
                # `PurePosixPath` drops the dot of `./a`, which would stand for the target itself.
                members = {PurePosixPath(name) for name in names}
                tops = sorted({member.parts[0] for member in members})
                for name in tops:
                    _check_nothing_else(target, name, members)
                _put_in_place(folder, target, tops)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise UserError(f"a name is both file and folder ({error})", location=str(source)) from error
            finally:
                remove(folder)
    return target


def _put_in_place(folder: Path, target: Path, names: Sequence[str]) -> None:
    """Move files and folders from `folder` to `target`; after a failure everything there is as before.

    Raises:
        OSError: one cannot be replaced.
    """
    before = partial_path(target / "before")
    before.mkdir()
    done: list[str] = []
    try:
        for name in names:
            done.append(name)
            if (target / name).exists():
                (target / name).rename(before / name)
            (folder / name).rename(target / name)
    except OSError as error:
        error.filename = str(target / done[-1])
        for name in done:
            if (before / name).exists():
                if (target / name).exists():
                    (target / name).rename(folder / name)
                (before / name).rename(target / name)
        remove(before)
        raise
    remove(before)


def _check_nothing_else(target: Path, name: str, members: set[PurePosixPath]) -> None:
    """Refuse to replace a folder that holds files which are not of the archive."""
    for path in sorted((target / name).rglob("*")):
        inside = path.relative_to(target)
        if not path.is_dir() and PurePosixPath(inside.as_posix()) not in members:
            raise UserError(
                "a folder that would be replaced holds a file which is not in the archive",
                location=str(target / name),
                value=str(inside),
                hint="Move it away, or choose another folder with --to.",
            )


def _check_size(unpacked: int, packed: int, location: str) -> None:
    if unpacked > MAX_BYTES or unpacked > max(HARMLESS_BYTES, MAX_RATIO * packed):
        raise UserError(
            "unpacks to an absurd size",
            location=location,
            value=f"more than {unpacked >> 20} MiB from {packed >> 10} KiB",
            expected=f"at most {MAX_BYTES >> 30} GiB, and above {HARMLESS_BYTES >> 20} MiB at most {MAX_RATIO} times "
            "the packed size",
            hint="Unpack it yourself if it is sound.",
        )
