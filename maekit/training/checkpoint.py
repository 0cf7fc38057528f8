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
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from maekit.errors import UserError
from maekit.training.tensor_file import write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

MANIFEST = "manifest.json"
AVERAGE = "average"
"""Group of tensors beside `model` and `optimizer`: the moving average of the weights, where a recipe asks for one."""
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


def save(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint durably into `folder`, then remove all but the newest `keep`.

    This does more than `maekit.files.replacing`: every file and both folders are synced, an existing checkpoint of the
    same step is replaced, and what killed processes left behind is removed.

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
        write_tensors(unfinished / f"{name}.safetensors", tensors)
    (unfinished / "state.json").write_text(json.dumps({"step": checkpoint.step, **checkpoint.state}, indent=1))
    sums = {path.name: _sha256(path) for path in sorted(unfinished.iterdir())}
    (unfinished / MANIFEST).write_text(json.dumps({"sha256": sums}, indent=1))
    for path in unfinished.iterdir():
        _sync(path)
    _sync(unfinished)
    if location.exists():  # a damaged checkpoint, or one of a run that resumed from an older step
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
    """Read a checkpoint folder.

    Raises:
        DamagedError: a file is missing, or its sum is not the manifest's.
    """
    try:
        sums = json.loads((location / MANIFEST).read_text())["sha256"]
        for name, expected in sums.items():
            if _sha256(location / name) != expected:
                raise DamagedError(f"{location / name} has changed since it was written (its SHA-256 differs)")
        tensors = {Path(name).stem: load_file(location / name) for name in sums if name.endswith(".safetensors")}
        state = json.loads((location / "state.json").read_text())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise DamagedError(f"{location}: {error}") from error
    return Checkpoint(state.pop("step"), tensors, state)


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest intact checkpoint in `folder`.

    Returns:
        The checkpoint, None where none was ever written; and a message on each damaged one that was skipped.

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    messages: list[str] = []
    saved_steps = steps(folder)
    for step in reversed(saved_steps):
        try:
            checkpoint = load(folder / f"step-{step:09d}")
        except DamagedError as error:
            messages.append(str(error))
            continue
        if messages:
            messages.append(f"{saved_steps[-1] - step} steps are lost and will be run again from step {step}")
        return checkpoint, messages
    if messages:
        raise UserError(
            "every checkpoint of this run is damaged: " + "; ".join(messages),
            location=str(folder),
            hint="Restore the folder from a copy, or move it away to start from the beginning.",
        )
    return None, []


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
