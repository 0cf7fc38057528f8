"""What a data set means, as a YAML file that pydantic checks: a data spec.

Nothing here opens a data file, so that recipes are checked in well under a second.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from maekit.data.conversion import Conversion
from maekit.errors import UserError, nearest
from maekit.recipe.validate import validate
from maekit.recipe.yaml import read_yaml

Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AttributeName(Strict):
    """A number or word that stands in an HDF5 attribute of the dataset, or of the record around it."""

    attribute: str


class Window(Strict):
    """How recordings are cut into samples along one axis.

    `seconds` (with the axis' own rate) or `length` (in points); a length of 1 drops the axis. Hops default to the
    window. A recording shorter than the window is left out, or with `pad` filled up with missing values.
    """

    axis: str = "time"
    seconds: PositiveFloat | None = None
    hop_seconds: PositiveFloat | None = None
    length: PositiveInt | None = None
    hop: PositiveInt | None = None
    pad: bool = False

    @model_validator(mode="after")
    def _one_unit(self) -> Window:
        if (self.seconds is None) == (self.length is None):
            raise ValueError("give either `seconds` or `length` (in points)")
        if (self.hop is not None and self.length is None) or (self.hop_seconds is not None and self.seconds is None):
            raise ValueError("`hop` goes with `length`, `hop_seconds` with `seconds`")
        return self


class Split(Strict):
    """Groups (persons, drives, sessions) by name; `train: rest` is every group that is not named."""

    train: list[str] | Literal["rest"] = "rest"
    validation: list[str] = []
    test: list[str] = []


class Folds(Strict):
    """Groups dealt into folds: `fold` is the test split, the next `validation_groups` groups the validation split.

    `folds: leave_one_out` makes every group a fold of its own.
    """

    folds: Annotated[int, Field(ge=2)] | Literal["leave_one_out"]
    fold: Annotated[int, Field(ge=0)] = 0
    validation_groups: Annotated[int, Field(ge=0)] = 1
    exclude: list[str] = []
    seed: int = 0


class Step(Strict):
    """Spacing of an axis for drawing and for units: the first point lies at `start`."""

    step: float
    unit: str = ""
    start: float = 0.0


class Signal(Strict):
    """Which dataset holds the signal and what its axes are.

    `complex` says what becomes of complex data: `keep`, `magnitude`, `phase` (radian); `pairs` reads I and Q from
    two fields of a compound type, or from a last axis of two, and keeps them complex.
    """

    path: str
    axes: list[str]
    channels: list[str] = []
    unit: str = ""
    rate_hz: PositiveFloat | AttributeName | None = None
    steps: dict[str, Step] = {}
    complex: Literal["keep", "magnitude", "phase", "pairs"] | None = None


class Valid(Strict):
    """A boolean dataset of the signal's axes (or of its time axis alone): True where really measured."""

    path: str


class Group(Strict):
    """What splits are made by: an attribute, a dataset (one entry, or one a row), or part of a name by regex."""

    attribute: str | None = None
    path: str | None = None
    record: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Group:
        given = [value for value in (self.attribute, self.path, self.record, self.file) if value is not None]
        if len(given) != 1:
            raise ValueError("give one of `attribute`, `path`, `record` (a regex) or `file` (a regex)")
        for pattern in (self.record, self.file):
            if pattern is not None:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
        return self


class Label(Strict):
    """Where labels stand and how the values inside a window become one.

    With `events` the dataset holds times in seconds from the start of the record. `reduce` is `mean`, `median`,
    `majority`, `first`, or what the adapter brings. With `classes` the task is classification: entries of the file
    are these names, or indices into them.
    """

    path: str | None = None
    attribute: str | None = None
    events: bool = False
    reduce: str = "first"
    unit: str = ""
    classes: list[str] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Label:
        if (self.path is None) == (self.attribute is None):
            raise ValueError("give either `path` (a dataset) or `attribute`")
        if self.classes is not None and len(set(self.classes)) < 2:
            raise ValueError("classification needs at least two different classes")
        return self


class DataSpec(Strict):
    """A whole data spec."""

    name: str
    title: str = ""
    licence: str = ""
    citation: str = ""
    kind: Literal["hdf5", "image_folder"] = "hdf5"
    files: str = "*.h5"
    records: Literal["/*"] | None = None
    signal: Signal | None = None
    valid: Valid | None = None
    missing_budget: Share = 0.5
    group: Group | None = None
    label: Label | None = None
    window: Window | None = None
    split: Split | Folds | None = None
    convert: Conversion | None = None

    @model_validator(mode="after")
    def _complete(self) -> DataSpec:
        if self.kind == "hdf5":
            if self.signal is None:
                raise ValueError("a data spec of kind hdf5 needs `signal`")
            axes = self.signal.axes
            if self.window and self.window.axis not in axes:
                raise ValueError(f"window.axis {self.window.axis!r} is none of the signal's axes {axes}")
        return self


def shipped() -> Path:
    """The folder of the data specs that come with maekit."""
    import maekit.data_specs

    return Path(maekit.data_specs.__file__).parent


def find_spec(name: str, relative_to: Path) -> Path:
    """The file behind a name in a recipe: a path relative to the recipe, or a spec that comes with maekit.

    Raises:
        UserError: neither exists.
    """
    beside = relative_to / name
    if name.endswith((".yaml", ".yml")) or beside.is_file():
        return beside
    known = sorted(path.stem for path in shipped().glob("*.yaml"))
    if name in known:
        return shipped() / f"{name}.yaml"
    raise UserError("no such data spec", place=str(relative_to), value=name, expected="a file, or one of " + ", ".join(known),
                    mend=nearest(name, known))  # fmt: skip


def load_spec(path: Path) -> DataSpec:
    """Read and check a data spec.

    Raises:
        UserError: everything that is wrong with it, at once.
    """
    document = read_yaml(path)
    data: dict[str, Any] = document.data
    return validate(DataSpec, data, document.locate)
