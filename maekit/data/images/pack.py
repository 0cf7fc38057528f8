"""Pack a folder of pictures into a few HDF5 files; `maekit.data.images.packed` reads them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from maekit.data.hdf5.writing import Hdf5File, hdf5_file
from maekit.data.images.folder import ImageFolderSource
from maekit.data.images.packed import FORMAT, MANIFEST, read_manifest
from maekit.data.images.picture import decode_header, decode_picture, resize_shorter_side, resized_shape
from maekit.errors import UnreadableError, UserError
from maekit.files import UNFINISHED, remove, replacing, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from maekit.config.data_spec import DataSpec
    from maekit.data.images.packed import Form

SHARD_BYTES = 2**30
MAX_SHARDS = 512
"""Each shard is a file descriptor that stays open in every worker."""

_T = TypeVar("_T")
_R = TypeVar("_R")


class PackResult(NamedTuple):
    """The folder of a pack, its number of samples, and the pictures that could not be decoded (form `uint8` only)."""

    folder: Path
    samples: int
    unreadable: list[str]


def pack(
    spec: DataSpec,
    root: Path,
    target: Path,
    *,
    form: Form = "files",
    size: int = 256,
    shards: int | None = None,
    workers: int = 8,
    tell: Callable[[str], None] = lambda _line: None,
) -> PackResult:
    """Pack the pictures that `spec` finds below `root`.

    Memory use does not depend on their number. A shard appears under its name only when it is complete. The same call
    resumes an interrupted pack after its last shard, and the result is the same to the byte.

    Args:
        spec: of `kind: image_folder`.
        root: the folder of the pictures.
        target: a new folder, or one with an unfinished pack of the same pictures and options.
        form: `files` keeps every file as it is. `uint8` stores pixels, scaled down until the shorter side is `size`:
            three to five times the bytes, and no decoding in training. A picture that cannot be decoded keeps its
            place and is reported as unreadable in training.
        size: pixels of the shorter side, for `uint8`.
        shards: number of files; by default one for each GiB that is read, 256 at most.
        workers: threads that read and decode.
        tell: receives one line a shard.

    Raises:
        UserError: there is nothing to pack, the target holds something else, the disk is full, or a file changes
            while it is packed.
    """
    source = _open_source(spec, root, target)
    with _lock(target), ThreadPoolExecutor(workers) as pool:
        ahead = _Ahead(pool, workers)
        sizes = np.fromiter(ahead(lambda i: _size(source.path(i)), range(len(source))), dtype=np.int64)
        ends = _cut(sizes, shards)
        manifest = _open_manifest(target, _plan(source, sizes, ends, form, size), form, size, source)
        done = len(manifest["shards"])
        if manifest["complete"]:
            tell(f"{target} holds this pack already")
        elif done:
            tell(f"resuming after {done} of {len(ends)} shards")
        if form == "files":
            _check_space(target, int(sizes[ends[done - 1] if done else 0 :].sum()))
        writer = _ShardWriter(source, sizes, form, size, ahead)
        for number in range(done, len(ends)):
            rows = range(ends[number - 1] if number else 0, ends[number])
            entry, unreadable = writer.write(target / f"{number:05d}.h5", rows)
            manifest["shards"].append(entry)
            manifest["unreadable"] += unreadable
            manifest["complete"] = number + 1 == len(ends)
            _save_manifest(target, manifest)
            tell(
                f"{entry['file']}: {len(rows)} pictures, {entry['bytes'] / 2**20:.1f} MiB ({number + 1} of {len(ends)})"
            )
    return PackResult(target, len(source), manifest["unreadable"])


def _open_source(spec: DataSpec, root: Path, target: Path) -> ImageFolderSource:
    """The folder to pack, once `spec`, `root` and `target` allow it."""
    if spec.kind != "image_folder":
        raise UserError(
            "only folders of pictures are packed",
            location=spec.name,
            value=f"kind: {spec.kind}",
            hint="`maekit data pack` packs recordings, too.",
        )
    if (root / MANIFEST).exists():
        raise UserError("a pack already", location=str(root), hint="Point data.root at it.")
    source = ImageFolderSource(spec, root)
    if target.resolve() == source.root.resolve() or source.root.resolve() in target.resolve().parents:
        raise UserError(
            "the pack would lie inside the folder it is made of",
            location=str(target),
            hint="Choose another folder with --to.",
        )
    return source


def _cut(sizes: NDArray[np.int64], shards: int | None) -> list[int]:
    """Index after the last picture of each shard, such that shards have about the same number of bytes."""
    total = np.cumsum(sizes)
    if shards is None:
        shards = min(256, len(sizes), max(1, -(-int(total[-1]) // SHARD_BYTES)))
    if not 1 <= shards <= min(MAX_SHARDS, len(sizes)):
        raise UserError(
            "no such number of shards",
            location="--shards",
            value=shards,
            expected=f"1 to {min(MAX_SHARDS, len(sizes))} for {len(sizes)} pictures",
        )
    steps = np.arange(1, shards)
    ends = np.searchsorted(total, total[-1] * steps / shards, side="right")
    # No shard is empty, however uneven the files are: each ends at least one file after the previous one.
    ends = np.maximum.accumulate(np.maximum(ends - steps, 0)) + steps
    return [*np.minimum(ends, len(sizes) - steps[::-1]).tolist(), len(sizes)]


def _plan(source: ImageFolderSource, sizes: NDArray[np.int64], ends: list[int], form: Form, size: int) -> str:
    """Digest of everything that decides the bytes of a pack, by which an unfinished one is recognised."""
    plan = hashlib.sha256(json.dumps([form, size if form == "uint8" else None, ends, source.info.channels]).encode())
    for name, length in zip(source.names, sizes, strict=True):
        plan.update(b"\0%b\0%d" % (name, length))
    return plan.hexdigest()


def _open_manifest(target: Path, plan: str, form: Form, size: int, source: ImageFolderSource) -> dict[str, Any]:
    """The manifest of the unfinished pack of this plan, or a new one."""
    if not (target / MANIFEST).exists():
        foreign = sorted(path.name for path in target.iterdir() if not path.name.startswith("."))
        if foreign:
            raise UserError(
                "the folder is not empty, and no pack", location=str(target), value=foreign[0], expected="a new folder"
            )
        manifest = {
            "maekit_pack": FORMAT,
            "complete": False,
            "plan": plan,
            "form": form,
            "size": size if form == "uint8" else None,
            "channels": source.channels,
            "classes": list(source.classes) if source.classes else None,
            "shards": [],
            "unreadable": [],
        }
        _save_manifest(target, manifest)
        return manifest
    manifest = {**json.loads((target / MANIFEST).read_text()), **read_manifest(target)}
    if manifest["plan"] != plan:
        raise UserError(
            "another pack" if manifest["complete"] else "an unfinished pack of other files or options",
            location=str(target),
            expected="a new folder, or the unfinished pack of the same files, form, size and shards",
            hint="Choose another folder, or remove this one.",
        )
    return manifest


@dataclass(frozen=True)
class _ShardWriter:
    """Writes one shard at a time.

    Args:
        source: the pictures.
        sizes: bytes of each picture's file when packing began.
        form: see `pack`.
        size: see `pack`.
        ahead: runs the reading of files in threads.
    """

    source: ImageFolderSource
    sizes: NDArray[np.int64]
    form: Form
    size: int
    ahead: _Ahead

    def write(self, path: Path, rows: range) -> tuple[dict[str, Any], list[str]]:
        """Write the pictures `rows`; returns the shard's entry in the manifest and the names of unreadable pictures.

        Raises:
            UserError: the disk is full, or a file has changed since packing began.
        """
        try:
            with replacing(path) as partial:
                with hdf5_file(partial) as file:
                    unreadable = self._fill(file, rows)
                with partial.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise UserError(
                f"cannot write ({error})",
                location=str(path),
                hint="Make room and run the same command again: it resumes where it stopped.",
            ) from error
        return {"file": path.name, "samples": len(rows), "bytes": path.stat().st_size, "sha256": digest}, unreadable

    def _fill(self, file: Hdf5File, rows: range) -> list[str]:
        source, unreadable = self.source, list[str]()
        lengths, shapes = self.sizes[rows.start : rows.stop], None
        if self.form == "uint8":
            shapes = np.array(list(self.ahead(self._shape, rows)), dtype=np.int64)
            lengths = shapes.prod(1) * source.channels
        offsets = np.concatenate([[0], lengths.cumsum()])
        # Contiguous: readers fetch bytes by their position in the file.
        data = file.create_dataset("bytes", (max(1, int(offsets[-1])),), dtype=np.uint8)
        data[-1] = 0
        for i, content in enumerate(self.ahead(self._content if shapes is None else self._pixels, rows)):
            if content is None and shapes is not None:
                shapes[i] = 0
                unreadable.append(os.fsdecode(source.names[rows[i]]))
            elif content is None or len(content) != lengths[i]:
                raise UserError(
                    "a file that changes while it is packed",
                    location=str(source.path(rows[i])),
                    value=None if content is None else len(content),
                    expected=f"{lengths[i]} bytes",
                    hint="Run the command again when nothing writes to the folder.",
                )
            else:
                file.check()
                data[offsets[i] : offsets[i + 1]] = content
        file["offset"], file["name"] = offsets, source.names[rows.start : rows.stop]
        file["side"] = source.groups[rows.start : rows.stop].astype("S")
        if source.labels is not None:
            file["label"] = source.labels[rows.start : rows.stop]
        if shapes is not None:
            file["shape"] = shapes
        return unreadable

    def _content(self, row: int) -> NDArray[np.uint8]:
        path = self.source.path(row)
        try:
            return np.frombuffer(path.read_bytes(), dtype=np.uint8)
        except OSError as error:
            raise UserError(
                f"cannot be read ({error.strerror})", location=str(path), hint="The same command resumes the pack."
            ) from error

    def _shape(self, row: int) -> tuple[int, ...]:
        """(height, width) that a picture will be packed with, from its header; zeros where it cannot be read."""
        header = decode_header(self._content(row).tobytes())
        return (0, 0) if header is None else resized_shape((header.height, header.width), self.size)

    def _pixels(self, row: int) -> NDArray[np.uint8] | None:
        """Pixels in rows; None for a picture that cannot be decoded."""
        try:
            picture = decode_picture(self._content(row).tobytes(), str(self.source.path(row)), self.source.channels)
        except UnreadableError:
            return None
        return resize_shorter_side(picture, self.size).transpose(1, 2, 0).reshape(-1)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", location=str(path)) from error


@dataclass(frozen=True)
class _Ahead:
    """Runs a function on items in threads and yields the results in order, only a few ahead of the consumer."""

    pool: ThreadPoolExecutor
    workers: int

    def __call__(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        waiting: deque[Future[_R]] = deque()
        try:
            for item in items:
                waiting.append(self.pool.submit(function, item))
                if len(waiting) > 4 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target).free
    if free < needed:
        raise UserError(
            "not enough room",
            location=str(target),
            value=f"{free / 2**30:.1f} GiB free",
            expected=f"{needed / 2**30:.1f} GiB",
        )


def _save_manifest(target: Path, manifest: dict[str, Any]) -> None:
    write_text(target / MANIFEST, json.dumps(manifest, indent=1))


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Create the folder, keep other processes from packing into it, and remove partial files of earlier ones."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        lock = (target / ".lock").open("a")
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})", location=str(target), hint="Choose another with --to."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "another process is packing into this folder", location=str(target), hint="Wait for it."
            ) from error
        for leftover in target.glob(f".*{UNFINISHED}"):  # of a process that was killed
            remove(leftover)
        yield
