"""A recording in a file other than HDF5, read by the conversion rules of a data spec."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import h5py

from maekit import plugins
from maekit.config.data_spec import Attribute
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.config.conversion import Conversion
    from maekit.config.data_spec import DataSpec

HDF5_ENDINGS = (".h5", ".hdf5", ".he5", ".hdf")
_RECORD = r"(?P<record>[^/]+?)(?:[.][^./]*)?$"


@contextmanager
def as_hdf5(file: Path, spec: DataSpec) -> Iterator[Path]:
    """Yield an HDF5 file with the recording of `file`: the file itself, or a temporary conversion of it.

    Of the rules of the data spec, those of the signal are applied, and those of auxiliary signals that come from the same files.

    Args:
        file: a recording as the spec or its `convert` section describes it.
        spec: the data spec.

    Raises:
        UserError: a file of another format, and no rules for it, or one that the rules do not fit.
    """
    if not file.is_file() or file.suffix.lower() in HDF5_ENDINGS or h5py.is_hdf5(file):
        yield file
        return
    from maekit.data.convert.convert import convert

    rules = _rules_for(file, spec)
    wanted = {rule.through.adapter for rule in rules.streams.values() if rule.through}
    adapters = {name: plugins.find("adapters", name, location=spec.name) for name in wanted}
    single = spec.model_copy(update={"convert": rules, "label": None, "name": "recording"})
    with TemporaryDirectory(prefix="maekit-") as folder:
        yield convert(
            single,
            file.parent,
            Path(folder),
            transformations={name: adapter.transformations for name, adapter in adapters.items()},
        )


def _rules_for(file: Path, spec: DataSpec) -> Conversion:
    """The rules by which one file becomes a recording without labels."""
    rules, signal = spec.convert, spec.signal
    stream = rules.streams.get(signal.path) if rules is not None and signal is not None else None
    if rules is None or signal is None or stream is None:
        raise UserError(
            "not an HDF5 file, and the data spec has no rules that convert it to its signal",
            location=str(file),
            value=file.suffix or file.name,
            expected="HDF5, as the run's data spec describes it",
            hint="Give a data spec that has a `convert` section with --spec (`maekit data schema convert` shows its keys), or make an "
            "HDF5 file with `maekit data convert`.",
        )
    if rules.framewise or stream.member is not None:
        raise UserError(
            "a recording that is made of several files or of members of an archive",
            location=str(file),
            expected="HDF5",
            hint=f"Convert the folder first: `maekit data convert SPEC --from {file.parent} --to FOLDER`.",
        )
    needed = {signal.path, *(item.path for item in spec.auxiliary.values()), *([spec.valid.path] if spec.valid else [])}
    streams = {
        name: rule.model_copy(update={"files": glob.escape(file.name)})
        for name, rule in rules.streams.items()
        if name in needed and rule.files == stream.files
    }
    rate = signal.rate_hz.attribute if isinstance(signal.rate_hz, Attribute) else None
    attributes = {name: key for name, key in rules.attributes.items() if name == rate}
    changes = {"streams": streams, "record": _RECORD, "attributes": attributes, "table": None, "derived": {}}
    return rules.model_copy(update=changes)
