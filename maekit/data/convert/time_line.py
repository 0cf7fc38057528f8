"""The one time line of a recording, on which all of its streams and labels lie."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.align import align, moment_of
from maekit.data.convert.clock import DAY
from maekit.data.convert.labels import Track
from maekit.data.convert.timing import Timed, place
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.config.conversion import Conversion


@dataclass
class TimedRecording:
    """The streams and attributes of one recording.

    Args:
        signal: name of the stream that starts the recording; by default the first.
        streams: by name.
        tracks: labels that are not aligned yet, by name of their stream.
        attributes: by name.
    """

    signal: str = ""
    streams: dict[str, Timed] = field(default_factory=dict)
    tracks: dict[str, Track] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> Timed:
        """The stream whose first value starts the recording."""
        return self.streams.get(self.signal) or next(iter(self.streams.values()))

    def start_of(self, stream: Timed) -> float:
        """When a stream begins, in seconds after the start of the recording (0 without stamps)."""
        first = self.reference
        if stream.start_s is None or first.start_s is None:
            return 0.0
        passed = (stream.origin + Fraction(stream.start_s)) - (first.origin + Fraction(first.start_s))
        if first.zero == "midnight":
            passed -= round(passed / DAY) * DAY
        return float(passed)


def complete(rules: Conversion, recording: TimedRecording, name: str, auxiliary: Collection[str]) -> None:
    """Put all streams of a recording on one time line: labels and auxiliary signals on the grid of the signal.

    Optional streams that it lacks become empty datasets.

    Raises:
        UserError: there is no signal, or streams whose clocks cannot be compared.
    """
    first = recording.signal or next(iter(rules.streams))
    if first not in recording.streams or not len(recording.streams[first].values):
        raise UserError(
            "a recording without its first stream",
            location=name,
            value=first,
            expected="values, which start the recording",
        )
    _start(rules, recording, name)
    _check_clocks(recording, name)
    for stream, track in recording.tracks.items():
        recording.streams[stream] = align(track, recording.reference)
    for stream in auxiliary:
        if (part := recording.streams.get(stream)) is not None and part is not recording.reference and len(part.values):
            recording.streams[stream] = place(part, recording.reference, recording.start_of(part), f"{name}/{stream}")
    recording.streams = {
        stream: recording.streams.get(stream, Timed(np.zeros(0, dtype=np.float32), rule.rate_hz or rule.resample_hz))
        for stream, rule in rules.streams.items()
    }


def _start(rules: Conversion, recording: TimedRecording, name: str) -> None:
    """Apply the stated `start` of streams that have no stamps.

    Raises:
        UserError: they have.
    """
    reference = recording.reference
    starts = {stream: rules.streams[stream].start for stream in recording.streams}
    for stream, start in sorted(starts.items(), key=lambda item: isinstance(item[1], float)):  # dates before seconds
        if start is None:
            continue
        part, location = recording.streams[stream], f"{name}: convert.streams.{stream}.start"
        if part.start_s is not None:
            raise UserError(
                "a start of a stream that has time stamps", location=location, value=start, hint="Leave it out."
            )
        if isinstance(start, str):
            moment = moment_of(start, location)
            part.origin, part.zero, part.start_s = moment.start, moment.zero, 0.0
            continue
        if reference.start_s is None:
            reference.start_s = 0.0
        part.origin, part.zero = reference.origin + Fraction(reference.start_s), reference.zero
        part.start_s = start


def _check_clocks(recording: TimedRecording, name: str) -> None:
    """Refuse streams whose stamps cannot be compared.

    Raises:
        UserError: see above.
    """
    clocks = {stream: part.start_s is not None for stream, part in recording.streams.items()}
    if len(set(clocks.values())) > 1:
        raise UserError(
            "streams with and without time stamps in one recording",
            location=name,
            value=clocks,
            expected="a common start",
            hint="Give each its `time`, or state the `start` of those without.",
        )
    zeros = {stream: part.zero for stream, part in recording.streams.items() if part.start_s is not None}
    if len(set(zeros.values())) > 1:
        raise UserError(
            "streams whose clocks count from different moments in one recording",
            location=name,
            value=zeros,
            expected="dates with a zone, dates without, times of day, or numbers in all of them",
            hint="Write the stamps of one of them as those of the others.",
        )
