"""Other signals of the same recordings: cut along the same rows, or taken whole where they have no such axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.data.hdf5.recording import Recording, RecordingReader
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import h5py

    from maekit.config.data_spec import DataSpec, Window
    from maekit.data.sample import Sample, SignalInfo


class AuxiliarySignals:
    """The signals of `spec.auxiliary` that were asked for, in every recording that has them.

    Args:
        spec: what the files mean.
        window: how the recordings' own signal is cut.
        wanted: their names.
        max_sample_bytes: as of the signal.

    Raises:
        UserError: a name that the data spec has not.
    """

    def __init__(self, spec: DataSpec, window: Window | None, wanted: Sequence[str], max_sample_bytes: int) -> None:
        for name in wanted:
            if name not in spec.auxiliary:
                raise UserError(
                    "no such auxiliary signal",
                    location=f"data spec {spec.name}: auxiliary",
                    value=name,
                    expected="one of " + (", ".join(spec.auxiliary) or "(it has none)"),
                    hint=nearest(name, spec.auxiliary) or "Name it in `auxiliary` of the data spec.",
                )
        self.readers: dict[str, RecordingReader] = {}
        for name in wanted:
            signal = spec.auxiliary[name]
            cut = window is not None and window.axis in signal.axes
            own = spec.model_copy(update={"signal": signal, "valid": None, "window": None})
            self.readers[name] = RecordingReader(own, window if cut else None, max_sample_bytes)
        self._found: dict[str, dict[int, Recording]] = {name: {} for name in wanted}
        self._count = 0

    def describe(self, file: h5py.File, path: Path, record: str, rows: int) -> None:
        """Take note of the next recording.

        Raises:
            UserError: a signal that is not as the spec says, of another size than in other recordings, or of other rows.
        """
        for name, reader in self.readers.items():
            if reader.signal.path not in file[record]:
                continue
            recording = reader.describe(file, path, record)
            if reader.window is not None and recording.rows != rows:
                raise UserError(
                    f"{name!r} has other rows than the signal beside it",
                    location=f"{path}:{recording.dataset}",
                    value=recording.rows,
                    expected=f"{rows}: one for each of the signal's",
                )
            if self._found[name]:
                reader.check_alike(recording, next(iter(self._found[name].values())))
            self._found[name][self._count] = recording
        self._count += 1

    def having(self, name: str) -> set[int]:
        """Numbers of the recordings that have a signal, in the order of `describe`."""
        return set(self._found[name])

    def infos(self, used: Sequence[int], names: Sequence[str] | None = None) -> dict[str, SignalInfo]:
        """What the samples of each signal have in common.

        Args:
            used: numbers of the recordings that have samples.
            names: of the signals; by default all.

        Raises:
            UserError: a signal that none of them has.
        """
        found = {}
        for name, reader in self.readers.items():
            if names is not None and name not in names:
                continue
            some = [self._found[name][number] for number in used if number in self._found[name]]
            if not some:
                raise UserError(
                    "no recording has this signal",
                    location=f"data spec {reader.spec.name}: auxiliary",
                    value=name,
                    expected=f"a dataset {reader.signal.path!r} in some recording",
                )
            found[name] = reader.info(some)
        return found

    def samples(self, file: h5py.File, number: int, start: int, stop: int, location: str) -> dict[str, Sample]:
        """Of one window, those that its recording has.

        Args:
            file: of the recording.
            number: of the recording, in the order of `describe`.
            start: first row of the window.
            stop: row after its last.
            location: how messages name the file.
        """
        found = {}
        for name, reader in self.readers.items():
            recording = self._found[name].get(number)
            if recording is None:
                continue
            first, last = (start, stop) if reader.window is not None else (0, recording.rows)
            signal, valid = reader.read(file, recording, first, last)
            found[name] = reader.sample(signal, valid, recording, first, location)
        return found
