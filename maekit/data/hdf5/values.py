"""From what is stored (any numeric type, either byte order, complex in three guises) to native arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from maekit.config.data_spec import CHANNEL
from maekit.data.hdf5.safety import field_hint
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from maekit.config.data_spec import Signal

_PAIR_FIELDS = (("real", "imag"), ("re", "im"), ("r", "i"), ("i", "q"))


def check_values(dataset: h5py.Dataset, signal: Signal, location: str) -> None:
    """Whether the stored type and the number of axes are those that the spec describes.

    Raises:
        UserError: text, references or compound values, complex without a rule, or another number of axes.
    """
    dtype, rule = dataset.dtype, signal.complex
    named = len(signal.axes)
    axes = dataset.ndim
    if dtype.names is not None:
        fields = pair_fields(dtype)
        if fields is None:
            raise UserError(
                "compound values",
                location=location,
                value=str(dtype),
                expected="numbers, or two numeric fields (real, imag) with `complex: pairs`",
                hint=field_hint(f"{location.rpartition(':')[2]}.{dtype.names[-1]}"),
            )
        if rule != "pairs":
            raise UserError(
                "I and Q stored as compound pairs, and no rule for them",
                location=location,
                value=str(dtype),
                hint="Write `complex: pairs` under `signal` in the data spec.",
            )
    elif dtype.kind == "c":
        if rule is None:
            raise UserError(
                "complex values and no rule for them",
                location=location,
                value=str(dtype),
                expected="`complex: keep`, `magnitude` or `phase` under `signal`",
                hint="Say in the data spec what they become.",
            )
        if rule == "pairs":
            raise UserError(
                "`complex: pairs`, but the values are complex already",
                location=location,
                value=str(dtype),
                hint="Write `complex: keep`.",
            )
    elif dtype.kind not in "biuf":
        raise _not_numbers(dataset, location)
    elif rule == "pairs":
        if dataset.ndim != named + 1 or dataset.shape[-1] != 2:
            raise UserError(
                "`complex: pairs` needs fields (real, imag) or a last, unnamed axis of 2",
                location=location,
                value=dataset.shape,
                expected=f"({', '.join(signal.axes)}, 2)",
            )
        axes -= 1
    elif rule is not None:
        raise UserError(
            f"`complex: {rule}`, but the values are real",
            location=location,
            value=str(dtype),
            hint="Remove the rule, or write `complex: pairs` where the last axis of 2 holds I and Q.",
        )
    if axes != named:
        raise UserError(
            f"a dataset of {axes} axes, and the data spec names {named}",
            location=location,
            value=dataset.shape,
            expected=f"({', '.join(signal.axes)})",
            hint="Name every axis of the dataset in `signal.axes`, in order.",
        )


def _not_numbers(dataset: h5py.Dataset, location: str) -> UserError:
    """The error for values of another type, with the way on for arrays of variable length."""
    if h5py.check_vlen_dtype(dataset.dtype) is not None and h5py.check_string_dtype(dataset.dtype) is None:
        key = location.rpartition(":")[2].strip("/")
        return UserError(
            "arrays of variable length",
            location=location,
            value=f"{dataset.size} arrays",
            expected="one array of numbers",
            hint="Convert the file: `convert: {streams: {NAME: {files: '*.h5', key: "
            + f"{key}.values, offsets: {key}.offsets"
            + "}}}` in the data spec makes a recording of each, and `key: "
            + f"{key}` alone, where they are of equal length, one array of them all.",
        )
    return UserError(
        "values that are not numbers",
        location=location,
        value=str(dataset.dtype),
        expected="integers, floats or complex numbers",
        hint="Correct `signal.path`, or store the numbers themselves.",
    )


def to_native(raw: NDArray[Any], rule: str | None, location: str) -> NDArray[Any]:
    """Stored values -> float32, complex64, or float64 for integers that float32 would round (32 bits and more).

    Args:
        raw: values as they are stored.
        rule: `signal.complex` of the spec; with `pairs` a last axis of 2 or the two fields are joined.
        location: for the message.

    Raises:
        UserError: a finite value beyond the range of float32.
    """
    if rule == "pairs":
        real, imag = (
            (raw[name] for name in pair_fields(raw.dtype) or ()) if raw.dtype.names else (raw[..., 0], raw[..., 1])
        )
        joined = np.empty(real.shape, np.complex128)
        joined.real, joined.imag = real, imag
        raw = joined
    elif rule == "magnitude":
        raw = np.abs(raw)
    elif rule == "phase":
        raw = np.where(np.isfinite(raw), np.angle(raw), np.nan)
    if raw.dtype.kind == "c":
        kind: Any = np.complex64
    else:
        kind = np.float64 if raw.dtype.kind in "iu" and raw.dtype.itemsize >= 4 else np.float32
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(raw, dtype=kind)
    except FloatingPointError:
        raise UserError(
            "a value beyond the range of float32",
            location=location,
            value=float(np.nanmax(np.abs(raw[np.isfinite(raw)]))),
            expected="magnitudes below 3.4e38",
            hint="Store NaN where nothing was measured, or another unit.",
        ) from None


def names_of_enum(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.str_]:
    """The names that an enumerated type gives to its numbers, whose order is the file's and not that of a data spec."""
    name_of = {number: name for name, number in (h5py.check_enum_dtype(dtype) or {}).items()}
    return np.array([name_of.get(number, str(number)) for number in values.ravel().tolist()]).reshape(values.shape)


def mark_missing(values: NDArray[Any], missing: Sequence[float]) -> NDArray[Any]:
    """Values with NaN where they equal a number that means "no value"; integers become floats.

    Args:
        values: of any numeric type.
        missing: those numbers; floats are compared in the type of the values, where 0.1 is another number in float32.
    """
    if not missing:
        return values
    floats = values if values.dtype.kind in "fc" else values.astype(np.float64)
    return np.where(np.isin(floats, np.asarray(missing, dtype=floats.dtype)), np.asarray(np.nan, floats.dtype), floats)


def channels_first(values: NDArray[Any], axes: Sequence[str]) -> NDArray[Any]:
    """(window, *stored axes) -> (window, channels, *other axes in their order)."""
    return np.moveaxis(values, 1 + list(axes).index(CHANNEL), 1) if CHANNEL in axes else values[:, None]


def may_be_missing(dataset: h5py.Dataset) -> bool:
    """Whether the stored type can hold NaN at all."""
    fields = pair_fields(dataset.dtype)
    kinds = [dataset.dtype[name].kind for name in fields] if fields else [dataset.dtype.kind]
    return any(kind in "fc" for kind in kinds)


def pair_fields(dtype: np.dtype[Any]) -> tuple[str, str] | None:
    """Names of the (real, imag) fields of a compound type."""
    by_name = {name.lower(): name for name in dtype.names or ()}
    for real, imag in _PAIR_FIELDS:
        if set(by_name) == {real, imag}:
            fields = by_name[real], by_name[imag]
            if all(dtype[name].kind in "iuf" for name in fields):
                return fields
    return None
