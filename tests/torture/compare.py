"""What a folder holds, and whether two folders hold the same but for times and durations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Tree = dict[str, bytes]


def read_tree(folder: Path) -> Tree:
    """Contents of all files below a folder by relative path; folders end in a slash."""
    return {
        path.relative_to(folder).as_posix() + ("/" if path.is_dir() else ""): b""
        if path.is_dir()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


class Equality:
    """Compares results of one command: whatever differs between two undisturbed runs is not compared."""

    def __init__(self, first: Tree, second: Tree) -> None:
        if first.keys() != second.keys():
            raise ValueError(f"two undisturbed runs write different files: {sorted(first.keys() ^ second.keys())}")
        self.reference = first
        self.varying = {
            name: _differences(name, first[name], second[name]) for name in first if first[name] != second[name]
        }

    def differing(self, tree: Tree) -> list[str]:
        """Names of files that are missing, too many, or differ."""
        return sorted(name for name in tree.keys() | self.reference.keys() if not self.same(name, tree.get(name)))

    def same(self, name: str, content: bytes | None) -> bool:
        """Whether a file is as after an undisturbed run."""
        expected = self.reference.get(name)
        if content is None or expected is None or content == expected:
            return content == expected
        if name not in self.varying:
            return False
        try:
            return _differences(name, expected, content) <= self.varying[name]
        except (ValueError, OSError):
            return False


def _differences(name: str, first: bytes, second: bytes) -> set[str]:
    """Where two contents differ: keys of JSON, datasets of HDF5, otherwise the text without its numbers."""
    if name.endswith((".json", ".jsonl")):
        return _unequal(_parse(first), _parse(second))
    if name.endswith(".h5"):
        return _unequal(_read_hdf5(first), _read_hdf5(second))
    texts = [re.sub(rb"[\d.]+", b"N", content) for content in (first, second)]
    return {"numbers"} if texts[0] == texts[1] else {"numbers", "text"}


def _parse(content: bytes) -> Any:
    lines = content.decode().splitlines()
    try:
        return json.loads(content)
    except ValueError:
        return [json.loads(line) for line in lines]


def _read_hdf5(content: bytes) -> Any:
    import io

    items: dict[str, Any] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(
            lambda name, item: items.update(
                {name: np.asarray(item).tolist() if isinstance(item, h5py.Dataset) else None}
            )
        )
    return items


def _unequal(first: Any, second: Any, path: str = "") -> set[str]:
    """Paths of leaves that differ; the position in a list is not part of the path."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return {leaf for key in first for leaf in _unequal(first[key], second[key], f"{path}/{key}")}
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return {leaf for a, b in zip(first, second, strict=True) for leaf in _unequal(a, b, path)}
    same = first == second or (first != first and second != second)
    return (
        set()
        if same
        else {path if type(first) is type(second) and not isinstance(first, dict | list) else f"{path} (structure)"}
    )
