"""How published files become the HDF5 that a data spec reads: the `convert` section, as pydantic models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from maekit.config.unions import NUMBER, TEXT, by_kind

Format = Literal["csv", "npy", "npz", "mat", "wav", "hdf5", "int16", "png", "jpg", "json", "pickle", "lines"]


NameOrNumber = Annotated[Annotated[str, TEXT] | Annotated[int, NUMBER], by_kind("a name, or a number from 0")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Through(_Strict):
    """A function that an adapter brings, which makes what is to be stored of what was read.

    It gets an array, or (of JSON, a pickle or lines) what the file holds. Of a file on all frames of a recording it may
    give rows by frame number. Where it gives objects, they are rows of the columns that its attribute `columns` names.
    """

    adapter: str
    function: str
    options: dict[str, Any] = {}


class Stream(_Strict):
    """One dataset of a recording, and where its numbers come from.

    Args:
        files: glob below the source folder; with `member`, zip files. One recording a file, joined over streams by
            the name that `Conversion.record` finds in their paths.
        member: glob over the members of the zip files.
        format: taken from the file name where left out. `int16`: numbers without a header, little-endian; `lines`: text,
            cells between blanks; `pickle`: plain data only, nothing of it is run.
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
        several: of a recording or frame there may be several files: arrays are stacked along a new first axis in the
            order of their names, documents become a list.
        by: keys whose values tell the rows of one file apart: a recording for each combination. With `offsets`, a row is
            what lies between two of them.
        number: key of the frame numbers of these rows; counted from 0 where left out.
        sparse: a file on all frames that mentions only those with objects: in the others there are none. Without it, a
            frame that is not mentioned is one that nobody looked at.
        optional: a recording without this stream gets an empty dataset, or none where a file or row is a frame.
    """

    files: str
    member: str | None = None
    format: Format | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] = "."
    columns: list[NameOrNumber] = []
    key: str | None = None
    time: NameOrNumber | None = None
    time_unit: Literal["s", "ms", "us"] = "s"
    rate_hz: PositiveFloat | None = None
    resample_hz: PositiveFloat | None = None
    offsets: str | None = None
    rate_key: str | None = None
    through: Through | None = None
    several: bool = False
    by: list[str] = []
    number: str | None = None
    sparse: bool = False
    optional: bool = False

    @model_validator(mode="after")
    def _rows_agree(self) -> Self:
        if self.number is not None and not self.by:
            raise ValueError("`number` numbers the rows that `by` tells apart: give both")
        timed = [name for name in ("time", "resample_hz", "rate_key") if getattr(self, name) is not None]
        if self.by and timed:
            raise ValueError(
                f"rows that are frames (`by`) have numbers, not {', '.join(f'`{name}`' for name in timed)}"
            )
        return self


class Derived(_Strict):
    """A dataset derived once a recording by a function that an adapter brings: events in seconds, say."""

    adapter: str
    function: str
    source: str


class Conversion(_Strict):
    """From published files to one HDF5 file with one group a recording.

    Args:
        record: regex over the path of a source file (zip member), which it must match; its named groups become
            attributes of the recording, the group `record` (or the whole match) its name; further groups whose names
            begin with `record` are joined to it. With a group `frame`, a file that it matches in is the frame of this
            number: frames are stacked along a new first axis, the first stream says which there are, and the dataset
            `frame` holds their numbers.
        streams: datasets by name; the first one defines the start of the recording.
        attributes: further attributes by name from columns or keys of the files (one entry a recording or row).
        derived: datasets derived from a stream.
        frames: `all`: a frame that some stream lacks is refused; `common`: it is left out, and said.
        blocks: length in frame numbers of the stretches that the dataset `block` numbers, for splits of a recording that
            is one long drive.
        parameters: attributes that every recording gets, such as what is known of the device.
        unzip: the source is a zip archive of a folder of files: only unpack it.
    """

    record: str = r"(?P<record>[^/]+)\.[^/]+$"
    streams: dict[str, Stream] = {}
    attributes: dict[str, str] = {}
    derived: dict[str, Derived] = {}
    frames: Literal["all", "common"] = "all"
    blocks: PositiveInt | None = None
    parameters: dict[str, Annotated[Annotated[float, NUMBER] | Annotated[str, TEXT], by_kind("a number, or text")]] = {}
    unzip: str | None = None

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
        """Whether recordings are made of frames: of a file each, or a row each."""
        return "frame" in re.compile(self.record).groupindex or any(stream.by for stream in self.streams.values())

    @model_validator(mode="after")
    def _frames_agree(self) -> Self:
        if self.framewise and self.derived:
            raise ValueError("recordings made of frames have no `derived`")
        if self.framewise and self.attributes and not any(stream.by for stream in self.streams.values()):
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
