"""Attributes that change the numbers of a dataset: applied where a convention defines them, else refused until the data spec decides.

This is the one place that knows them. Applied: the packing, signedness and missing values of netCDF (CF conventions 1.11, sections 2.5.1
and 8.1, NetCDF Users Guide, appendix A; values outside of a valid range are missing too), and NWB's `conversion` and `offset`. Refused
until the data spec states `scale`: factors and offsets that no convention defines, and ranges of counts and of what they mean, as in EDF.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FACTORS = {"scale_factor": "add_offset", "conversion": "offset"}
"""Factor and offset from stored numbers to those that are meant: of netCDF, and of NWB."""
FILLS = ("_FillValue", "missing_value")
LIMITS = ("valid_min", "valid_max", "valid_range")
UNSIGNED = "_Unsigned"
CHANNEL_FACTORS = "channel_conversion"
"""Dataset beside the data in NWB: a further factor for each channel."""
UNDEFINED_FACTORS = {
    "gain",
    "adcgain",
    "scale",
    "scaling",
    "scalingfactor",
    "scalefactor",
    "slope",
    "lsb",
    "multiplier",
}
UNDEFINED_FACTORS |= {"resolution", "sensitivity", "bitvolts", "conversionfactor", "calibrationfactor", "countstovolts"}
UNDEFINED_OFFSETS = {"offset", "addoffset", "zeropoint", "dcoffset", "baseline", "adczero", "bias"}
"""Probably factors and offsets, but of no convention: a gain may be one to multiply or to divide by, applied or not. See `plain_name`."""
_PER_COUNT = re.compile(r".+per(bit|count|lsb|step|digit)s?")
_RANGES = ("physicalmin", "physicalmax", "digitalmin", "digitalmax")


class Packing(NamedTuple):
    """How stored numbers become those that are meant: `stored * scale + offset`, and which of them mean "not measured".

    Attributes:
        scale: factor.
        offset: added after it.
        missing: stored numbers of missing values.
        low: stored numbers below are missing.
        high: stored numbers above are missing.
        kind: `u` or `i` where stored integers are unsigned or signed, unlike their type; else empty.
    """

    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    kind: str = ""

    @property
    def marks_missing(self) -> bool:
        """Whether some numbers mean that nothing was measured."""
        return bool(self.missing) or np.isfinite(self.low) or np.isfinite(self.high)

    def as_stored(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Stored numbers, as the signed or unsigned ones that they are; other methods take these."""
        return raw.view(_other_sign(raw.dtype)) if self.kind else raw

    def missing_values(self, raw: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the stored numbers are missing values; of complex ones, those of which a part is."""
        if raw.dtype.names:
            parts = [self.missing_values(raw[name]) for name in raw.dtype.names]
            return np.logical_or.reduce(parts)
        if raw.dtype.kind == "c":
            return self.missing_values(raw.real) | self.missing_values(raw.imag)
        absent = np.zeros(raw.shape, bool)
        for number in self.missing:
            if raw.dtype.kind == "f":
                absent |= raw == raw.dtype.type(number)
            elif raw.dtype.kind in "iu" and np.iinfo(raw.dtype).min <= number <= np.iinfo(raw.dtype).max:
                absent |= raw == number
        return absent | (raw < self.low) | (raw > self.high)

    def unpack(self, values: NDArray[Any], missing: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Numbers as they are meant, from those that were stored, of a floating-point or complex type, NaN where missing."""
        if (self.scale, self.offset) != (1.0, 0.0):
            values = values * values.dtype.type(self.scale) + values.dtype.type(self.offset)
        return values if missing is None else np.where(missing, values.dtype.type(np.nan), values)

    def apply(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Stored numbers as they are meant, real ones as float64; only their sign is mended where nothing is packed."""
        raw = self.as_stored(raw)
        if self == Packing(kind=self.kind):
            return raw
        values = raw if raw.dtype.kind == "c" else raw.astype(np.float64)
        return self.unpack(values, self.missing_values(raw) if self.marks_missing else None)


NOT_PACKED = Packing()


def plain_name(name: str | bytes) -> str:
    """A name in lower case and without signs: `SamplingRate` and `sampling_rate` are one; bytes are names that are no UTF-8."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return re.sub(r"[^a-z0-9]", "", text.lower())


def read_packing(dataset: h5py.Dataset, location: str, *, scale: float | None = None, offset: float = 0.0) -> Packing:
    """The packing of a dataset of numbers.

    Args:
        dataset: of numbers.
        location: for messages.
        scale: factor that the data spec states, in place of those of attributes.
        offset: that goes with it.

    Raises:
        UserError: an attribute that is no number, a factor for each channel, or one that may be a factor and of which no convention says
            how it is meant.
    """
    if scale is None:
        check_undefined(undefined_factors(dataset), location)
        return defined_packing(dataset, location)
    return defined_packing(dataset, location, (scale, offset))


def defined_packing(dataset: h5py.Dataset, location: str, stated: tuple[float, float] | None = None) -> Packing:
    """The packing that conventions define, without a look at what none defines; see `read_packing`.

    Args:
        dataset: of numbers.
        location: for messages.
        stated: scale and offset of the data spec.
    """
    attributes = {name: dataset.attrs[name] for name in dataset.attrs if name in _KNOWN}
    if stated is None:
        _check_channel_factors(dataset, location)
    scale, offset = stated or _factor(attributes, location)
    if not attributes:
        return Packing(scale, offset)
    kind = _other_kind(attributes.get(UNSIGNED), dataset.dtype)

    def stored(name: str) -> tuple[float, ...]:
        numbers = _numbers(attributes[name], f"{location}.{name}")
        signed = kind == "u" and np.asarray(attributes[name]).dtype.kind == "i"
        return tuple(n + 2.0 ** (8 * dataset.dtype.itemsize) if signed and n < 0 else n for n in numbers)

    limits = {name: stored(name) for name in LIMITS if name in attributes}
    low, high = limits.get("valid_range", (-np.inf, np.inf))
    low, high = limits.get("valid_min", (low,))[0], limits.get("valid_max", (high,))[0]
    if (
        dataset.dtype.kind in "iu"
        and scale != 1
        and any(np.asarray(attributes[name]).dtype.kind == "f" for name in limits)
    ):
        # Limits of the type of unpacked numbers are in those; half of a millionth of a count allows for rounding.
        low, high = sorted(((low - offset) / scale, (high - offset) / scale))
        low, high = low - 5e-7, high + 5e-7
    missing = [n for name in FILLS if name in attributes for n in stored(name)]
    return Packing(scale, offset, tuple(n for n in missing if not np.isnan(n)), low, high, kind)


def undefined_factors(dataset: h5py.Dataset) -> dict[str, Any]:
    """Attributes that may say how stored numbers become those that are meant, and of which no convention says how; by their names.

    Those that change nothing, a factor of 1 and an offset of 0, are left out.
    """
    found: dict[str, Any] = {}
    paired = any(name in dataset.attrs for name in FACTORS)
    for name in dataset.attrs:
        plain = plain_name(name)
        neutral: float | None = None
        if name in FACTORS or name == "add_offset":
            continue
        if plain in UNDEFINED_FACTORS or _PER_COUNT.fullmatch(plain):
            neutral = 1
        elif plain in UNDEFINED_OFFSETS and not paired:
            neutral = 0
        elif plain.replace("imum", "") in _RANGES:
            neutral = np.nan
        if neutral is not None:
            value = np.asarray(dataset.attrs[name])
            if value.dtype.kind in "iuf" and value.size and not (value == neutral).all():
                found[name] = dataset.attrs[name]
    return found


def check_undefined(attributes: Mapping[str, Any], location: str) -> None:
    """Refuse factors and offsets that no convention defines.

    Args:
        attributes: as `undefined_factors` gives them.
        location: for messages.

    Raises:
        UserError: there are any.
    """
    plain = {plain_name(name).replace("imum", ""): name for name in attributes}
    if all(name in plain for name in _RANGES):
        low, high, least, most = (float(np.ravel(attributes[plain[name]])[0]) for name in _RANGES)
        if most != least:
            scale = (high - low) / (most - least)
            raise UserError(
                "attributes that state the range of counts and what they mean",
                location=f"{location}, attributes {', '.join(plain[name] for name in _RANGES)}",
                value=f"{least:g} to {most:g} for {low:g} to {high:g}",
                expected="`scale` and `offset` under `signal` in the data spec",
                hint=f"Write `scale: {scale:.9g}` and `offset: {low - least * scale:.9g}` if the numbers are counts, or `scale: 1` if "
                "they are values already.",
            )
    for key, name in plain.items():
        if key in _RANGES:
            continue
        number = f"{float(np.ravel(attributes[name])[0]):g}"
        value = number if np.size(attributes[name]) == 1 else f"{number}, ..."
        others = (
            f" (there is also {', '.join(other for other in attributes if other != name)})" if len(plain) > 1 else ""
        )
        if key in UNDEFINED_OFFSETS:
            raise UserError(
                "an attribute that may be an offset",
                location=f"{location}, attribute {name}",
                value=value,
                expected=f"`scale` and `offset` under `signal` in the data spec: from stored numbers to `unit`{others}",
                hint=f"Write `scale: 1` and `offset: {number}` to add it, the negative to subtract it, or `scale: 1` alone if it is "
                "applied already.",
            )
        raise UserError(
            "an attribute that may be a factor",
            location=f"{location}, attribute {name}",
            value=value,
            expected=f"`scale` under `signal` in the data spec: from stored numbers to `unit`{others}",
            hint=f"Write `scale: {number}` to multiply by it, its inverse to divide by it, or `scale: 1` if it is applied already.",
        )


def describe_packing(packing: Packing) -> str:
    """What is applied, for people; empty where nothing is."""
    parts = []
    if packing.kind:
        parts.append("unsigned integers" if packing.kind == "u" else "signed integers")
    if (packing.scale, packing.offset) != (1.0, 0.0):
        parts.append(
            f"stored numbers times {packing.scale:g}" + (f" plus {packing.offset:g}" if packing.offset else "")
        )
    if packing.missing:
        parts.append(f"{', '.join(f'{n:g}' for n in packing.missing)} missing")
    if np.isfinite(packing.low) or np.isfinite(packing.high):
        parts.append(f"missing outside {packing.low:g} to {packing.high:g}")
    return ", ".join(parts)


def _check_channel_factors(dataset: h5py.Dataset, location: str) -> None:
    """Refuse a factor for each channel in a dataset beside the data, unless it changes nothing.

    Raises:
        UserError: see above.
    """
    beside = dataset.parent.get(CHANNEL_FACTORS)
    if isinstance(beside, h5py.Dataset) and beside.dtype.kind in "iuf" and beside.size <= _MAX_FACTORS:
        _one_of(np.asarray(beside[()]), f"{location.rpartition(':')[0]}:{beside.name}", neutral=1.0)


def _factor(attributes: Mapping[str, Any], location: str) -> tuple[float, float]:
    """Factor and offset that attributes of a convention state."""
    for factor, addend in FACTORS.items():
        if factor in attributes or (addend in attributes and addend == "add_offset"):
            scale, offset = attributes.get(factor, 1.0), attributes.get(addend, 0.0)
            return _one_of(scale, f"{location}.{factor}"), _one_of(offset, f"{location}.{addend}")
    return 1.0, 0.0


def _one_of(value: Any, location: str, neutral: float | None = None) -> float:
    """The one number that an attribute states, or repeats.

    Raises:
        UserError: several numbers, or one other than `neutral`.
    """
    numbers = _numbers(value, location)
    if len(set(numbers)) > 1 or (neutral is not None and numbers[0] != neutral):
        raise UserError(
            "a factor or offset for each channel, which is not applied",
            location=location,
            value=", ".join(f"{n:g}" for n in numbers[:4]) + (", ..." if len(numbers) > 4 else ""),
            expected="one number for the dataset",
            hint="Write the numbers as they are meant into a new file with h5py: `new[NAME] = old[NAME][...] * factors`, without this "
            "attribute or dataset.",
        )
    return numbers[0]


def _numbers(value: Any, location: str) -> tuple[float, ...]:
    numbers = np.asarray(value).reshape(-1)
    if numbers.dtype.kind not in "iuf" or not numbers.size:
        raise UserError("an attribute that is no number", location=location, value=str(value), expected="a number")
    return tuple(float(number) for number in numbers)


def _other_kind(unsigned: Any, dtype: np.dtype[Any]) -> str:
    """What `_Unsigned` makes of integers of the other signedness."""
    text = unsigned.decode("utf-8", "replace") if isinstance(unsigned, bytes) else str(unsigned)
    stated = {"true": "u", "false": "i"}.get(text.lower(), "")
    return stated if dtype.kind in "iu" and stated != dtype.kind else ""


def _other_sign(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(dtype.str.translate({ord("i"): "u", ord("u"): "i"}))


_MAX_FACTORS = 1 << 16
_KNOWN = {*FACTORS, *FACTORS.values(), *FILLS, *LIMITS, UNSIGNED}
