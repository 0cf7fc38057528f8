"""Attributes of datasets that change the meaning of their numbers: applied where a convention defines them, else refused.

This is the one place that knows them. Applied: the packing and the missing values of netCDF (CF conventions 1.11, sections 2.5.1 and 8.1;
values outside of a valid range are missing too), and NWB's `conversion` and `offset`. Compared with the data spec: a sampling rate, a unit,
names of axes, MATLAB's order of axes. Refused until the data spec states `scale`: a factor that no convention defines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import h5py
    from numpy.typing import NDArray

    from maekit.config.data_spec import Signal

MATLAB_CLASS = "MATLAB_class"
"""Attribute of the datasets that MATLAB writes (version 7.3), whose axes HDF5 sees reversed."""
FACTORS = {"scale_factor": "add_offset", "conversion": "offset"}
"""Factor and offset from stored numbers to those that are meant: of netCDF, and of NWB."""
FILLS = ("_FillValue", "missing_value")
LIMITS = ("valid_min", "valid_max", "valid_range")
UNDEFINED_FACTORS = ("gain", "adc_gain", "scale", "scaling", "scaling_factor", "slope", "lsb")
"""Probably factors, but of no convention: a gain may be one to multiply or to divide by, applied or not."""
RATES = ("sampling_rate", "sample_rate", "sampling_frequency", "sfreq", "fs", "rate_hz", "sampling_rate_hz")


class Packing(NamedTuple):
    """How stored numbers become those that are meant: `stored * scale + offset`, and which of them mean "not measured".

    Attributes:
        scale: factor.
        offset: added after it.
        missing: stored numbers of missing values.
        low: stored numbers below are missing.
        high: stored numbers above are missing.
    """

    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf

    @property
    def marks_missing(self) -> bool:
        """Whether some numbers mean that nothing was measured."""
        return bool(self.missing) or np.isfinite(self.low) or np.isfinite(self.high)

    def missing_values(self, raw: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the stored numbers are missing values."""
        absent = np.isin(raw, np.asarray(self.missing).astype(raw.dtype)) if self.missing else np.zeros(raw.shape, bool)
        return absent | (raw < self.low) | (raw > self.high)

    def unpack(self, values: NDArray[Any], missing: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Numbers as they are meant, from those that were stored, of a floating-point or complex type, NaN where missing."""
        if (self.scale, self.offset) != (1.0, 0.0):
            values = values * values.dtype.type(self.scale) + values.dtype.type(self.offset)
        return values if missing is None else np.where(missing, values.dtype.type(np.nan), values)

    def apply(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Stored real numbers as they are meant, as float64; unchanged where nothing is packed."""
        if self == NOT_PACKED:
            return raw
        return self.unpack(raw.astype(np.float64), self.missing_values(raw) if self.marks_missing else None)


NOT_PACKED = Packing()


def read_packing(dataset: h5py.Dataset, location: str, *, scale: float | None = None, offset: float = 0.0) -> Packing:
    """The packing of a dataset of numbers.

    Args:
        dataset: of numbers.
        location: for messages.
        scale: factor that the data spec states, in place of those of attributes.
        offset: that goes with it.

    Raises:
        UserError: an attribute that is no number, or one that may be a factor and of which no convention says how it is meant.
    """
    attributes = {name: dataset.attrs[name] for name in dataset.attrs if name in _KNOWN}
    if not attributes:
        return Packing(scale or 1.0, offset)
    if scale is None:
        scale, offset = _factor(attributes, location)
    limits = {name: _numbers(attributes[name], f"{location}.{name}") for name in LIMITS if name in attributes}
    low, high = limits.get("valid_range", (-np.inf, np.inf))
    missing = [n for name in FILLS if name in attributes for n in _numbers(attributes[name], f"{location}.{name}")]
    return Packing(
        scale,
        offset,
        tuple(n for n in missing if not np.isnan(n)),
        *(limits.get("valid_min", (low,))[:1]),
        *(limits.get("valid_max", (high,))[:1]),
    )


def describe_packing(packing: Packing) -> str:
    """What is applied, for people; empty where nothing is."""
    parts = []
    if (packing.scale, packing.offset) != (1.0, 0.0):
        parts.append(
            f"stored numbers times {packing.scale:g}" + (f" plus {packing.offset:g}" if packing.offset else "")
        )
    if packing.missing:
        parts.append(f"{', '.join(f'{n:g}' for n in packing.missing)} missing")
    if np.isfinite(packing.low) or np.isfinite(packing.high):
        parts.append(f"missing outside {packing.low:g} to {packing.high:g}")
    return ", ".join(parts)


def check_rate(signal: Signal, dataset: h5py.Dataset, record: h5py.Group, location: str) -> None:
    """Refuse a stated rate that an attribute of the dataset or its group contradicts.

    Raises:
        UserError: see above.
    """
    if not isinstance(signal.rate_hz, int | float):
        return
    for attributes in (dataset.attrs, record.attrs):
        for name in attributes:
            if name.lower() not in RATES:
                continue
            value = np.asarray(attributes[name])
            if value.size == 1 and value.dtype.kind in "iuf" and abs(value.item() / signal.rate_hz - 1) > 1e-3:
                raise UserError(
                    "a rate that differs from the stated one",
                    location=f"{location}, attribute {name}",
                    value=f"{value.item():g}",
                    expected=f"`signal.rate_hz: {signal.rate_hz:g}` of the data spec",
                    hint=f"Write `rate_hz: {{attribute: {name}}}` if the attribute is right; remove it from the file if not.",
                )


def check_unit(signal: Signal, dataset: h5py.Dataset, location: str) -> None:
    """Refuse a unit that an attribute of the dataset gives with another prefix, such as uV for mV.

    Raises:
        UserError: see above; not where the data spec states `scale`, which may convert.
    """
    stated = _PREFIXED.fullmatch(_symbol(signal.unit))
    for name in ("units", "unit"):
        value = dataset.attrs.get(name)
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if stated is None or signal.scale is not None or not isinstance(text, str):
            continue
        found = _PREFIXED.fullmatch(_symbol(text))
        if found is not None and found["base"] == stated["base"] and found["prefix"] != stated["prefix"]:
            raise UserError(
                "a unit that differs from the stated one",
                location=f"{location}, attribute {name}",
                value=text,
                expected=f"`signal.unit: {signal.unit}` of the data spec",
                hint=f"Write `unit: {text.strip()}`, or `scale` with the factor from {text.strip()} to {signal.unit}.",
            )


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
    names = _axis_names(dataset)[: len(signal.axes)]
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


def _factor(attributes: Mapping[str, Any], location: str) -> tuple[float, float]:
    """Factor and offset that attributes of a convention state."""
    for factor, addend in FACTORS.items():
        if factor in attributes or (addend in attributes and addend == "add_offset"):
            scale, offset = attributes.get(factor, 1.0), attributes.get(addend, 0.0)
            return _numbers(scale, f"{location}.{factor}")[0], _numbers(offset, f"{location}.{addend}")[0]
    name = next((name for name in attributes if name.lower() in UNDEFINED_FACTORS), None)
    if name is not None and attributes[name] is not None:
        value = np.asarray(attributes[name])
        if value.dtype.kind in "iuf" and not (value == 1).all():
            number = f"{value.ravel()[0]:g}"
            raise UserError(
                "an attribute that may be a factor",
                location=f"{location}, attribute {name}",
                value=number if value.size == 1 else f"{number}, ...",
                expected="`scale` under `signal` in the data spec: from stored numbers to `unit`",
                hint=f"Write `scale: {number}` to multiply by it, its inverse to divide by it, or `scale: 1` if it is applied already.",
            )
    return 1.0, 0.0


def _symbol(unit: str) -> str:
    """A unit as its symbol, in ASCII: `mV` for `millivolts`."""
    text = unit.strip().replace("µ", "u").replace("μ", "u")
    word = _WORDS.fullmatch(text.lower())
    return f"{_PREFIXES[word['prefix'] or '']}{_BASES[word['base']]}" if word else text


def _numbers(value: Any, location: str) -> tuple[float, ...]:
    numbers = np.asarray(value).reshape(-1)
    if numbers.dtype.kind not in "iuf" or not numbers.size:
        raise UserError("an attribute that is no number", location=location, value=str(value), expected="a number")
    return tuple(float(number) for number in numbers)


def _axis_names(dataset: h5py.Dataset) -> list[str]:
    """Name of each axis by its label, or by its dimension scale; empty where there is none.

    Read from the attributes: the HDF5 library's own functions crash on damaged lists of scales.
    """
    names = [""] * dataset.ndim
    for i, label in enumerate(np.ravel(dataset.attrs.get("DIMENSION_LABELS", []))[: dataset.ndim]):
        names[i] = label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label or "")
    scales = dataset.attrs.get("DIMENSION_LIST", [])
    for i, references in enumerate(scales[: dataset.ndim]):
        if not names[i] and len(references) and references[0]:
            names[i] = str(dataset.file[references[0]].name)
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
_KNOWN = {*FACTORS, *FACTORS.values(), *FILLS, *LIMITS, *UNDEFINED_FACTORS}
