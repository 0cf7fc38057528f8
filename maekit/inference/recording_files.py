"""Which files a prediction of many recordings reads, and the name of what it writes about each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maekit.errors import UserError
from maekit.inference.foreign_file import HDF5_ENDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from maekit.config.data_spec import DataSpec


def find_recording_files(places: Iterable[Path], spec: DataSpec) -> list[Path]:
    """Files with recordings: those that are named, and those in folders; each once, in order.

    Args:
        places: files, and folders that are searched for HDF5 files and for what the `convert` section of the spec reads its signal
            from, without hidden files.
        spec: of the recordings.

    Raises:
        UserError: a folder without such files.
    """
    found: dict[Path, Path] = {}
    for place in places:
        files = _files_in(place, spec) if place.is_dir() else [place]
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _files_in(folder: Path, spec: DataSpec) -> list[Path]:
    stream = spec.convert.streams.get(spec.signal.path) if spec.convert and spec.signal else None
    matching = set(folder.glob(stream.files)) if stream else set()
    matching |= {path for path in folder.rglob("*") if path.suffix.lower() in HDF5_ENDINGS}
    files = sorted(path for path in matching if path.is_file() and not _is_hidden(path, folder))
    if not files:
        also = f", or files that match {stream.files!r}" if stream else ""
        raise UserError(
            "a folder without recordings",
            location=str(folder),
            expected=f"HDF5 files ({', '.join(HDF5_ENDINGS)}){also}",
        )
    return files


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def prediction_name(stem: str, record: str) -> str:
    """Name of the file of predictions of a recording, after its file and its place in it."""
    name = record.strip("/").replace("/", "_")
    return f"{stem}{f'_{name}' if name else ''}_predicted.csv"


class PredictionNames:
    """A name for the predictions of each recording of many files, in one folder; none twice, and none that is an input.

    Files of one name have those of their parent folders in front, as many as tell them apart, and those of one folder a number behind.
    Capitals do not tell names apart, since on some systems they do not.

    Args:
        folder: for what is written.
        files: that are read.
    """

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.folder = folder
        self._stems = _distinct_stems([file.resolve() for file in files])
        self._taken = {_folded(file.resolve()) for file in files}

    def place(self, file: Path, record: str) -> Path:
        """Where the predictions of a recording are written; each call takes a name."""
        name = prediction_name(self._stems[file.resolve()], record)
        place, number = self.folder / name, 1
        while _folded(place.resolve()) in self._taken:
            number += 1
            place = self.folder / f"{name.removesuffix('.csv')}_{number}.csv"
        self._taken.add(_folded(place.resolve()))
        return place


def _folded(path: Path) -> str:
    return str(path).casefold()


def _distinct_stems(files: Sequence[Path]) -> dict[Path, str]:
    """The stem of each file, with parents in front where a file in another folder has the same."""
    stems, depth = {file: file.stem for file in files}, 0
    alike = list(files)
    while alike:
        folders: dict[str, set[Path]] = {}
        for file in files:
            folders.setdefault(stems[file].casefold(), set()).add(file.parent)
        depth += 1
        alike = [f for f in alike if len(folders[stems[f].casefold()]) > 1 and depth < len(f.parts) - 1]
        for file in alike:
            stems[file] = "_".join([*file.parent.parts[1:][-depth:], file.stem])
    return stems
