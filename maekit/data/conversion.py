"""How published files become the HDF5 that a data spec reads: the `convert` section, as pydantic models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator

Format = Literal["csv", "npy", "npz", "mat", "wav", "hdf5", "int16"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Through(_Strict):
    """A function that an adapter brings, which makes the signal to be stored of what was read."""

    adapter: str
    function: str
    options: dict[str, Any] = {}


class Stream(_Strict):
    """One dataset of a recording, and where its numbers come from.

    Args:
        files: glob below the source folder; with `member`, zip files. One recording a file, joined over streams by
            the name that `Conversion.record` finds in their paths.
        member: glob over the members of the zip files.
        format: taken from the file name where left out. `int16`: numbers without a header, little-endian.
        delimiter: between the cells of a CSV; found by looking where left out.
        decimal: what stands before the fraction in a CSV.
        columns: columns of a CSV by name (or by number from 0 where it has no header), side by side as channels.
        key: variable of an NPZ or MAT file, path of an HDF5 dataset.
        time: column (CSV) or key of the time stamps, in `time_unit`.
        time_unit: of the stamps.
        rate_hz: stated rate; with time stamps, the constant rate that a line is fitted for (quantised or jittering
            stamps of a device with a steady clock). Rows that the device left out, as the stamps tell, become NaN;
            stamps that keep another rate are refused. Left out with time stamps: the mean rate, which each
            interval must keep to within 1 %, unless `resample_hz` is given.
        resample_hz: put unevenly sampled data on an even grid of this rate (anti-aliased before where it is lower).
            Pauses of more than five usual intervals become NaN.
        offsets: key of row offsets of a ragged array: row i belongs to the recording `offsets[i]:offsets[i+1]`.
        rate_key: key of one rate a recording, for ragged arrays.
        through: the values go through this function before stamps, rate and grid are looked at: rows of time are
            those that it gives.
        optional: a recording without this stream gets an empty dataset.
    """

    files: str
    member: str | None = None
    format: Format | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] = "."
    columns: list[str | int] = []
    key: str | None = None
    time: str | int | None = None
    time_unit: Literal["s", "ms", "us"] = "s"
    rate_hz: PositiveFloat | None = None
    resample_hz: PositiveFloat | None = None
    offsets: str | None = None
    rate_key: str | None = None
    through: Through | None = None
    optional: bool = False


class Derived(_Strict):
    """A dataset derived once a recording by a function that an adapter brings: events in seconds, say."""

    adapter: str
    function: str
    source: str


class Conversion(_Strict):
    """From published files to one HDF5 file with one group a recording.

    Args:
        record: regex over the path of a source file (zip member), which it must match; its named groups become
            attributes of the recording, the group `record` (or the whole match) its name.
        streams: datasets by name; the first one defines the start of the recording.
        attributes: further attributes by name from columns or keys of the files (one entry a recording or row).
        derived: datasets derived from a stream.
        unzip: the source is a zip archive of a folder of files: only unpack it.
    """

    record: str = r"(?P<record>[^/]+)\.[^/]+$"
    streams: dict[str, Stream] = {}
    attributes: dict[str, str] = {}
    derived: dict[str, Derived] = {}
    unzip: str | None = None

    @field_validator("record")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern
