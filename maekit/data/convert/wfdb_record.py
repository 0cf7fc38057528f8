"""Records of PhysioNet's WFDB format, read by their header."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maekit.data.convert.content import FileContent
from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read_record(header: Path) -> FileContent:
    """The signals of a record in physical units by name, their rate, and their units; NaN where nothing was measured.

    Args:
        header: the `.hea` file, which names the files with the samples.

    Raises:
        UserError: wfdb is not installed, a file is missing or damaged, or two signals have one name.
    """
    try:
        import wfdb
    except ImportError as error:
        raise UserError(
            "reading a WFDB record needs the package wfdb",
            location=str(header),
            hint="Install the extra: pip install 'maekit[sensors]'.",
        ) from error
    try:
        record = wfdb.rdrecord(str(header.with_suffix("")), physical=True, smooth_frames=False, m2s=False)
        signals = _join_segments(record, header) if isinstance(record, wfdb.MultiRecord) else _signals(record)
    except UserError:
        raise
    except Exception as error:  # wfdb raises anything from ValueError to IndexError
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cannot be read as a WFDB record ({text})",
            location=str(header),
            hint="Are all the files that the header names beside it?",
        ) from error
    rates = {signal.rate_hz for signal in signals.values()}
    attributes: dict[str, Any] = {"units": {name: signal.unit for name, signal in signals.items()}}
    if len(rates) > 1:
        attributes["rates"] = {name: signal.rate_hz for name, signal in signals.items()}
    if uncalibrated := _without_gain(header):
        attributes["findings"] = [
            f"{header.name} states no gain of {', '.join(uncalibrated)}: uncalibrated, taken as 200 counts for a unit"
        ]
    arrays = {name: signal.values for name, signal in signals.items()}
    return FileContent(str(header), arrays, rate_hz=_only(rates), attributes=attributes)


class _Signal(NamedTuple):
    values: NDArray[Any]
    rate_hz: float
    unit: str


def _only(rates: set[float]) -> float | None:
    return next(iter(rates)) if len(rates) == 1 else None


def _signals(record: Any) -> dict[str, _Signal]:
    """The signals of a record of one segment by name, each at its own rate: a frame holds several samples of some."""
    if not record.sig_name:
        raise ValueError("the header names no signal")
    names = [str(name) for name in record.sig_name]
    if len(set(names)) < len(names):
        names = [f"{name}.{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
    columns = zip(names, record.e_p_signal, record.samps_per_frame, record.units, strict=True)
    return {name: _Signal(values, float(record.fs) * count, str(unit)) for name, values, count, unit in columns}


def _join_segments(record: Any, header: Path) -> dict[str, _Signal]:
    """The signals of a record of several segments, NaN where a segment is missing or has not the signal.

    Raises:
        UserError: a signal with another rate or unit than in the segment before.
    """
    parts = [None if segment is None or not segment.sig_len else _signals(segment) for segment in record.segments]
    first: dict[str, _Signal] = {}
    for part in filter(None, parts):
        for name, signal in part.items():
            known = first.setdefault(name, signal)
            if (known.rate_hz, known.unit) != (signal.rate_hz, signal.unit):
                raise UserError(
                    "segments of different rates or units",
                    location=f"{header}:{name}",
                    value=f"{signal.rate_hz:g} Hz, {signal.unit}",
                    expected=f"{known.rate_hz:g} Hz, {known.unit}",
                    hint="Name the headers of the segments in `files`.",
                )
    joined = {}
    for name, known in first.items():
        count = round(known.rate_hz / float(record.fs))
        pieces = [
            part[name].values if part and name in part else np.full(length * count, np.nan)
            for part, length in zip(parts, record.seg_len, strict=True)
        ]
        joined[name] = known._replace(values=np.concatenate(pieces))
    return joined


def _without_gain(header: Path) -> list[str]:
    """Signals whose gain is left out or 0 in the header, which means that it is not known (header(5) of WFDB)."""
    lines = [line.split() for line in header.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line and not line[0].startswith("#")]
    if not lines or "/" in lines[0][0]:
        return []
    cells = [(line[8] if len(line) > 8 else line[0], line[2] if len(line) > 2 else "0") for line in lines[1:]]
    return [name for name, gain in cells if re.match(r"0*(\.0*)?([(/]|$)", gain)]


def check_no_header(path: Path) -> None:
    """Refuse to read a file as bare numbers where a WFDB header beside it says how the samples are stored.

    Raises:
        UserError: there is such a header.
    """
    header = path.with_suffix(".hea")
    if path.suffix == ".dat" and header.is_file():
        raise UserError(
            "samples of a WFDB record, whose coding its header states",
            location=str(path),
            expected=f"the record, read by {header.name}",
            hint="Name the headers in `files` (`*.hea`) and leave `format` out.",
        )
