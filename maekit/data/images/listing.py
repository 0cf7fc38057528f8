"""Listing pictures in folders, without opening one."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Pillow decodes these. The tuple is spelled out so that a data set does not depend on the plug-ins of an installation.
SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
SIDES = ("train", "training", "validation", "valid", "val", "dev", "test", "testing")
_MACOS = "__MACOSX"
"""What macOS adds to archives."""
_NESTED = "folder inside a class folder"


class Listing(NamedTuple):
    """The pictures in a folder, kept compact because ImageNet has 1.28 million.

    Attributes:
        names: UTF-8 paths relative to the folder, in sample order: by side, class, name.
        sides: the group of each picture.
        labels: the class index of each picture; None without class folders.
        classes: class names in index order; None without class folders.
        passed_over: number of files and folders that are not read, by ending (`.npy`) or name (`extra/`).
    """

    names: NDArray[np.bytes_]
    sides: NDArray[np.str_]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] | None
    passed_over: Mapping[str, int]


def describe_passed_over(passed_over: Mapping[str, int]) -> str:
    """One sentence on the files and folders that a listing does not read."""
    counts = Counter(passed_over).most_common()
    shown = ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts[:8])
    return f"{sum(passed_over.values())} files and folders are not read: {shown}{', ...' if len(counts) > 8 else ''}"


def list_folder(root: Path) -> Listing:
    """List the pictures below a folder.

    Raises:
        UserError: see `ImageFolderSource`.
    """
    passed_over: Counter[str] = Counter()
    sides = _sides(root, passed_over)
    contents = {side: _entries(root / folder, passed_over) for side, folder in sides.items()}
    classes = sorted({name for folders, _ in contents.values() for name in folders})
    names: list[str] = []
    groups: list[NDArray[np.str_]] = []
    labels: list[NDArray[np.int64]] = []
    for side, (folders, loose) in contents.items():
        location = root / sides[side]
        if classes and loose:
            raise UserError(
                "pictures outside of the class folders",
                location=str(location),
                value=loose[0],
                expected=f"{sides[side] or root.name}/CLASS/{loose[0]}, with a class such as {classes[0]!r}",
                hint="Move them into folders of their classes, or away.",
            )
        for number, name in enumerate(classes or ["."]):
            if classes and name not in folders:
                raise UserError(
                    f"no folder of the class {name!r}, which other sides have",
                    location=str(location),
                    expected=f"the same {len(classes)} class folders in {', '.join(sides.values())}",
                    hint=nearest(name, folders) or "Was the data set copied or unpacked to its end?",
                )
            pictures = _class_pictures(location / name, passed_over) if classes else loose
            if not pictures:
                raise UserError(
                    "a class folder without pictures" if classes else "no picture",
                    location=str(location / name),
                    expected="files ending in " + ", ".join(SUFFIXES),
                    hint=(describe_passed_over(passed_over) + ". " if passed_over else "")
                    + ("Remove the folder if it is no class." if classes else ""),
                )
            folder = PurePosixPath(sides[side], name).as_posix()
            names += pictures if folder == "." else [f"{folder}/{file}" for file in pictures]
            groups.append(np.full(len(pictures), side or "all"))
            labels.append(np.full(len(pictures), number, dtype=np.int64))
    return Listing(
        np.array([os.fsencode(name) for name in names]),
        np.concatenate(groups),
        np.concatenate(labels) if classes else None,
        tuple(classes) or None,
        dict(passed_over),
    )


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or what macOS adds to archives."""
    return name.startswith(".") or name == _MACOS


def _sides(root: Path, passed_over: Counter[str]) -> dict[str, str]:
    """Folder of each side by the side's name, in the order of `SIDES`; one nameless side where there are none.

    Raises:
        UserError: two folders of one side, such as `train` and `Train`.
    """
    folders: dict[str, str] = {}
    others: list[str] = []
    for path in sorted(root.iterdir()):
        if is_leftover(path.name):
            continue
        side = path.name.lower()
        if side not in SIDES or not path.is_dir():
            others.append(f"{path.name}/" if path.is_dir() else path.suffix.lower() or path.name)
        elif side in folders:
            raise UserError(
                f"two folders of the side {side!r}",
                location=str(root),
                value=[folders[side], path.name],
                hint="Join them, or rename one of them.",
            )
        else:
            folders[side] = path.name
    if not folders:
        return {"": ""}
    passed_over.update(others)
    return {side: folders[side] for side in SIDES if side in folders}


def _class_pictures(folder: Path, passed_over: Counter[str]) -> list[str]:
    folders, pictures = _entries(folder, passed_over)
    passed_over.update([_NESTED] * len(folders))
    return pictures


def _entries(folder: Path, passed_over: Counter[str]) -> tuple[list[str], list[str]]:
    """Sorted names of the folders and of the pictures in a folder; other files are counted by their ending."""
    folders, pictures = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_leftover(entry.name):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.lower().endswith(SUFFIXES):
                pictures.append(entry.name)
            else:
                passed_over[Path(entry.name).suffix.lower() or entry.name] += 1
    return sorted(folders), sorted(pictures)
