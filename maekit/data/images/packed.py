"""A folder of pictures packed into a few HDF5 files: the same samples, read in one access each.

A pack is a folder with `pack.json` (what it holds, SHA-256 of every shard) and shards `00000.h5`, `00001.h5`, ...,
each with `bytes` (everything, one after the other), `offset` (n + 1), `name` (as in the folder), `side`, `label`
(with class folders) and `shape` (height, width; of pixels only).

Why bytes in one contiguous dataset, read beside the HDF5 library: measured on 2 shared cores (EPYC, warm cache), 1,200 JPEG
of 67 kB in random order, reading alone: files 29,000 a second; a variable-length dataset through h5py 9,300; slices of
a contiguous dataset through h5py 34,000; the same bytes by `pread` at the dataset's place in the file 45,000. The last
is also what survives `fork`: nothing is shared but a descriptor without a position. Beside decoding (1 to 4 ms) all of them are small;
what packing saves is the opening of 1.28 million files, which costs where this cannot show it: on network disks. Pixels
(`uint8`, shorter side 256) come at 13,500 a second, for four times the bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from maekit.data.fingerprint import fingerprint_of
from maekit.data.hdf5.safety import open_hdf5
from maekit.data.images.folder import INFO, ImageFolderSource, decode_picture
from maekit.data.sample import Sample, SignalInfo, Source
from maekit.errors import UnreadableError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from maekit.config.data_spec import DataSpec

MANIFEST = "pack.json"
FORMAT = 1
Form = Literal["files", "uint8"]
_AGAIN = "Copy the pack again, or make it again with `maekit data pack`."


def open_folder(spec: DataSpec, root: Path, *, labels: bool = True) -> Source:
    """The source of a `kind: image_folder` data spec: of a pack where `root` is one, else of the folder.

    Raises:
        UserError: as the two.
    """
    if (root / MANIFEST).exists():
        return PackedFolder(spec, root, labels=labels)
    return ImageFolderSource(spec, root, labels=labels)


@dataclass(frozen=True)
class _Shard:
    """One file, and where its bytes begin and end there."""

    path: Path
    first: int
    sha256: str
    location: int
    offsets: NDArray[np.int64]
    names: NDArray[np.bytes_]
    sides: NDArray[np.str_]
    labels: NDArray[np.int64] | None
    shapes: NDArray[np.int64] | None


class PackedFolder:
    """What `ImageFolderSource` gives, in the same order, from a pack; see `maekit.data.sample.Source`.

    Packed files are decoded as they would be in the folder, so samples, fingerprint and with them whole runs are the
    same. Packed pixels (`uint8`) are what they were resized to, and have a fingerprint of their own.

    Args:
        spec: its name.
        root: the folder with `pack.json`.
        labels: False where the task needs none.

    Raises:
        UserError: a pack that is unfinished, damaged, or of a later maekit.
    """

    def __init__(self, spec: DataSpec, root: Path, *, labels: bool = True) -> None:
        manifest = read_manifest(root)
        if not manifest["complete"]:
            raise UserError(
                "an unfinished pack",
                location=str(root / MANIFEST),
                hint="Run the same `maekit data pack` again: it goes on where it stopped.",
            )
        self.spec, self.root, self.info, self.form = spec, root, INFO, manifest["form"]
        shards: list[_Shard] = []
        for entry in manifest["shards"]:
            first = shards[-1].first + len(shards[-1].names) if shards else 0
            shards.append(_open_shard(root, entry, first, self.form, manifest["classes"]))
        self._shards = shards
        self._firsts = np.array([shard.first for shard in shards])
        self._files: dict[int, BinaryIO] = {}
        self.groups = np.concatenate([shard.sides for shard in shards])
        self.objects: tuple[str, ...] | None = None
        self.auxiliary: dict[str, SignalInfo] = {}
        self.classes = tuple(manifest["classes"]) if labels and manifest["classes"] else None
        self.labels: NDArray[Any] | None = None
        if self.classes:
            self.labels = np.concatenate([shard.labels for shard in shards if shard.labels is not None])

    def __len__(self) -> int:
        return len(self.groups)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def __getitem__(self, index: int) -> Sample:
        number, i = self._find(index)
        shard = self._shards[number]
        location = f"{shard.path}:/{os.fsdecode(shard.names[i])}"
        content = self._read(index, 0, self._size(index))
        if shard.shapes is None:
            picture = decode_picture(content, location)
        else:
            height, width = (int(n) for n in shard.shapes[i])
            if not height:
                raise UnreadableError(
                    "could not be read when it was packed", location=location, hint="Replace the file and pack again."
                )
            pixels = np.frombuffer(bytearray(content), dtype=np.uint8)
            picture = pixels.reshape(height, width, 3).transpose(2, 0, 1)
        label = None if self.labels is None else int(self.labels[index])
        return Sample(picture, None, label, str(self.groups[index]), location)

    def fingerprint(self) -> str:
        """Of packed files that of the folder they came from; of pixels one of their own."""
        names = [os.fsdecode(name) for shard in self._shards for name in shard.names]
        return fingerprint_of(names, self._size, self._read, self.spec.name)

    def verify(self) -> Iterator[str]:
        """Read every byte and compare digests, a line a shard.

        Raises:
            UserError: the first shard that is not as it was packed.
        """
        for shard in self._shards:
            with shard.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != shard.sha256:
                raise UserError(
                    "a shard that is not as it was packed",
                    location=str(shard.path),
                    value=found,
                    expected=f"SHA-256 {shard.sha256}",
                    hint=_AGAIN,
                )
            yield f"{shard.path.name}: {len(shard.names)} samples, SHA-256 as packed"

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return number, index - self._shards[number].first

    def _size(self, index: int) -> int:
        number, i = self._find(index)
        offsets = self._shards[number].offsets
        return int(offsets[i + 1] - offsets[i])

    def _read(self, index: int, start: int, length: int) -> bytes:
        number, i = self._find(index)
        shard = self._shards[number]
        try:
            if number not in self._files:
                self._files[number] = shard.path.open("rb", buffering=0)
            content = os.pread(self._files[number].fileno(), length, shard.location + int(shard.offsets[i]) + start)
        except OSError as error:
            raise UnreadableError(
                f"cannot be read ({error.strerror})", location=str(shard.path), hint=_AGAIN
            ) from error
        if len(content) != length:
            raise UnreadableError("a shard that ends too early", location=str(shard.path), hint=_AGAIN)
        return content


def read_manifest(root: Path) -> dict[str, Any]:
    """What `pack.json` says.

    Raises:
        UserError: damaged, or of a later maekit.
    """
    location = str(root / MANIFEST)
    try:
        found = json.loads((root / MANIFEST).read_text())
        version = found["maekit_pack"]
        if isinstance(version, int) and version > FORMAT:
            raise UserError(
                "a pack of a later maekit",
                location=location,
                value=version,
                expected=f"at most {FORMAT}",
                hint="Install a newer maekit.",
            )
        found = {key: found[key] for key in ("plan", "complete", "form", "size", "classes", "shards")}
        for shard in found["shards"]:
            shard = {key: shard[key] for key in ("file", "samples", "bytes", "sha256")}
            if Path(shard["file"]).name != shard["file"]:
                raise ValueError(shard["file"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"no manifest of a pack ({type(error).__name__}: {error})", location=location, hint=_AGAIN
        ) from error
    return found


def _open_shard(root: Path, entry: dict[str, Any], first: int, form: Form, classes: list[str] | None) -> _Shard:
    path = root / entry["file"]
    size = path.stat().st_size if path.is_file() else None
    if size != entry["bytes"]:
        raise UserError(
            "a missing shard" if size is None else "a shard of another size",
            location=str(path),
            value=size,
            expected=f"{entry['bytes']} bytes",
            hint=_AGAIN,
        )
    try:
        with open_hdf5(path) as file:
            dataset = file["bytes"]
            shard = _Shard(
                path,
                first,
                entry["sha256"],
                dataset.id.get_offset(),
                file["offset"][:],
                file["name"][:],
                file["side"].asstr()[:].astype(str),
                file["label"][:] if classes else None,
                file["shape"][:] if form == "uint8" else None,
            )
            sound = _fits(shard, entry["samples"], dataset.size)
    except (KeyError, OSError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"not a shard of a pack ({error})", location=str(path), hint=_AGAIN) from error
    if not sound:
        raise UserError("a damaged shard: its parts do not fit each other", location=str(path), hint=_AGAIN)
    if classes and shard.labels is not None and not 0 <= shard.labels.min() <= shard.labels.max() < len(classes):
        raise UserError(
            "a label outside of the classes",
            location=str(path),
            value=(int(shard.labels.min()), int(shard.labels.max())),
            expected=f"0 to {len(classes) - 1}",
            hint=_AGAIN,
        )
    return shard


def _fits(shard: _Shard, samples: int, size: int) -> bool:
    """Whether all parts of a shard speak of the same samples, inside of its bytes."""
    lengths = np.diff(shard.offsets)
    sound = (
        shard.location is not None and samples > 0 and len(lengths) == len(shard.names) == len(shard.sides) == samples
    )
    sound = sound and shard.offsets[0] == 0 and lengths.min() >= 0 and shard.offsets[-1] <= size
    if shard.labels is not None:
        sound = sound and shard.labels.shape == (samples,)
    if shard.shapes is not None:
        sound = sound and shard.shapes.shape == (samples, 2)
        sound = sound and bool(((shard.shapes == 0).all(1) | (shard.shapes.prod(1) * 3 == lengths)).all())
    return bool(sound)
