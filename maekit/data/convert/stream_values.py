"""What the files of a stream hold, and what a function of an adapter makes of it, when converting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from maekit.config.conversion import Stream
    from maekit.data.convert import readers

Transformation = Callable[..., tuple[Any, Mapping[str, Any], Sequence[str]]]
Transformations = Mapping[str, Mapping[str, Transformation]]
"""Functions by adapter and name."""


def values_of(rule: Stream, content: readers.Content) -> Any:
    """The array (columns side by side; float64 as float32) or document that a stream takes of a file.

    Raises:
        UserError: columns or a key that the file does not have, or that hold no numbers.
    """
    if not content.arrays and not rule.columns and rule.key is None:
        return content.document
    names = rule.columns or [rule.key or next(iter(content.arrays))]
    columns = [content.numbers(name) for name in names]
    values = columns[0] if len(columns) == 1 else np.stack(columns, axis=-1)
    return values.astype(np.float32) if values.dtype == np.float64 else values


def offsets_of(rule: Stream, content: readers.Content, rows: int) -> Any:
    """Row offsets of a ragged array of `rows` rows.

    Raises:
        UserError: numbers that are none.
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


def function_of(rule: Stream, stream: str, transformations: Transformations) -> Transformation | None:
    """The function that a stream's values go through, its options given; None where there is none.

    Raises:
        UserError: an unknown function, or options that it does not have.
    """
    if rule.through is None:
        return None
    location, known = f"convert.streams.{stream}.through", transformations.get(rule.through.adapter, {})
    if rule.through.function not in known:
        raise UserError(
            "no such transformation",
            location=location,
            value=f"{rule.through.adapter}.{rule.through.function}",
            expected="one of " + ", ".join(known),
            hint=nearest(rule.through.function, known),
        )
    function = known[rule.through.function]
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


def made_of(
    values: Any, through: Transformation | None, location: str
) -> tuple[Any, dict[str, Any], list[str]]:  # values, attributes, findings
    """What is stored of `values`, what is noted with it, and what a person should know.

    Raises:
        UserError: values that the function cannot use.
    """
    if through is None:
        return values, {}, []
    try:
        made, attributes, findings = through(values)
    except UserError as error:
        raise UserError(str(error).removesuffix(error.hint).rstrip(" ."), location=location, hint=error.hint) from error
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"the stream's `through` cannot use it ({error})", location=location) from error
    return made, dict(attributes), list(findings)
