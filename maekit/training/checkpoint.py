"""Checkpoints that survive a crash at any moment.

A checkpoint is a folder `step-000001234` with safetensors files for tensors, JSON for everything else and a manifest of
SHA-256 sums. It is written under a temporary name beside its final one, synced to disk and renamed; only then are older
checkpoints removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from safetensors import SafetensorError
from safetensors.torch import load_file

from maekit import files
from maekit.errors import UserError
from maekit.training.device import Precision
from maekit.training.tensor_file import write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

MANIFEST = "manifest.json"
STATE = "state.json"
AVERAGE = "average"
"""Group of tensors beside `model` and `optimizer`: the moving average of the weights, where a recipe asks for one."""
VERSION = 1
"""Of the layout of a checkpoint, in `state.json`; raised with every change that older code would misread."""
UNSOUND = "unsound.txt"
"""File in a checkpoint whose loss or weights have exploded; it stands in no manifest, since it may come later."""
_NAME = re.compile(r"step-(\d{9})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Content of a checkpoint.

    Attributes:
        step: steps done.
        tensors: groups of tensors by name: `model`, `optimizer`, `average`.
        state: everything else, as plain JSON.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to evaluate and export: the moving average where there is one, else the model's own."""
        return self.tensors.get(AVERAGE, self.tensors["model"])


class DamagedError(Exception):
    """The bytes of a checkpoint are not those that were written."""


def save(folder: Path, checkpoint: Checkpoint, *, keep: int | None, sound: bool = True) -> Path:
    """Write a checkpoint durably into `folder`, then remove all but the newest `keep` and the newest sound one.

    This does more than `maekit.files.replacing`: every file and both folders are synced, an existing checkpoint of the
    same step is replaced, and what killed processes left behind is removed.

    Args:
        folder: of the checkpoints; created where it is missing, in a folder that exists.
        checkpoint: its content.
        keep: how many checkpoints stay; None removes none.
        sound: False where loss or weights have exploded.

    Returns:
        The folder of the checkpoint.

    Raises:
        UserError: it cannot be written (full disk, permissions, the run folder was removed). Older checkpoints stay.
    """
    size = sum(tensor.nbytes for tensors in checkpoint.tensors.values() for tensor in tensors.values())
    with files.described_errors(folder, size):
        return _save(folder, checkpoint, keep, sound)


def _save(folder: Path, checkpoint: Checkpoint, keep: int | None, sound: bool) -> Path:
    folder.mkdir(exist_ok=True)
    location = folder / f"step-{checkpoint.step:09d}"
    unfinished = folder / f".unfinished-{location.name}-{os.getpid()}"
    remove_leftovers(folder)
    unfinished.mkdir()
    try:
        _write(unfinished, checkpoint)
        if not sound:
            mark_unsound(unfinished)
    except BaseException:
        files.remove(unfinished)
        raise
    if location.exists():  # a damaged checkpoint, or one of a run that resumed from an older step
        files.remove(location)
    unfinished.rename(location)
    _sync(folder)
    if keep is not None:
        _rotate(folder, checkpoint.step, keep)
    return location


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left among the checkpoints of a run that this process holds."""
    for leftover in folder.glob(".unfinished-*"):
        files.remove(leftover)


def _rotate(folder: Path, newest: int, keep: int) -> None:
    """Remove older checkpoints, and those after `newest`: the run has resumed before them."""
    done = [step for step in steps(folder) if step <= newest]
    sound = [step for step in done if is_sound(folder / f"step-{step:09d}")]
    retained = {*done[-keep:], *sound[-1:]}
    for step in steps(folder):
        if step not in retained:
            # Renamed first: a process killed during the removal would leave part of a checkpoint under its name.
            files.remove((folder / f"step-{step:09d}").rename(folder / f".unfinished-old-{step:09d}"))


def mark_unsound(location: Path) -> None:
    """Mark a checkpoint whose loss or weights have exploded, if it is there."""
    if location.is_dir():
        text = "Loss or weights had exploded here; an older checkpoint is used where there is one.\n"
        files.write_text(location / UNSOUND, text)


def is_sound(location: Path) -> bool:
    """Whether a checkpoint is not marked."""
    return not (location / UNSOUND).exists()


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the files of a checkpoint into an empty folder, and flush them to the disk."""
    for name, tensors in checkpoint.tensors.items():
        write_tensors(folder / f"{name}.safetensors", tensors)
    state = {"version": VERSION, "step": checkpoint.step, **checkpoint.state}
    (folder / STATE).write_text(json.dumps(state, indent=1))
    sums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({"sha256": sums}, indent=1))
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def load(location: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        DamagedError: a file is missing, its sum is not the manifest's, or it does not hold what it should.
        UserError: a newer version of maekit wrote it.
    """
    try:
        sums = json.loads((location / MANIFEST).read_text())["sha256"]
        for name, expected in sums.items():
            if _sha256(location / name) != expected:
                raise DamagedError(f"{location / name} has changed since it was written (its SHA-256 differs)")
        missing = [name for name in ("model.safetensors", STATE) if name not in sums]
        if missing:
            raise DamagedError(f"{location / MANIFEST} does not list {' and '.join(missing)}")
        state = json.loads((location / STATE).read_text())
        _check_version(state["version"], location)
        if "optimizer" in state and "optimizer.safetensors" not in sums:
            raise DamagedError(f"{location / MANIFEST} does not list optimizer.safetensors")
        tensors = {Path(name).stem: load_file(location / name) for name in sums if name.endswith(".safetensors")}
        return Checkpoint(state.pop("step"), tensors, {key: value for key, value in state.items() if key != "version"})
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        detail = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise DamagedError(f"{location}: {detail}") from error


def _check_version(version: object, location: Path) -> None:
    """Refuse a checkpoint of a newer layout, whatever else it holds.

    Raises:
        UserError: a version that this code does not know.
    """
    if version != VERSION:
        raise UserError(
            "a checkpoint of another version of maekit",
            location=str(location / STATE),
            value=version,
            expected=f"version {VERSION}",
            hint="Use the maekit that wrote it; environment.json of the run names its version.",
        )


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest intact checkpoint in `folder`, a sound one where there is one.

    Returns:
        The checkpoint, None where none was ever written; and a message on each newer one, which is damaged or unsound.

    Raises:
        UserError: there are checkpoints, and all are damaged; or a newer version of maekit wrote one.
    """
    messages: list[str] = []
    locations = [folder / f"step-{step:09d}" for step in reversed(steps(folder))]
    any_sound = any(is_sound(location) for location in locations)
    for location in locations:
        if any_sound and not is_sound(location):
            messages.append(f"{location}: loss or weights had exploded there, so an older checkpoint is used")
            continue
        try:
            return load(location), messages
        except DamagedError as error:
            messages.append(str(error))
    if messages:
        raise UserError(
            "every checkpoint of this run is damaged: " + "; ".join(messages),
            location=str(folder),
            hint="Restore the folder from a copy, or move it away to start from the beginning.",
        )
    return None, []


def saved_precision(folder: Path) -> Precision | None:
    """Precision of the run that the newest checkpoint in `folder` is tied to, read without tensors; None where there is none."""
    for step in reversed(steps(folder)):
        with suppress(OSError, ValueError, LookupError, TypeError):
            precision = json.loads((folder / f"step-{step:09d}" / STATE).read_bytes())["identity"]["precision"]
            if precision in get_args(Precision):
                return cast("Precision", precision)
    return None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split a nested mapping into its tensors, by "/"-joined path, and the same mapping without them."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if hasattr(value, "detach"):
            tensors[path] = value
        elif isinstance(value, dict):
            nested, rest[key] = flatten(value, f"{path}/")
            tensors |= nested
        else:
            rest[key] = value
    return tensors, rest


def unflatten(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Rebuild the nested mapping that `flatten` split."""
    tree = json.loads(json.dumps(rest))
    for path, value in tensors.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree  # type: ignore[no-any-return]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
