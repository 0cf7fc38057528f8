"""Checkpoints that a crash at any moment cannot spoil.

A checkpoint is a folder `step-000001234` with safetensors for the tensors, JSON for the rest and a manifest of
SHA-256 sums. It is written beside its place under a temporary name, synced to disk and renamed; only then are
older ones removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

MANIFEST = "manifest.json"
AVERAGE = "average"
"""Beside `model` and `optimizer`: the moving average of the weights, where a recipe asked for one."""
_NAME = re.compile(r"step-(\d{9})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was saved: named groups of tensors (`model`, `optimizer`, `average`) and everything else as plain JSON."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The outcome of training: the moving average where there is one, else the weights themselves."""
        return self.tensors.get(AVERAGE, self.tensors["model"])


class DamagedError(Exception):
    """A checkpoint whose bytes are not those that were written."""


def save(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write one checkpoint durably into `folder`, then remove all but the newest `keep`.

    Returns:
        The folder of the checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    location = folder / f"step-{checkpoint.step:09d}"
    unfinished = folder / f".unfinished-{location.name}-{os.getpid()}"
    for leftover in folder.glob(".unfinished-*"):
        shutil.rmtree(leftover)
    unfinished.mkdir()
    for name, tensors in checkpoint.tensors.items():
        save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, unfinished / f"{name}.safetensors")
    (unfinished / "state.json").write_text(json.dumps({"step": checkpoint.step, **checkpoint.state}, indent=1))
    sums = {path.name: _sha256(path) for path in sorted(unfinished.iterdir())}
    (unfinished / MANIFEST).write_text(json.dumps({"sha256": sums}, indent=1))
    for path in unfinished.iterdir():
        _sync(path)
    _sync(unfinished)
    if location.exists():  # saved before, and found damaged or outrun since
        shutil.rmtree(location)
    unfinished.rename(location)
    _sync(folder)
    for old in steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step-{old:09d}")
    return location


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def load(location: Path) -> Checkpoint:
    """Read one checkpoint folder.

    Raises:
        DamagedError: a file is missing, or its sum is not the manifest's.
    """
    try:
        sums = json.loads((location / MANIFEST).read_text())["sha256"]
        for name, expected in sums.items():
            if _sha256(location / name) != expected:
                raise DamagedError(f"{location / name} is not as it was written (its SHA-256 differs)")
        tensors = {Path(name).stem: load_file(location / name) for name in sums if name.endswith(".safetensors")}
        state = json.loads((location / "state.json").read_text())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise DamagedError(f"{location}: {error}") from error
    return Checkpoint(state.pop("step"), tensors, state)


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest sound checkpoint in `folder` (None where none was ever written), and what had to be passed over.

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    damaged: list[str] = []
    found = steps(folder)
    for step in reversed(found):
        try:
            checkpoint = load(folder / f"step-{step:09d}")
        except DamagedError as error:
            damaged.append(str(error))
            continue
        if damaged:
            damaged.append(f"{found[-1] - step} steps are lost and will be run again from step {step}")
        return checkpoint, damaged
    if damaged:
        raise UserError(
            "every checkpoint of this run is damaged: " + "; ".join(damaged),
            location=str(folder),
            hint="Restore the folder from a copy, or move it away to start from the beginning.",
        )
    return None, []


def flatten(tree: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split a nested mapping into tensors by "/"-joined path, and the same tree with the tensors left out."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if hasattr(value, "detach"):
            tensors[path] = value
        elif isinstance(value, dict):
            below, rest[key] = flatten(value, f"{path}/")
            tensors |= below
        else:
            rest[key] = value
    return tensors, rest


def unflatten(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
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
