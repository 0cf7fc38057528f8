"""From a recipe to its data: source, split, adapters. Here and in `models.py` the layers meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit import plugins
from maekit.build.adapters import make_adapters
from maekit.config.data_spec import DataSpec, load_spec
from maekit.core.joint import PRIMARY
from maekit.data import splits
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.images.packed import open_folder
from maekit.data.images.picture import picture_info
from maekit.data.loading import AuxiliarySignal, Samples
from maekit.data.skipped import Skipped
from maekit.errors import UnreadableError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from maekit.adapter import Adapter, Augmentations, ChannelStatistics, Front
    from maekit.config.load import LoadedRecipe
    from maekit.config.schema import Recipe
    from maekit.data.sample import Sample, SignalInfo, Source
    from maekit.tasks.task import Task

MOST_TO_FIT = 4096
"""Training samples, drawn by the seed, that the normalisation is estimated from where there are more."""
SKIPPED = "bad_samples.txt"
"""In a run folder: samples that could not be read, where the recipe allows for some."""


@dataclass(frozen=True)
class Experiment:
    """Everything of a recipe but the model: data, split and adapter, whose normalisation is that of the training split.

    Attributes:
        loaded: the recipe and its origins.
        spec: the data spec.
        source: all samples.
        split: indices of `train`, `validation`, `test`.
        adapter: of the modality.
        auxiliary: adapters of the auxiliary signals, by name.
        skipped: samples that could not be read.
        augmentations: of training samples, by the name of the signal as in `statistics`.
        statistics: normalisation of each signal by its name, that of the samples' own by `PRIMARY`; without those that come
            with weights.
    """

    loaded: LoadedRecipe
    spec: DataSpec
    source: Source
    split: splits.Indices
    adapter: Adapter
    skipped: Skipped = field(default_factory=Skipped)
    auxiliary: dict[str, Adapter] = field(default_factory=dict)
    augmentations: Mapping[str, Augmentations] = field(default_factory=dict)
    statistics: dict[str, ChannelStatistics] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.loaded.recipe

    def samples(self, side: str, *, augment: bool = False) -> Samples | None:
        """Prepared samples of one side of the split; None where it is empty."""
        indices = self.split[side]
        if not len(indices):
            return None
        patches = prod(self.adapter.patchifier.grid_size)
        return Samples(
            self.source,
            indices,
            self.adapter,
            patches=patches,
            seed=self.recipe.seed,
            augmentations=self.augmentations.get(PRIMARY) if augment else None,
            skipped=self.skipped,
            auxiliary={
                name: AuxiliarySignal(
                    other, prod(other.patchifier.grid_size), self.augmentations.get(name) if augment else None
                )
                for name, other in self.auxiliary.items()
            },
        )

    def some_samples(self, side: str, *, augment: bool = False) -> Samples:
        """Like `samples`, where there must be some.

        Raises:
            UserError: an empty side.
        """
        found = self.samples(side, augment=augment)
        if found is None:
            raise UserError(
                f"the {side} split is empty",
                location=self.loaded.locate("data", "split"),
                expected="at least one group",
                hint="Name groups for it in `data.split`.",
            )
        return found

    def to_fit(self) -> Iterator[Sample]:
        """Training samples that normalisations and targets are estimated from: not more than needed, drawn by the seed."""
        for i in np.sort(np.random.default_rng(self.recipe.seed).permutation(self.split["train"])[:MOST_TO_FIT]):
            try:
                yield self.source[int(i)]
            except UnreadableError as error:
                self.skipped.note(error)

    def make_front(self, name: str = PRIMARY) -> Front:
        """A new front end for the samples, or for the auxiliary signal of this name, with the statistics that are known."""
        adapter = self.adapter if name == PRIMARY else self.auxiliary[name]
        front = adapter.make_front()
        if name in self.statistics:
            front.set_statistics(self.statistics[name])
        if name in self.augmentations:
            front.set_augmentations(self.augmentations[name].of_batch)
        return front

    def fit_statistics(self, name: str = PRIMARY) -> ChannelStatistics:
        """Estimate and keep the normalisation of a signal from the training samples that have it."""
        if name == PRIMARY:
            statistics = self.adapter.fit(self.to_fit())
        else:
            present = (sample.auxiliary[name] for sample in self.to_fit() if name in sample.auxiliary)
            statistics = self.auxiliary[name].fit(present)
        self.statistics[name] = statistics
        return statistics

    @property
    def labels(self) -> NDArray[Any]:
        """Labels of all samples.

        Raises:
            UserError: there are none.
        """
        if self.source.labels is None:
            raise UserError("this data set has no labels", location=self.spec.name, expected="`label` in the data spec")
        return self.source.labels


def build_experiment(
    loaded: LoadedRecipe, *, labels: bool | None = None, fit: bool = True, folder: Path | None = None
) -> Experiment:
    """Open the data of a recipe, split it, make its adapter.

    Args:
        loaded: a recipe.
        labels: whether labels are read; by default if the task needs them.
        fit: estimate the normalisation from the training split (False: it comes with weights).
        folder: of the run, where samples that cannot be read are listed.

    Raises:
        UserError: data, split or options that do not fit.
    """
    recipe = loaded.recipe
    task = task_class(loaded)
    if labels is None:
        labels = task.needs_labels
    kind = plugins.find("adapters", recipe.adapter.name, location=loaded.locate("adapter", "name"))
    spec = load_spec(recipe.data.spec, loaded.path.parent)
    root = Path(recipe.data.root)
    source: Source
    if spec.kind == "image_folder":
        source = open_folder(spec, root, labels=labels)
    else:
        source = HDF5Windows(
            spec,
            root,
            window=recipe.data.window,
            reducers=kind.reducers,
            with_labels=labels,
            auxiliary=list(recipe.auxiliary),
        )
    adapters = make_adapters(loaded, source.info, source.auxiliary)
    location = loaded.locate("data", "split")
    split = splits.resolve_split(source.groups, recipe.data.split or spec.split, location)
    if labels and source.labels is not None:
        split["train"] = splits.select_labelled(
            split["train"],
            source.groups,
            source.labels,
            labelled_groups=recipe.data.labelled_groups,
            fraction=recipe.data.label_fraction,
            stratify=task.label_kind is not None and task.label_kind.stratified,
            seed=recipe.seed,
            location=loaded.locate("data", "labelled_groups"),
        )
    allowed = recipe.data.bad_samples
    budget = int(allowed * len(source)) if isinstance(allowed, float) else allowed
    skipped = Skipped(budget, None if folder is None else folder / SKIPPED)
    experiment = Experiment(loaded, spec, source, split, skipped=skipped, **adapters._asdict())
    if fit:
        for name in (PRIMARY, *experiment.auxiliary):
            experiment.fit_statistics(name)
    return experiment


def task_class(loaded: LoadedRecipe) -> type[Task]:
    """The task that a recipe names.

    Raises:
        UserError: no such task.
    """
    task: type[Task] = plugins.find("tasks", loaded.recipe.task.name, location=loaded.locate("task", "name"))
    return task


def build_experiment_without_data(
    loaded: LoadedRecipe,
    classes: int = 0,
    *,
    info: SignalInfo | None = None,
    auxiliary: Mapping[str, SignalInfo] | None = None,
    fit: bool = False,
) -> Experiment:
    """The adapter of a recipe whose data are not there, as far as that can be: weights can be read and written.

    Args:
        loaded: a recipe.
        classes: how many a head has; they are numbered until the data name them.
        info: of the data, where it is known.
        auxiliary: metadata of the auxiliary signals, where they are known.
        fit: as in `build_experiment`: False where the normalisation comes with weights.

    Raises:
        UserError: data whose shape only the files tell, and no files; a normalisation that is estimated from data.
    """
    recipe = loaded.recipe
    spec = load_spec(recipe.data.spec, loaded.path.parent)
    if spec.kind != "image_folder" and (info is None or not set(recipe.auxiliary) <= set(auxiliary or ())):
        return build_experiment(loaded, fit=fit)
    named = spec.label.classes if spec.label else None
    if spec.kind == "image_folder":
        named = [str(i) for i in range(classes)]
    known = info or picture_info(spec.picture_channels)
    source = Absent(
        known, tuple(named) if named else None, objects=known.objects or None, auxiliary=dict(auxiliary or {})
    )
    split = {side: np.zeros(0, dtype=np.int64) for side in ("train", "validation", "test")}
    adapters = make_adapters(loaded, source.info, source.auxiliary)
    experiment = Experiment(loaded, spec, source, split, **adapters._asdict())
    if fit:
        try:
            experiment.statistics[PRIMARY] = experiment.adapter.fit(())
        except UserError as error:
            raise UserError(
                "a normalisation that is estimated from data",
                location=loaded.locate("adapter"),
                expected="the one that the weights were trained with, stated",
                hint="Give means and deviations in the adapter's `normalisation`.",
            ) from error
    return experiment


@dataclass
class Absent:
    """A source without samples, of known shape; see `maekit.data.sample.Source`."""

    info: SignalInfo
    classes: tuple[str, ...] | None
    groups: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, dtype=np.str_))
    labels: NDArray[Any] | None = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    objects: tuple[str, ...] | None = None
    auxiliary: dict[str, SignalInfo] = field(default_factory=dict)

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Sample:
        raise IndexError(index)

    def fingerprint(self) -> str:
        """Empty: there are no files."""
        return ""
