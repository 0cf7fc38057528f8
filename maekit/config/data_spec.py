"""What the files of a data set mean: a data spec is one YAML, checked here, and read without numpy or h5py."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, PositiveInt, field_validator, model_validator

from maekit.config.conversion import Conversion, LabelTable
from maekit.config.split_spec import STRICT, AnySplit, Name
from maekit.config.unions import MAPPING, NUMBER, by_kind
from maekit.config.validate import validate
from maekit.config.yaml import read_yaml
from maekit.errors import UserError, nearest

CHANNEL = "channel"
TIME = "time"
OBJECT_CLASS = "class"
OBJECT_EXTENT = "_extent"
BUILT_IN_REDUCERS = ("mean", "median", "majority", "first")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Strict(BaseModel):
    """No unknown keys, no change after reading; a name may be written as a number."""

    model_config = STRICT


class Window(Strict):
    """How a recording is cut into samples along one axis: by seconds of the time axis, or by points.

    Args:
        axis: the axis of the signal that is cut.
        seconds: length along the time axis, in seconds.
        hop_seconds: from one window to the next, in seconds; by default their length, so that they do not overlap.
        length: length in points, in place of `seconds`.
        hop: from one window to the next, in points.
        pad: keep a recording that is shorter than the window; what is added at its end is not valid, and counts as missing.
    """

    axis: Name = TIME
    seconds: Positive | None = None
    hop_seconds: Positive | None = None
    length: Annotated[int, Field(ge=1)] | None = None
    hop: Annotated[int, Field(ge=1)] | None = None
    pad: bool = False

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if (self.seconds is None) == (self.length is None):
            raise ValueError("give the window as either `seconds` or `length` (points)")
        if self.seconds is not None and self.hop is not None:
            raise ValueError("a window in `seconds` has its hop in `hop_seconds`")
        if self.length is not None and self.hop_seconds is not None:
            raise ValueError("a window in points (`length`) has its hop in points (`hop`)")
        if self.seconds is not None and self.axis != TIME:
            raise ValueError(f"`seconds` are cut along the axis `time`, not {self.axis!r}: give `length` in points")
        return self


class Attribute(Strict):
    """A number kept as an HDF5 attribute.

    Args:
        attribute: its name, at the dataset, its record, or the file.
    """

    attribute: Name


Rate = Annotated[
    Annotated[Positive, NUMBER] | Annotated[Attribute, MAPPING],
    by_kind("a number in hertz, or {attribute: NAME}", units=True),
]


class Step(Strict):
    """Where the points along an axis lie: `start`, then every `step`, in `unit`.

    Args:
        step: from one point to the next, in `unit`.
        unit: of the axis.
        start: the first point, in `unit`.
        spacing: `sine` for points that are even in the sine of an angle, as the bins of a line array's FFT are: then `start` and
            `step` are sines, and `unit` (deg or rad) is that of the angle.
    """

    step: Finite
    unit: str = ""
    start: Finite = 0.0
    spacing: Literal["even", "sine"] = "even"

    @model_validator(mode="after")
    def _angle(self) -> Self:
        if self.spacing == "sine" and self.unit not in ("deg", "rad"):
            raise ValueError(f"`spacing: sine` is of an angle in deg or rad, not in {self.unit!r}")
        return self


class Signal(Strict):
    """The dataset that holds the measurement.

    Args:
        path: dataset inside the record.
        axes: names of its axes in order; `channel` is the channel axis, `time` the one sampled at `rate_hz`.
        channels: names of the channels.
        unit: of the values, such as mV.
        steps: where the points along further axes lie, by axis: range, azimuth, frequency.
        rate_hz: sampling rate of the time axis, stated or read from an attribute.
        complex: what complex values become. `pairs` builds them from (real, imag) fields or a last, unnamed axis of 2.
        missing: stored numbers that mean that nothing was measured, such as -9999.
        scale: factor from stored numbers to `unit`, in place of those that attributes of the dataset state (`scale_factor` of
            netCDF, `conversion` of NWB), which are applied otherwise.
        offset: added after `scale`.
        sizes: lengths of axes along which recordings differ (not of the windowed one, which `window` cuts): longer ones are cropped
            to their first values, shorter ones are padded by missing values at the end.
    """

    path: Name
    axes: Annotated[list[Name], Field(min_length=1)]
    channels: list[str] = []
    unit: str = ""
    rate_hz: Rate | None = None
    steps: dict[str, Step] = {}
    complex: Literal["keep", "magnitude", "phase", "pairs"] | None = None
    missing: list[Finite] = []
    scale: Finite | None = None
    offset: Finite = 0.0
    sizes: dict[str, PositiveInt] = {}

    def channel_names(self, count: int) -> tuple[str, ...]:
        """Names of `count` channels: those of the spec, otherwise numbers; an only channel without a name has an empty one."""
        return tuple(self.channels) or (tuple(str(i) for i in range(count)) if count > 1 else ("",))

    @model_validator(mode="after")
    def _sizes_are_of_axes(self) -> Self:
        axes = [axis for axis in self.axes if axis != CHANNEL]
        for name in self.sizes:
            if name not in axes:
                raise ValueError(
                    f"`sizes` names {name!r}, but axes other than `channel` are {axes}. {nearest(name, axes)}"
                )
        return self

    @model_validator(mode="after")
    def _axes_agree(self) -> Self:
        if len(set(self.axes)) < len(self.axes):
            raise ValueError(f"each axis has a name of its own, got {self.axes}")
        if self.axes == [CHANNEL]:
            raise ValueError("a signal has at least one axis beside `channel`")
        for name in self.steps:
            if name not in self.axes:
                raise ValueError(
                    f"`steps` names the axis {name!r}, but axes are {self.axes}. {nearest(name, self.axes)}"
                )
        if TIME in self.axes and self.rate_hz is None:
            raise ValueError(
                "a `time` axis needs `rate_hz`, a number or {attribute: name}; it is never assumed "
                "(give the axis another name where no rate is known)"
            )
        if TIME not in self.axes and self.rate_hz is not None:
            raise ValueError(f"`rate_hz` is the rate of the axis `time`, but axes are {self.axes}")
        if CHANNEL not in self.axes and len(self.channels) > 1:
            raise ValueError(f"{len(self.channels)} channels are named, but no axis is called `channel`")
        if self.scale == 0:
            raise ValueError("`scale: 0` would make every value the same")
        if self.offset and self.scale is None:
            raise ValueError("`offset` goes with `scale`, in place of what attributes of the dataset state: give both")
        if self.missing and self.complex is not None:
            raise ValueError("`missing` names stored real numbers, but `complex` values are read")
        return self


class Valid(Strict):
    """Where the signal was really measured.

    Args:
        path: dataset that is nonzero there: with the axes of the signal, or the windowed one only.
    """

    path: Name


class Group(Strict):
    """Whom a recording belongs to, from exactly one place. A pattern takes its group `group`, else its whole match.

    Args:
        attribute: name of an attribute of the dataset, its record, or the file.
        path: dataset: one name, or one for each row.
        record: regular expression on the name of the record.
        file: regular expression on the name of the file, without its ending.
    """

    attribute: Name | None = None
    path: Name | None = None
    record: Name | None = None
    file: Name | None = None

    @field_validator("record", "file")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(part is not None for part in (self.attribute, self.path, self.record, self.file)) != 1:
            raise ValueError("give exactly one of `attribute`, `path`, `record`, `file`")
        return self


class Label(Strict):
    """What is to be learned: a value, or one of `classes`, for each window.

    Args:
        path: dataset: one value for the record, one for each point of the windowed axis, or event times in seconds.
        attribute: or an attribute of the record, its signal or the file: one value for the record.
        events: the dataset holds times of events, in seconds from the start of the record.
        unit: of the values, such as bpm.
        classes: names of the classes; stored are these names, or their numbers from 0.
        reduce: how the values in a window become one; default `mean` for values, `majority` for classes.
        offset_s: added to the label's clock to give the signal's.
        missing: stored numbers that mean that there is no label, such as -1.
        objects: instead of one label, a table of objects for each row: the dataset is (row, object, column), NaN where there are
            fewer, and its attribute `columns` names the columns; these are read. Axes of the signal are named as there, in
            their unit, `class` is an index into `classes`. A window has the objects of its last row. A recording without
            the dataset has no labels.
    """

    path: Name | None = None
    attribute: Name | None = None
    events: bool = False
    reduce: Name | None = None
    unit: str = ""
    classes: Annotated[list[Name], Field(min_length=1)] | None = None
    offset_s: Finite = 0.0
    missing: list[Finite] = []
    objects: Annotated[list[Name], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.objects is not None and (
            self.path is None
            or self.events
            or self.reduce
            or self.offset_s
            or self.missing
            or (OBJECT_CLASS in self.objects) != bool(self.classes)
        ):
            raise ValueError(
                "`objects` name columns of the dataset at `path`, with `class` among them exactly where there are `classes`; "
                "`events`, `reduce`, `offset_s` and `missing` do not go with them"
            )
        if self.classes is not None and len(self.classes) < 2 and self.objects is None:
            raise ValueError("one class leaves nothing to tell apart: name two or more (`objects` may be of one)")
        if (self.path is None) == (self.attribute is None):
            raise ValueError("give the label as either `path` or `attribute`")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have the same name")
        if self.classes is not None and self.reduce in ("mean", "median"):
            raise ValueError(f"classes have no {self.reduce}: use `majority` or `first`")
        if self.events and self.path is None:
            raise ValueError("`events` are times in a dataset: give its `path`")
        if self.events and (self.reduce is None or self.reduce in BUILT_IN_REDUCERS):
            raise ValueError("`events` need a `reduce` that the adapter declares: times are not values")
        return self


class DataSpec(Strict):
    """One data set: where its values stand in the files, their units, and what a sample of it is.

    Args:
        name: of the data set; `convert` writes `NAME.h5`.
        title: one line for people.
        licence: of the data.
        citation: of the data.
        kind: `hdf5` for recordings, `image_folder` for a folder of pictures in class folders.
        files: glob of the HDF5 files below the root folder.
        folder: of pictures: where they lie below the root folder.
        channels: of pictures: 3 for RGB, 1 for gray.
        table: of pictures in folders that are no classes: a table with a row for each, whose attribute `label` is the class, and
            `side`, if there is one, the side (train, val, ...).
        records: pattern of the groups of an HDF5 file that are recordings each, such as `/*`; by default the file is one recording.
        signal: the dataset that holds the measurement.
        auxiliary: other signals of the same recordings, by name: cut along the window's axis with the signal, or taken whole where
            they have no such axis. A recording may lack any of them.
        valid: where the signal was really measured; NaN counts as missing in any case.
        missing_budget: share of a window that may be missing; windows with more are left out.
        group: whom a recording belongs to; splits are made by group. By default each recording is a group.
        label: what is to be learned.
        window: how recordings are cut into samples; by default a recording is a sample.
        split: which groups train, validate and test, or folds of them.
        convert: how published files become the HDF5 files that the other keys describe.
    """

    name: Name
    title: str = ""
    licence: str = ""
    citation: str = ""
    kind: Literal["hdf5", "image_folder"] = "hdf5"
    files: Name | None = None
    folder: Name | None = None
    channels: Literal[1, 3] | None = None
    table: LabelTable | None = None
    records: Name | None = None
    signal: Signal | None = None
    auxiliary: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Signal] = {}
    valid: Valid | None = None
    missing_budget: Share = 0.5
    group: Group | None = None
    label: Label | None = None
    window: Window | None = None
    split: AnySplit | None = None
    convert: Conversion | None = None

    @property
    def picture_channels(self) -> Literal[1, 3]:
        """Channels of pictures in folders: RGB unless the spec says otherwise."""
        return self.channels or 3

    @field_validator("files", "folder")
    @classmethod
    def _stays_inside(cls, path: str | None) -> str | None:
        if path is not None and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts):
            raise ValueError("a path below the root folder, without a leading `/` and without `..`")
        return path

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "image_folder":
            extra = [
                key
                for key in ("files", "records", "signal", "auxiliary", "valid", "group", "label", "window")
                if getattr(self, key)
            ]
            if extra:
                raise ValueError(f"a folder of class folders has no {', '.join(f'`{key}`' for key in extra)}")
            if self.table is not None and not {"label"} <= set(self.table.attributes) <= {"label", "side"}:
                raise ValueError(
                    "the attributes of pictures in `table` are `label`, and `side` where a column states it"
                )
            return self
        if self.table is not None:
            raise ValueError("`table` goes with `kind: image_folder`; that of recordings is `convert.table`")
        if self.folder is not None:
            raise ValueError("`folder` goes with `kind: image_folder`; HDF5 files are named by `files`")
        if self.channels is not None:
            raise ValueError("`channels` goes with `kind: image_folder`; those of HDF5 files are `signal.channels`")
        missing = [key for key in ("files", "signal") if getattr(self, key) is None]
        if missing:
            raise ValueError(f"an HDF5 data set needs {', '.join(f'`{key}`' for key in missing)}")
        if self.signal is not None and self.window is not None:
            check_window(self.window, self.signal)
        return self


def check_window(window: Window, signal: Signal) -> None:
    """Whether the signal can be cut this way.

    Raises:
        ValueError: an axis the signal does not have, or a cut that leaves no axis.
    """
    axes = [axis for axis in signal.axes if axis != CHANNEL]
    if window.axis not in axes:
        raise ValueError(f"the window's axis {window.axis!r} is none of {axes}. {nearest(window.axis, axes)}".rstrip())
    if window.length == 1 and axes == [window.axis]:
        raise ValueError(
            f"a window of 1 point along {window.axis!r}, the only axis, leaves nothing to cut into patches"
        )


def shipped_specs() -> dict[str, Path]:
    """The specs that come with maekit, by name."""
    import maekit.data_specs

    return {path.stem: path for path in sorted(Path(maekit.data_specs.__file__).parent.glob("*.yaml"))}


def find_spec(name_or_path: str | Path, relative_to: Path | None = None) -> Path:
    """The file of a shipped spec (by its name) or of one's own (a path with `/` or `.yaml`, from `relative_to`).

    Raises:
        UserError: neither is there; names the nearest shipped one.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        path = (relative_to or Path()) / name_or_path
        if not path.is_file():
            near = nearest(path.name, (other.name for other in path.parent.glob("*.y*ml")))
            raise UserError(
                "no such data spec" if not path.is_dir() else "a folder where a data spec is expected",
                location=str(path),
                expected="a YAML file",
                hint=near or "Give the path of a .yaml relative to the recipe, or the name of a shipped spec.",
            )
        return path
    shipped = shipped_specs()
    if text not in shipped:
        raise UserError(
            "no shipped data spec of this name",
            value=text,
            expected="one of " + (", ".join(sorted(shipped)) or "(none is installed)"),
            hint=nearest(text, shipped) or "A spec of your own is given by its path, ending in .yaml.",
        )
    return shipped[text]


def load_spec(name_or_path: str | Path, relative_to: Path | None = None) -> DataSpec:
    """Read and check a data spec.

    Args:
        name_or_path: name of a shipped spec, or path of a YAML file.
        relative_to: folder that a relative path starts from; default the current one.

    Raises:
        UserError: not found, or everything that is wrong with it, each with file:line:column.
    """
    document = read_yaml(find_spec(name_or_path, relative_to))
    return validate(DataSpec, document.data, document.locate)
