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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import h5py
import numpy as np
from PIL import Image

from maekit.data.images.folder import ImageFolderSource, decode_picture, resized, resized_shape
from maekit.data.images.packed import FORMAT, MANIFEST, read_manifest
from maekit.errors import UnreadableError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from maekit.config.data_spec import DataSpec
    from maekit.data.images.packed import Form

SHARD_BYTES = 2**30
MOST_SHARDS = 512
"""Each is a descriptor that stays open in every worker."""

_T = TypeVar("_T")
_R = TypeVar("_R")


class Packed(NamedTuple):
    """What was done: the folder, how many samples, and names of those that could not be read (pixels only)."""

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
    tell: Callable[[str], None] = lambda line: None,
) -> Packed:
    """Write a pack of the pictures that `spec` finds below `root`.

    Memory stays small however many there are. Shards appear under their names only when they are whole; stopped,
    the same call goes on after the last of them, and the result is the same to the byte.

    Args:
        spec: of `kind: image_folder`.
        root: its folder.
        target: a new folder, or one where the same pack is unfinished.
        form: `files` keeps every file as it is; `uint8` keeps pixels, in RGB, scaled down until the shorter side is
            `size`: three to five times the bytes, no decoding in training. Those that cannot be read keep their
            place, and are met again in training.
        size: pixels of the shorter side, for `uint8`.
        shards: how many files; by default one for each GiB of what is read, 256 at most.
        workers: threads that read (and decode).
        tell: takes a line a shard.

    Raises:
        UserError: nothing to pack, a target that holds something else, a full disk, files that change meanwhile.
    """
    if spec.kind != "image_folder":
        raise UserError(
            "only folders of pictures are packed",
            location=spec.name,
            value=f"kind: {spec.kind}",
            hint="HDF5 recordings are read as they are.",
        )
    if (root / MANIFEST).exists():
        raise UserError("a pack already", location=str(root), hint="Point data.root at it.")
    source = ImageFolderSource(spec, root)
    if target.resolve() == source.root.resolve() or source.root.resolve() in target.resolve().parents:
        raise UserError(
            "the pack would lie inside the folder it is made of",
            location=str(target),
            hint="Choose a folder beside it.",
        )
    with _held(target), ThreadPoolExecutor(workers) as pool:
        sizes = np.fromiter(_ahead(pool, lambda i: _size(source.path(i)), range(len(source)), workers), dtype=np.int64)
        ends = _cut(sizes, shards)
        plan = hashlib.sha256(
            json.dumps([form, size if form == "uint8" else None, ends, source.info.channels]).encode()
        )
        for name, length in zip(source.names, sizes, strict=True):
            plan.update(b"\0%b\0%d" % (name, length))
        manifest = _begin(target, plan.hexdigest(), form, size, source.classes)
        done = len(manifest["shards"])
        if manifest["complete"]:
            tell(f"{target} holds this pack already")
        elif done:
            tell(f"going on after {done} of {len(ends)} shards")
        if form == "files":
            _check_space(target, int(sizes[ends[done - 1] if done else 0 :].sum()))
        for number in range(done, len(ends)):
            rows = range(ends[number - 1] if number else 0, ends[number])
            entry, unreadable = _write(source, rows, sizes, target / f"{number:05d}.h5", form, size, pool, workers)
            manifest["shards"].append(entry)
            manifest["unreadable"] += unreadable
            manifest["complete"] = number + 1 == len(ends)
            _save(target, manifest)
            tell(
                f"{entry['file']}: {len(rows)} pictures, {entry['bytes'] / 2**20:.1f} MiB ({number + 1} of {len(ends)})"
            )
    return Packed(target, len(source), manifest["unreadable"])


def _cut(sizes: NDArray[np.int64], shards: int | None) -> list[int]:
    """Where each shard ends, all of about the same number of bytes."""
    total = np.cumsum(sizes)
    if shards is None:
        shards = min(256, len(sizes), max(1, -(-int(total[-1]) // SHARD_BYTES)))
    if not 1 <= shards <= min(MOST_SHARDS, len(sizes)):
        raise UserError(
            "no such number of shards",
            location="--shards",
            value=shards,
            expected=f"1 to {min(MOST_SHARDS, len(sizes))} for {len(sizes)} pictures",
        )
    ends = np.searchsorted(total, total[-1] * np.arange(1, shards) / shards, side="right")
    # No shard is empty, however uneven the files are: each ends at least one file after the one before.
    steps = np.arange(1, shards)
    ends = np.maximum.accumulate(np.maximum(ends - steps, 0)) + steps
    return [*np.minimum(ends, len(sizes) - steps[::-1]).tolist(), len(sizes)]


def _begin(target: Path, plan: str, form: Form, size: int, classes: tuple[str, ...] | None) -> dict[str, Any]:
    """The manifest of an unfinished pack of this plan, or a new one."""
    if not (target / MANIFEST).exists():
        strangers = [path.name for path in target.iterdir() if not path.name.startswith(".")]
        if strangers:
            raise UserError(
                "the folder is not empty, and no pack",
                location=str(target),
                value=sorted(strangers)[0],
                expected="a new folder",
            )
        manifest = {
            "maekit_pack": FORMAT,
            "complete": False,
            "plan": plan,
            "form": form,
            "size": size if form == "uint8" else None,
            "classes": list(classes) if classes else None,
            "shards": [],
            "unreadable": [],
        }
        _save(target, manifest)
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


def _write(
    source: ImageFolderSource,
    rows: range,
    sizes: NDArray[np.int64],
    path: Path,
    form: Form,
    size: int,
    pool: ThreadPoolExecutor,
    workers: int,
) -> tuple[dict[str, Any], list[str]]:
    """One shard; returns its entry in the manifest, and which could not be read."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    lengths, shapes, unreadable = sizes[rows.start : rows.stop], None, []
    if form == "uint8":
        shapes = np.array(list(_ahead(pool, lambda i: _shape(source.path(i), size), rows, workers)), dtype=np.int64)
        lengths = shapes.prod(1) * 3
    offsets = np.concatenate([[0], lengths.cumsum()])
    take = _content if form == "files" else partial(_pixels, size=size)
    try:
        with h5py.File(unfinished, "w") as file:
            # Contiguous: readers fetch bytes by their place in the file.
            data = file.create_dataset("bytes", (max(1, int(offsets[-1])),), dtype=np.uint8)
            data[-1] = 0
            for i, content in enumerate(_ahead(pool, lambda row: take(source.path(row)), rows, workers)):
                location = source.path(rows[i])
                if content is None and shapes is not None:
                    shapes[i] = 0
                    unreadable.append(os.fsdecode(source.names[rows[i]]))
                elif content is None or len(content) != lengths[i]:
                    raise UserError(
                        "a file that changes while it is packed",
                        location=str(location),
                        value=None if content is None else len(content),
                        expected=f"{lengths[i]} bytes",
                        hint="Run the command again when it is still.",
                    )
                else:
                    data[offsets[i] : offsets[i + 1]] = content
            file["offset"], file["name"] = offsets, source.names[rows.start : rows.stop]
            file["side"] = source.groups[rows.start : rows.stop].astype("S")
            if source.labels is not None:
                file["label"] = source.labels[rows.start : rows.stop]
            if shapes is not None:
                file["shape"] = shapes
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        unfinished.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write ({error})",
            location=str(path),
            hint="Make room and run the same command again: it goes on where it stopped.",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return {"file": path.name, "samples": len(rows), "bytes": path.stat().st_size, "sha256": digest}, unreadable


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", location=str(path)) from error


def _content(path: Path) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", location=str(path), hint="The same command goes on where it stopped."
        ) from error


def _shape(path: Path, shorter: int) -> tuple[int, ...]:
    """(height, width) that a picture will be packed with, from its header; zeros where it has none."""
    try:
        with Image.open(path) as picture:
            return resized_shape((picture.height, picture.width), shorter)
    except Exception:  # as in `decode_picture`, which says what is wrong
        return (0, 0)


def _pixels(path: Path, *, size: int) -> NDArray[np.uint8] | None:
    try:
        return resized(decode_picture(_content(path).tobytes(), str(path)), size).transpose(1, 2, 0).reshape(-1)
    except UnreadableError:
        return None


def _ahead(pool: ThreadPoolExecutor, work: Callable[[_T], _R], items: Iterable[_T], workers: int) -> Iterator[_R]:
    """`work` on each item, in order, a few ahead of who takes the results: so memory stays small."""
    waiting: deque[Future[_R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _check_space(target: Path, wanted: int) -> None:
    free = shutil.disk_usage(target).free
    if free < wanted:
        raise UserError(
            "not enough room",
            location=str(target),
            value=f"{free / 2**30:.1f} GiB free",
            expected=f"{wanted / 2**30:.1f} GiB",
        )


def _save(target: Path, manifest: dict[str, Any]) -> None:
    unfinished = target / f".{MANIFEST}.unfinished"
    with unfinished.open("w") as stream:
        json.dump(manifest, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(target / MANIFEST)


@contextmanager
def _held(target: Path) -> Iterator[None]:
    """Nobody else packs into this folder meanwhile."""
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
        yield
