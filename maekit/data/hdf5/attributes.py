"""Attributes of datasets that are compared with the data spec: a sampling rate, a unit, names of axes, MATLAB's order of axes.

Those that change the numbers themselves are in `packing`.
"""

from __future__ import annotations

import re
from math import isclose
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.data.hdf5.packing import plain_name
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.config.data_spec import Signal

MATLAB_CLASS = "MATLAB_class"
"""Attribute of the datasets that MATLAB writes (version 7.3), whose axes HDF5 sees reversed."""
RATES = {"samplingrate", "samplerate", "samplingfrequency", "samplefrequency", "sfreq", "fs", "ratehz", "srate"}
RATES |= {f"{name}hz" for name in ("samplingrate", "samplerate", "samplingfrequency", "fs")}
"""Names of a sampling rate, in lower case and without signs; see `plain_name`."""


def stated_rate(dataset: h5py.Dataset, record: h5py.Group | None = None) -> tuple[str, float] | None:
    """The sampling rate that a dataset's attributes state, or those of its recording, and where it stands; None if they state none.

    In NWB, it is the attribute `rate` of the dataset `starting_time` beside the data.
    """
    for attributes in (dataset.attrs, *(() if record is None else (record.attrs,))):
        for name in attributes:
            if plain_name(name) in RATES and (rate := _one_number(attributes[name])) is not None:
                return f"attribute {name}", rate
    start = dataset.parent.get("starting_time") if dataset.name else None
    if isinstance(start, h5py.Dataset) and (rate := _one_number(start.attrs.get("rate", 0))) is not None:
        return f"attribute rate of {start.name}", rate
    return None


def check_rate(signal: Signal, dataset: h5py.Dataset, record: h5py.Group, location: str) -> None:
    """Refuse a stated rate that an attribute contradicts.

    Raises:
        UserError: see above.
    """
    if not isinstance(signal.rate_hz, int | float) or (found := stated_rate(dataset, record)) is None:
        return
    where, rate = found
    if not rates_agree(rate, signal.rate_hz):
        name = where.removeprefix("attribute ")
        raise UserError(
            "a rate that differs from the stated one",
            location=f"{location}, {where}",
            value=f"{rate:g}",
            expected=f"`signal.rate_hz: {signal.rate_hz:g}` of the data spec",
            hint=f"Write `rate_hz: {{attribute: {name}}}` if the attribute is right; remove it from the file if not."
            if " " not in name
            else f"Write `rate_hz: {rate:g}` if the attribute is right; remove it from the file if not.",
        )


def rates_agree(one: float, other: float) -> bool:
    """Whether two rates are the same, up to how they were rounded."""
    return isclose(one, other, rel_tol=1e-3)


def check_unit(signal: Signal, dataset: h5py.Dataset, location: str) -> None:
    """Refuse a unit that an attribute of the dataset gives with another prefix, such as uV for mV.

    Raises:
        UserError: see above; not where the data spec states `scale`, which may convert.
    """
    stated = _PREFIXED.fullmatch(_symbol(signal.unit))
    text = stated_unit(dataset)
    if stated is None or signal.scale is not None or text is None:
        return
    found = _PREFIXED.fullmatch(_symbol(text))
    if found is not None and found["base"] == stated["base"] and found["prefix"] != stated["prefix"]:
        raise UserError(
            "a unit that differs from the stated one",
            location=f"{location}, attribute units",
            value=text,
            expected=f"`signal.unit: {signal.unit}` of the data spec",
            hint=f"Write `unit: {text}`, or `scale` with the factor from {text} to {signal.unit}.",
        )


def stated_unit(dataset: h5py.Dataset) -> str | None:
    """The unit that an attribute states; None without one."""
    for name in dataset.attrs:
        if plain_name(name) in ("unit", "units"):
            value = dataset.attrs[name]
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            if isinstance(text, str) and text.strip():
                return text.strip()
    return None


def check_axes(signal: Signal, dataset: h5py.Dataset, location: str) -> None:
    """Refuse axes in another order than their names in the file say, or in MATLAB's reversed order.

    Raises:
        UserError: with the order, or the way to convert.
    """
    if MATLAB_CLASS in dataset.attrs and dataset.ndim > 1:
        raise UserError(
            "a dataset of MATLAB, whose axes HDF5 sees in reverse order",
            location=location,
            value=dataset.shape,
            expected="axes in the order of MATLAB, which converting gives them",
            hint="Add `convert: {streams: {NAME: {files: '*.mat', key: NAME}}}` to the data spec, let `files` be '*.h5' "
            "with `records: '/*'`, and run `maekit data convert`.",
        )
    names = axis_names(dataset)[: len(signal.axes)]
    stated = [axis.lower() for axis in signal.axes]
    for name, axis in zip(names, stated, strict=False):
        if name != axis and name in stated:
            raise UserError(
                "axes in another order than the file names them",
                location=location,
                value=f"({', '.join(name or '?' for name in names)})",
                expected=f"({', '.join(signal.axes)}), as in `signal.axes`",
                hint="Write `signal.axes` in the order of the file.",
            )


def _symbol(unit: str) -> str:
    """A unit as its symbol, in ASCII: `mV` for `millivolts`."""
    text = unit.strip().replace("µ", "u").replace("μ", "u")
    word = _WORDS.fullmatch(text.lower())
    return f"{_PREFIXES[word['prefix'] or '']}{_BASES[word['base']]}" if word else text


def _one_number(value: Any) -> float | None:
    """A positive number; None for anything else."""
    number = np.asarray(value)
    positive = number.size == 1 and number.dtype.kind in "iuf" and number.item() > 0
    return float(number.item()) if positive else None


def axis_names(dataset: h5py.Dataset) -> list[str]:
    """Name of each axis by its label, or by its dimension scale; empty where there is none, or neither text nor reference.

    Read from the attributes: the HDF5 library's own functions crash on damaged lists of scales.
    """
    names = [""] * dataset.ndim
    for i, label in enumerate(np.ravel(dataset.attrs.get("DIMENSION_LABELS", []))[: dataset.ndim]):
        text = label.decode("utf-8", "replace") if isinstance(label, bytes) else label
        names[i] = text if isinstance(text, str) else ""
    for i, scales in enumerate(np.ravel(dataset.attrs.get("DIMENSION_LIST", []))[: dataset.ndim]):
        reference = next(iter(np.ravel(scales)), None)
        if not names[i] and isinstance(reference, h5py.Reference) and reference:
            names[i] = dataset.file[reference].name or ""
    return [name.rsplit("/", 1)[-1].lower() for name in names]


_PREFIXED = re.compile(r"(?P<prefix>[numckMG]?)(?P<base>V|A|T|Pa|W|Hz|g|m|s|rad|m/s|m/s2|m/s\^2)")
_PREFIXES = {"": "", "nano": "n", "micro": "u", "milli": "m", "centi": "c", "kilo": "k", "mega": "M", "giga": "G"}
_BASES = {
    "volt": "V",
    "ampere": "A",
    "tesla": "T",
    "pascal": "Pa",
    "watt": "W",
    "hertz": "Hz",
    "meter": "m",
    "metre": "m",
}
_BASES |= {"gram": "g", "second": "s", "radian": "rad"}
_WORDS = re.compile(f"(?P<prefix>{'|'.join(filter(None, _PREFIXES))})?(?P<base>{'|'.join(_BASES)})s?")
