"""The values of a stream: taken from a file's content, and passed through a function of an adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from einops import EinopsError, rearrange

from maekit.data.convert.file_array import FileArray
from maekit.data.hdf5.values import mark_missing
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.config.conversion import Stream
    from maekit.data.convert.content import FileContent

Transformation = Callable[..., tuple[Any, Mapping[str, Any], Sequence[str]]]
"""Returns what is stored, attributes to store with it, and findings that a person should know."""
Transformations = Mapping[str, Mapping[str, Transformation]]
"""Functions by adapter and name."""


class Transformed(NamedTuple):
    """What a `Transformation` returned, or the values themselves without one."""

    values: Any
    attributes: dict[str, Any]
    findings: list[str]


def read_values(rule: Stream, content: FileContent) -> Any:
    """The array (columns side by side; float64 as float32) or document that a stream takes from a file.

    Raises:
        UserError: see `read_rows`.
    """
    values = read_rows(rule, content)
    return np.asarray(values) if isinstance(values, FileArray) else values


def read_rows(rule: Stream, content: FileContent) -> Any:
    """As `read_values`; a `FileArray` where all that is wanted of a file's numbers is made row by row.

    Raises:
        UserError: columns or a key do not exist or hold no numbers, or a file has several and the stream names none.
    """
    if not content.arrays and not rule.columns and rule.key is None:
        return content.document
    names = array_names(rule, content)
    values, shapes = _side_by_side(rule, content, names)
    if not all(shapes.values()):
        raise UserError(
            "single numbers where recordings are expected",
            location=content.location,
            value=", ".join(name for name, shape in shapes.items() if not shape),
            expected="arrays",
            hint="A number for the whole recording is an entry of `convert.attributes`.",
        )
    if any(0 in shape[1:] for shape in shapes.values()):
        raise UserError(
            "arrays without values",
            location=content.location,
            value=shapes,
            expected="at least one value a row",
            hint="Is it the right `key`? `maekit data inspect` shows what each holds.",
        )
    if len(set(shapes.values())) > 1:
        raise UserError(
            "columns of different shapes",
            location=content.location,
            value=shapes,
            expected="one shape, to stand side by side",
            hint="Make a stream of each.",
        )
    return values if rule.rearrange is None else _rearrange(np.asarray(values), rule.rearrange, content.location)


def _side_by_side(
    rule: Stream, content: FileContent, names: Sequence[str | int]
) -> tuple[NDArray[Any] | FileArray, dict[str, tuple[int, ...]]]:
    """Arrays of a file along a new last axis, if there are several and as far as they have one shape; and the shape of each.

    Each is put in its place as it is read, so that a long table is not in memory once more.
    """
    if len(names) == 1:
        column = _prepare(content.rows(names[0]), rule.missing)
        return column, {str(names[0]): column.shape}
    values: NDArray[Any] | None = None
    shapes: dict[str, tuple[int, ...]] = {}
    for i, name in enumerate(names):
        column = mark_missing(content.numbers(name), rule.missing)
        shapes[str(name)] = column.shape
        dtype = np.dtype(np.float32) if column.dtype == np.float64 else column.dtype
        if values is None:
            values = np.empty((*column.shape, len(names)), dtype)
        values = values.astype(np.result_type(values.dtype, dtype), copy=False)
        if column.shape == values.shape[:-1]:
            values[..., i] = column
        del column  # before the next one is read
    assert values is not None, "a stream has at least one array"
    return values, shapes


def _prepare(values: NDArray[Any] | FileArray, missing: Sequence[float]) -> NDArray[Any] | FileArray:
    if isinstance(values, FileArray):
        return values.map(lambda rows: _in_single_precision(mark_missing(rows, missing)))
    return _in_single_precision(mark_missing(values, missing))


def array_names(rule: Stream, content: FileContent) -> list[str | int]:
    """The arrays of a file that a stream's values are taken from.

    Raises:
        UserError: a file has several and the stream names none.
    """
    return [*rule.columns] or [rule.key or _only_array(rule, content)]


def stated_attributes(rule: Stream, content: FileContent) -> dict[str, Any]:
    """What the file states of the values of a stream, for attributes of its dataset.

    Besides the unit and the resolution, these are factors that no convention defines: the data spec decides on them when the
    dataset is read, and on the names of axes, which it compares.

    Raises:
        UserError: columns side by side, of which the file states different factors.
    """
    if not content.arrays:
        return {}
    names = [str(name) for name in array_names(rule, content)]
    attributes: dict[str, Any] = {}
    units: Mapping[str, str] = content.attributes.get("units", {})
    if used := {units[name] for name in names if name in units}:
        attributes["unit"] = ", ".join(sorted(used))
    bits: Mapping[str, int] = content.attributes.get("resolution_bits", {})
    if resolution := [bits[name] for name in names if name in bits]:
        attributes["resolution_bits"] = resolution
    factors: Mapping[str, Mapping[str, Any]] = content.attributes.get("factors", {})
    stated = [factors.get(name, {}) for name in names]
    if any(str(other) != str(stated[0]) for other in stated):
        raise UserError(
            "columns of different factors side by side",
            location=content.location,
            value="; ".join(f"{name}: {found}" for name, found in zip(names, stated, strict=True)),
            expected="the same attributes of each",
            hint="Make a stream of each.",
        )
    axes: Mapping[str, list[str]] = content.attributes.get("axes", {})
    if len(names) == 1 and names[0] in axes and rule.rearrange is None and rule.through is None:
        attributes["DIMENSION_LABELS"] = axes[names[0]]
    return attributes | dict(stated[0])


def _in_single_precision(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if values.dtype == np.float64 else values


def _rearrange(values: NDArray[Any], pattern: str, location: str) -> NDArray[Any]:
    try:
        result: NDArray[Any] = rearrange(values, pattern)
    except EinopsError:
        raise UserError(
            "an array of other axes than those of `rearrange`",
            location=location,
            value=values.shape,
            expected=f"axes for {pattern.partition('->')[0].strip()!r}",
        ) from None
    return result


def read_offsets(rule: Stream, content: FileContent, rows: int) -> Any:
    """Row offsets of a ragged array of `rows` rows.

    Raises:
        UserError: they do not rise from 0 to `rows`.
    """
    assert rule.offsets is not None
    offsets = content.numbers(rule.offsets).ravel()
    if not (
        offsets.dtype.kind in "iu"
        and len(offsets) > 1
        and offsets[0] == 0
        and offsets[-1] == rows
        and (offsets[1:] >= offsets[:-1]).all()
    ):
        raise UserError(
            "not row offsets of these values",
            location=f"{content.location}:{rule.offsets}",
            value=offsets.tolist() if len(offsets) < 9 else [*offsets[:4].tolist(), "...", offsets[-1].item()],
            expected=f"whole numbers that rise from 0 to {rows}",
        )
    return offsets


def find_transformation(rule: Stream, stream: str, transformations: Transformations) -> Transformation | None:
    """The function that a stream's values pass, with its options bound; None if there is none.

    Raises:
        UserError: there is no such function, or it does not have these options.
    """
    if rule.through is None:
        return None
    location, functions = f"convert.streams.{stream}.through", transformations.get(rule.through.adapter, {})
    if rule.through.function not in functions:
        raise UserError(
            "no such transformation",
            location=location,
            value=f"{rule.through.adapter}.{rule.through.function}",
            expected="one of " + ", ".join(functions),
            hint=nearest(rule.through.function, functions),
        )
    function = functions[rule.through.function]
    try:
        signature(function).bind(None, **rule.through.options)
    except TypeError as error:
        raise UserError(
            f"not the options of {rule.through.function} ({error})",
            location=location,
            value=rule.through.options,
            expected=str(signature(function)),
        ) from None
    return partial(function, **rule.through.options)


def transform(values: Any, function: Transformation | None, location: str) -> Transformed:
    """Pass values through a function.

    Raises:
        UserError: the function cannot use these values.
    """
    if function is None:
        return Transformed(values, {}, [])
    try:
        result, attributes, findings = function(values)
    except UserError as error:
        raise UserError(str(error).removesuffix(error.hint).rstrip(" ."), location=location, hint=error.hint) from error
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"the stream's `through` cannot use it ({error})", location=location) from error
    return Transformed(result, dict(attributes), list(findings))


def label_column(rule: Stream, content: FileContent) -> str | int | None:
    """The column of a label stream that holds its values, or the times of events; None where other keys name them.

    Raises:
        UserError: several columns, or none.
    """
    if rule.labels == "events" and (rule.time is not None or rule.intervals is not None):
        return None
    if len(rule.columns) > 1:
        raise UserError(
            "several columns of labels",
            location=content.location,
            value=", ".join(map(str, rule.columns)),
            expected="one column a stream",
            hint="Give each a stream of its own.",
        )
    return rule.columns[0] if rule.columns else rule.key or _only_array(rule, content)


def _only_array(rule: Stream, content: FileContent) -> str:
    """The one array of a file that the stream does not use for anything else.

    Raises:
        UserError: there are several, or none.
    """
    others = {
        str(name)
        for name in (rule.time, rule.end, rule.offsets, rule.rate_key, rule.number, *rule.by)
        if name is not None
    }
    names = [name for name in content.arrays if name not in others]
    if len(names) != 1:
        raise UserError(
            "several columns or keys, and the stream names none" if names else "no column or key for the stream",
            location=content.location,
            value=", ".join(names),
            expected="`key`, or `columns` for several side by side",
            hint="`maekit data inspect` shows what each holds.",
        )
    return names[0]
