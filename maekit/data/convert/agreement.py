"""Whether what a conversion read agrees with what the data spec will read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maekit.config.data_spec import TIME, Attribute
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.config.conversion import Conversion
    from maekit.config.data_spec import DataSpec
    from maekit.data.convert.time_line import TimedRecording


def check_rate(spec: DataSpec, rules: Conversion) -> None:
    """Refuse rows that become frames where the spec reads them as a signal in time.

    Raises:
        UserError: see above.
    """
    signal = spec.signal
    if signal is None or signal.axes[0] != TIME or not isinstance(signal.rate_hz, Attribute):
        return
    rule = rules.streams.get(signal.path)
    if rule is not None and rule.rows_are_frames and signal.rate_hz.attribute not in rules.parameters:
        raise UserError(
            "rows that `by` tells apart, and neither a time nor a rate",
            location=f"convert.streams.{signal.path}.by",
            value=rule.by,
            expected=f"`time` or `rate_hz`, since the signal has the axis `{TIME}`",
            hint="With it, each combination of values becomes a recording.",
        )


def check_window(spec: DataSpec, recording: TimedRecording, name: str) -> None:
    """Refuse a rate, taken from time stamps, at which a window has less than two points.

    Raises:
        UserError: see above.
    """
    seconds, signal = spec.window.seconds if spec.window else None, recording.reference
    if (
        seconds is not None
        and signal.rate_hz is not None
        and seconds * signal.rate_hz < 2
        and signal.start_s is not None
    ):
        raise UserError(
            "time stamps that leave less than two points in a window",
            location=name,
            value=f"{signal.rate_hz:.6g} Hz by the stamps",
            expected=f"some points in {seconds:g} s, the data spec's window",
            hint="Is `time_unit` right? Are they milliseconds? `time_unit: ms`.",
        )


def check_label_rows(spec: DataSpec, recording: TimedRecording, name: str) -> None:
    """Refuse labels that are neither one, nor one for each row of the signal, nor have a time.

    Raises:
        UserError: see above.
    """
    path = spec.label.path if spec.label is not None and spec.label.objects is None and not spec.label.events else None
    part = recording.streams.get(path or "")
    rows = len(recording.reference.values)
    if (
        part is not None
        and path not in recording.tracks
        and part.values.ndim == 1
        and len(part.values) not in (0, 1, rows)
    ):
        raise UserError(
            "labels that are not as many as the rows of the signal",
            location=f"{name}/{path}",
            value=len(part.values),
            expected=f"{rows}, or a time for each",
            hint="State their `rate_hz`, or the column of their `time`; `events: true` in `label` if they are times of events.",
        )


def check_one_value(spec: DataSpec, rules: Conversion, recording: TimedRecording, name: str) -> None:
    """Refuse an attribute by which recordings are told apart or learned, but which changes within one.

    Raises:
        UserError: see above.
    """
    for section, item in (("group", spec.group), ("label", spec.label)):
        attribute = item.attribute if item is not None else None
        values = recording.attributes.get(attribute or "")
        if attribute is not None and isinstance(values, np.ndarray) and values.ndim and len(np.unique(values)) > 1:
            shown = [str(value) for value in np.unique(values)[:4]]
            raise UserError(
                f"several values of `{section}.attribute` in one recording",
                location=f"{name}/{attribute}",
                value=", ".join(shown),
                expected="one value a recording",
                hint=f"Make each a recording: `by: [{rules.attributes.get(attribute, attribute)}]` in its streams.",
            )
