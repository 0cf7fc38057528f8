"""The `convert` section of a data spec, as pydantic models: how published files become the HDF5 that the spec reads."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from maekit.config.globs import Glob
from maekit.config.unions import LIST, NUMBER, TEXT, by_kind

FileFormat = Literal[
    "csv", "npy", "npz", "mat", "wav", "hdf5", "wfdb", "int16", "png", "jpg", "json", "pickle", "lines"
]
RawFormat = Literal[
    "ci8", "cu8", "ci16", "ci16_le", "ci16_be", "cu16", "cu16_le", "cu16_be", "ci32", "ci32_le", "ci32_be", "cu32", "cu32_le", "cu32_be",
    "cf32", "cf32_le", "cf32_be", "cf64", "cf64_le", "cf64_be",
    "ri8", "ru8", "ri16", "ri16_le", "ri16_be", "ru16", "ru16_le", "ru16_be", "ri32", "ri32_le", "ri32_be", "ru32", "ru32_le", "ru32_be",
    "rf32", "rf32_le", "rf32_be", "rf64", "rf64_le", "rf64_be",
]  # fmt: skip
"""Types of bare numbers, named as in SigMF: complex or real, float or integer, bits, byte order (little by default)."""
Format = Literal[FileFormat, RawFormat]


NameOrNumber = Annotated[Annotated[str, TEXT] | Annotated[int, NUMBER], by_kind("a name, or a number from 0")]


_Pair = Annotated[list[NameOrNumber], Field(min_length=2, max_length=2)]
Column = Annotated[
    Annotated[str, TEXT] | Annotated[int, NUMBER] | Annotated[_Pair, LIST],
    by_kind("a name, a number from 0, or two of them"),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Through(_Strict):
    """A function of an adapter that turns what was read into what is stored.

    It receives an array, or the content of a JSON file, a pickle or lines. From a file on all frames of a recording it
    may return rows by frame number. If it returns objects, its attribute `columns` names their columns.

    Args:
        adapter: that has the function.
        function: its name among the adapter's `transformations`.
        options: of the function.
    """

    adapter: str
    function: str
    options: dict[str, Any] = {}


class Stream(_Strict):
    """One dataset of a recording, and where its numbers come from.

    Args:
        files: glob below the source folder; with `member`, zip files. Each file is a recording (or a frame of one); files
            of several streams are joined by the name that `Conversion.record` finds in their paths.
        member: glob over the members of the zip files.
        format: by default from the file's name. Bare numbers without a header have the name of their type in SigMF: `ci16_le`,
            `cf32_le`, `cu8` for I and Q in turn, `ri16_le` (or `int16`) for real numbers; a `.sigmf-data` file is read by the
            `.sigmf-meta` beside it. `lines`: text as lists of cells; `pickle`: plain data only, nothing in it is run; `wfdb`: a
            PhysioNet record, named by its `.hea` file.
        delimiter: character between the cells of a CSV (a blank: runs of blanks); found by looking if left out.
        decimal: decimal separator of a CSV.
        header: whether the first row of a CSV holds names, where that cannot be seen.
        encoding: of a CSV; by default UTF-8, or UTF-16 with a byte-order mark.
        skip: lines at the top of a CSV that are left out, where its table is not found.
        comment: what lines of a CSV begin with that are left out; above the table, lines with # or % are.
        first_rows: what the first rows of a CSV state instead of values, such as `[start, rate_hz]`: `start` in seconds since 1970.
        torn: `skip` leaves out a torn last line of a CSV, or one of NUL bytes; with `time`, also torn lines between others.
        columns: columns of a CSV by name (by number from 0 without a header), or several arrays by key; side by side as
            channels.
        key: variable of an NPZ or MAT file (`struct.field`), path of an HDF5 dataset, signal of a WFDB record.
        rearrange: a new order of the axes of an array, as an einops pattern with all of its axes:
            `sample chirp receiver transmitter -> (transmitter receiver) chirp sample`. Axes in parentheses become one. Of files of
            a frame each, the pattern is that of one frame.
        missing: numbers that mean "no value" and become NaN.
        time: column or key of the time stamps: numbers in `time_unit`, ISO 8601 dates with or without a zone, dates that
            begin with the year or name the month, or times of day, also past midnight. A list of two: date and time of day, or
            seconds and the rest in `time_unit`.
        time_unit: unit of the numbers, by default s; `samples` counts rows of a device at `rate_hz`.
        time_format: form of the stamps as of strptime, such as `%d/%m/%Y %H:%M:%S.%f`, for other text.
        time_zone: of dates that state none, by name (`Europe/Paris`) or as hours from UTC (`+02:00`).
        wraps: length of a counter that starts again at 0, in `time_unit`, such as 4294967296 for 32 bits.
        batches: rows come in batches that share a stamp: it is the time of the `first` or the `last` row of its batch. The rows are
            spread evenly from one batch to the next, but not over a pause.
        rate_hz: stated rate. With time stamps, the constant rate of a device with a steady clock whose stamps are
            quantised or jitter; rows that the device left out, according to the stamps, become NaN, and stamps at another
            rate are refused. If left out, the rate is the mean one of the stamps, which each interval must keep to within
            1 %, unless `resample_hz` is given.
        resample_hz: put the values on an even grid of this rate, with an anti-aliasing filter: by their stamps, or from the rate that
            the file or `rate_hz` states, where recordings differ in rate. Pauses of more
            than five median intervals become NaN.
        offsets: key of the row offsets of a ragged array: recording i has the rows `offsets[i]:offsets[i+1]`.
        rate_key: key of one rate for each recording of a ragged array.
        through: function that the values pass before stamps, rate and grid are applied; the rows of time are those that
            it returns.
        several: a recording or frame may have several files: arrays are stacked along a new first axis in the order of
            their names, documents become a list.
        by: keys whose values tell apart the rows of one file. With `time` or a rate, each combination of values is a
            recording. Without, the rows of a combination are the frames of a recording (with `offsets`, a frame is what
            lies between two of them).
        number: key of the frame numbers of these rows; by default they count from 0.
        sparse: a file on all frames that mentions only those with objects, so the others have none. By default, a frame
            that is not mentioned is unlabelled.
        start: when a stream without stamps begins: in seconds after the recording's first value, or as an ISO date on the clock of
            the other streams. Stamps of a stream with `start` are taken to count from there.
        labels: the stream is what is to be learned, on a time line of its own, and is aligned by time to the signal. `values`: each
            holds from its stamp (or along its `rate_hz`) until the next one, not over a pause. `events`: times, stored in seconds
            after the start of the recording. `spans`: values that hold from `time` to `end`. Numbers or text. By default as
            `label.path` and `label.events` of the data spec say.
        end: column of the end times of spans, read as `time`.
        intervals: column of the intervals between events, such as RR intervals; each event is at the end of its interval. With `time`,
            stamps tell the pauses.
        interval_unit: unit of the intervals.
        hold_s: how long a label holds at most.
        outside: `drop` leaves out events outside of the recording, which are refused otherwise unless both have dates.
        max_missing: share of a recording's grid up to which values may be missing; a recording with less is refused.
        optional: a recording without this stream gets an empty dataset, or none if a file or row is a frame.
    """

    files: Glob
    member: str | None = None
    format: Format | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] = "."
    header: bool | None = None
    encoding: str | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    comment: Annotated[str, Field(min_length=1)] | None = None
    first_rows: list[Literal["start", "rate_hz"]] = []
    torn: Literal["refuse", "skip"] = "refuse"
    columns: list[NameOrNumber] = []
    key: str | None = None
    rearrange: str | None = None
    missing: list[float] = []
    time: Column | None = None
    time_unit: Literal["s", "ms", "us", "ns", "min", "h", "d", "samples"] | None = None
    time_format: str | None = None
    time_zone: str | None = None
    wraps: PositiveFloat | None = None
    batches: Literal["first", "last"] | None = None
    rate_hz: PositiveFloat | None = None
    resample_hz: PositiveFloat | None = None
    offsets: str | None = None
    rate_key: str | None = None
    through: Through | None = None
    several: bool = False
    by: list[str] = []
    number: str | None = None
    sparse: bool = False
    start: Annotated[Annotated[float, NUMBER] | Annotated[str, TEXT], by_kind("seconds, or an ISO date")] | None = None
    labels: Literal["values", "events", "spans"] | None = None
    end: Column | None = None
    intervals: NameOrNumber | None = None
    interval_unit: Literal["s", "ms", "us", "ns", "min", "h", "d"] = "s"
    hold_s: PositiveFloat | None = None
    outside: Literal["refuse", "drop"] = "refuse"
    max_missing: Annotated[float, Field(ge=0, le=1)] = 0.5
    optional: bool = False

    @field_validator("rearrange")
    @classmethod
    def _same_axes(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        before, arrow, after = pattern.partition("->")
        names, result = before.split(), re.sub("[()]", " ", after).split()
        if (
            not arrow
            or sorted(names) != sorted(result)
            or len(set(names)) < len(names)
            or not all(map(str.isidentifier, names))
        ):
            raise ValueError(
                "expected names of axes, `->`, and the same names in another order, such as `sample chirp -> chirp sample`"
            )
        if after.count("(") != after.count(")") or re.search(r"\([^)]*\(", after):
            raise ValueError("parentheses that do not match, or stand in one another")
        return pattern

    @property
    def timed(self) -> bool:
        """Whether stamps or a rate give the rows a time."""
        return any(value is not None for value in (self.time, self.rate_hz, self.resample_hz))

    @property
    def rows_are_frames(self) -> bool:
        """Whether each row that `by` tells apart is a frame."""
        return bool(self.by) and not self.timed

    @model_validator(mode="after")
    def _clock_agrees(self) -> Self:
        if self.time_format is not None and self.time_unit is not None:
            raise ValueError("`time_format` reads dates as text, `time_unit` is of numbers: give one of them")
        if self.time_unit == "samples" and self.rate_hz is None:
            raise ValueError("`time_unit: samples` needs `rate_hz`: how many of these samples make a second")
        return self

    @model_validator(mode="after")
    def _labels_agree(self) -> Self:
        if (self.labels == "spans") != (self.end is not None) or (self.end is not None and self.time is None):
            raise ValueError("`labels: spans` have their start in `time` and their end in `end`")
        if self.intervals is not None and self.labels not in (None, "events"):
            raise ValueError(f"`intervals` lie between events: they go with `labels: events`, not with {self.labels}")
        if self.labels is not None and (self.resample_hz is not None or self.through is not None):
            raise ValueError(
                "labels are neither resampled nor passed `through` a function: they are aligned to the signal"
            )
        return self

    @model_validator(mode="after")
    def _rows_agree(self) -> Self:
        if self.number is not None and not self.rows_are_frames:
            raise ValueError(
                "`number` numbers the frames that `by` tells apart: give it with `by`, without time or rate"
            )
        if self.by and (self.rate_key is not None or (self.offsets is not None and self.timed)):
            raise ValueError("`by` with `offsets` tells frames apart, which have neither a time nor a rate")
        return self


class Derived(_Strict):
    """A dataset that a function of an adapter derives from a stream once a recording, such as event times in seconds.

    Args:
        adapter: that has the function.
        function: its name among the adapter's `derivations`.
        source: the stream.
    """

    adapter: str
    function: str
    source: str


class LabelTable(_Strict):
    """A table with a row for each recording, such as labels by file name.

    Args:
        file: glob of the table below the source folder.
        name: column with the names of the files, by name (by number from 0 without a header): with or without folders and ending. A
            name that matches no file or several is an error; a recording without a row has no label.
        attributes: attributes of the recordings by name, from columns; `label: {attribute: ...}` and `group: {attribute: ...}` read
            them.
        delimiter: character between the cells; found by looking if left out.
        decimal: decimal separator.
        header: whether the first row holds names; by default if `name` is one.
        encoding: by default UTF-8, or UTF-16 with a byte-order mark.
        skip: lines at the top that are left out.
    """

    file: Glob
    name: NameOrNumber
    attributes: Annotated[dict[str, NameOrNumber], Field(min_length=1)]
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] = "."
    header: bool | None = None
    encoding: str | None = None
    skip: Annotated[int, Field(ge=0)] = 0


class Conversion(_Strict):
    """From published files to one HDF5 file with one group a recording.

    Args:
        record: regular expression that the path of every source file (zip member) must match. Its group `record` (or the
            whole match) is the name of the recording, joined with further groups whose names begin with `record`; other
            named groups become attributes. With a group `frame`, each file is the frame of this number: frames are
            stacked along a new first axis, the first stream decides which there are, and the dataset `frame` holds their
            numbers.
        streams: datasets by name; the first one defines the start of the recording.
        attributes: further attributes by name, from columns or keys of the files (one entry a recording or row).
        table: attributes from a table with a row for each recording, found by the name of its file.
        derived: datasets derived from a stream.
        frames: `all` refuses a frame that a stream lacks; `common` leaves it out and reports it.
        blocks: length, in frame numbers, of the stretches that the dataset `block` numbers, for splits of one long drive.
        parameters: attributes that every recording gets, such as those of the device.
        unzip: glob of a zip archive with a folder of files, which is only unpacked.
    """

    record: str = r"(?P<record>[^/]+)\.[^/]+$"
    streams: dict[str, Stream] = {}
    attributes: dict[str, str] = {}
    table: LabelTable | None = None
    derived: dict[str, Derived] = {}
    frames: Literal["all", "common"] = "all"
    blocks: PositiveInt | None = None
    parameters: dict[str, Annotated[Annotated[float, NUMBER] | Annotated[str, TEXT], by_kind("a number, or text")]] = {}
    unzip: Glob | None = None

    @field_validator("record")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @property
    def framewise(self) -> bool:
        """Whether recordings are made of frames, of a file each or a row each."""
        return self._files_are_frames or any(stream.rows_are_frames for stream in self.streams.values())

    @property
    def _files_are_frames(self) -> bool:
        return "frame" in re.compile(self.record).groupindex

    @model_validator(mode="after")
    def _frames_agree(self) -> Self:
        grouped = [stream for stream in self.streams.values() if stream.by]
        if self.framewise and any(stream.timed for stream in grouped):
            raise ValueError("rows that `by` tells apart are frames in one stream and have a time or rate in another")
        if self.table is not None and (self.framewise or any(stream.offsets for stream in self.streams.values())):
            raise ValueError("`table` has a row for each recording that is a file: not with frames, `by` or `offsets`")
        if self.table is not None and (twice := set(self.table.attributes) & set(self.attributes)):
            raise ValueError(f"the attribute {min(twice)!r} is in `attributes` and in `table`")
        if self.framewise and self.derived:
            raise ValueError("recordings made of frames have no `derived`")
        if self.framewise and self.attributes and not grouped:
            raise ValueError(
                "`attributes` of recordings made of files are the named groups of `record`, or `parameters`"
            )
        if not self.framewise and (
            self.blocks is not None or self.parameters or any(s.several for s in self.streams.values())
        ):
            raise ValueError(
                "`blocks`, `parameters` and `several` go with frames: let `record` have a group `frame`, or a stream `by`"
            )
        return self
