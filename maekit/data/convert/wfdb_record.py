"""Records of PhysioNet's WFDB format, read by their header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maekit.data.convert.content import FileContent
from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


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
        record = wfdb.rdrecord(str(header.with_suffix("")), physical=True)
    except Exception as error:  # wfdb raises anything from ValueError to IndexError
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cannot be read as a WFDB record ({text})",
            location=str(header),
            hint="Are all the files that the header names beside it?",
        ) from error
    names: list[str] = [str(name) for name in record.sig_name]
    if len(set(names)) < len(names):
        names = [f"{name}.{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
    units = dict(zip(names, (str(unit) for unit in record.units), strict=True))
    arrays = {name: record.p_signal[:, i] for i, name in enumerate(names)}
    return FileContent(str(header), arrays, rate_hz=float(record.fs), attributes={"units": units})


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
