"""From a recipe to objects: source, split, adapter, task. The one place where the layers meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit import plugins
from maekit.core.autoencoder import Encoder, MaskedAutoencoder
from maekit.core.mix import MixTarget, Part
from maekit.core.targets import TokenTarget
from maekit.core.transformer import PRESETS, TransformerConfig
from maekit.data import splits
from maekit.data.hdf5 import HDF5Windows
from maekit.data.image_folder import INFO
from maekit.data.loading import Samples
from maekit.data.packed_folder import open_folder
from maekit.data.skipped import Skipped
from maekit.data.spec import DataSpec, load_spec
from maekit.errors import UnreadableError, UserError
from maekit.options import construct
from maekit.recipe.schema import Choice, Size
from maekit.tokenizers import make_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from maekit.adapter import Adapter
    from maekit.core.backbone import Backbone
    from maekit.core.targets import Target
    from maekit.data.sample import Sample, SignalInfo, Source
    from maekit.recipe.load import LoadedRecipe
    from maekit.recipe.schema import Preset, Recipe
    from maekit.tasks.task import Task

MOST_TO_FIT = 4096
"""Training samples, drawn by the seed, that the normalisation is estimated from where there are more."""
SKIPPED = "bad_samples.txt"
"""In a run folder: samples that could not be read, where the recipe allows for some."""
LABELLED_TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Setup:
    """Everything of a recipe but the model: data, split and adapter, whose normalisation is that of the training split.

    Attributes:
        loaded: the recipe and its origins.
        spec: the data spec.
        source: all samples.
        split: indices of `train`, `validation`, `test`.
        adapter: of the modality.
        skipped: samples that could not be read.
    """

    loaded: LoadedRecipe
    spec: DataSpec
    source: Source
    split: splits.Indices
    adapter: Adapter
    skipped: Skipped = field(default_factory=Skipped)

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe

    def samples(self, side: str, *, augment: bool = False) -> Samples | None:
        """Prepared samples of one side of the split; None where it is empty."""
        indices = self.split[side]
        if not len(indices):
            return None
        patches = prod(self.adapter.patchifier.grid_size)
        return Samples(
            self.source, indices, self.adapter, patches=patches, seed=self.recipe.seed, augment=augment,
            skipped=self.skipped,
        )  # fmt: skip

    def some_samples(self, side: str, *, augment: bool = False) -> Samples:
        """Like `samples`, where there must be some.

        Raises:
            UserError: an empty side.
        """
        found = self.samples(side, augment=augment)
        if found is None:
            raise UserError(
                f"the {side} split is empty", place=self.loaded.locate("data", "split"),
                expected="at least one group", mend="Name groups for it in `data.split`.",
            )  # fmt: skip
        return found

    def to_fit(self) -> Iterator[Sample]:
        """Training samples that normalisations and targets are estimated from: not more than needed, drawn by the seed."""
        for i in np.sort(np.random.default_rng(self.recipe.seed).permutation(self.split["train"])[:MOST_TO_FIT]):
            try:
                yield self.source[int(i)]
            except UnreadableError as error:
                self.skipped.note(error)

    @property
    def labels(self) -> NDArray[Any]:
        """Labels of all samples.

        Raises:
            UserError: there are none.
        """
        if self.source.labels is None:
            raise UserError("this data set has no labels", place=self.spec.name, expected="`label` in the data spec")
        return self.source.labels


def set_up(loaded: LoadedRecipe, *, labels: bool | None = None, fit: bool = True, folder: Path | None = None) -> Setup:
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
    if labels is None:
        labels = recipe.task.name in LABELLED_TASKS
    kind = plugins.find("adapters", recipe.adapter.name, place=loaded.locate("adapter", "name"))
    spec = load_spec(recipe.data.spec, loaded.path.parent)
    root = Path(recipe.data.root)
    source: Source
    if spec.kind == "image_folder":
        source = open_folder(spec, root, labels=labels)
    else:
        source = HDF5Windows(spec, root, window=recipe.data.window, reducers=kind.reducers, with_labels=labels)
    adapter: Adapter = construct(kind, recipe.adapter, loaded, ("adapter",), source.info)
    place = loaded.locate("data", "split")
    split = splits.resolve(source.groups, recipe.data.split or spec.split, place)
    if labels and source.labels is not None:
        split["train"] = splits.labelled(
            split["train"], source.groups, source.labels, wanted=recipe.data.labelled_groups,
            fraction=recipe.data.label_fraction, classes=source.classes is not None, seed=recipe.seed,
            place=loaded.locate("data", "labelled_groups"),
        )  # fmt: skip
    allowed = recipe.data.bad_samples
    budget = int(allowed * len(source)) if isinstance(allowed, float) else allowed
    skipped = Skipped(budget, None if folder is None else folder / SKIPPED)
    setup = Setup(loaded, spec, source, split, adapter, skipped=skipped)
    if fit:
        adapter.fit(setup.to_fit())
    return setup


def set_up_without_data(
    loaded: LoadedRecipe, classes: int = 0, *, info: SignalInfo | None = None, fit: bool = False
) -> Setup:
    """The adapter of a recipe whose data are not there, as far as that can be: weights can be read and written.

    Args:
        loaded: a recipe.
        classes: how many a head has; they are numbered until the data name them.
        info: of the data, where it is known.
        fit: as in `set_up`: False where the normalisation comes with weights.

    Raises:
        UserError: data whose shape only the files tell, and no files; a normalisation that is estimated from data.
    """
    recipe = loaded.recipe
    spec = load_spec(recipe.data.spec, loaded.path.parent)
    if spec.kind != "image_folder" and info is None:
        return set_up(loaded, fit=fit)
    kind = plugins.find("adapters", recipe.adapter.name, place=loaded.locate("adapter", "name"))
    named = spec.label.classes if spec.label else None
    if spec.kind == "image_folder":
        named = [str(i) for i in range(classes)]
    source = Absent(info or INFO, tuple(named) if named else None)
    split = {side: np.zeros(0, dtype=np.int64) for side in ("train", "validation", "test")}
    adapter: Adapter = construct(kind, recipe.adapter, loaded, ("adapter",), source.info)
    if fit:
        try:
            adapter.fit(())
        except UserError as error:
            raise UserError(
                "a normalisation that is estimated from data", place=loaded.locate("adapter"),
                expected="the one that the weights were trained with, stated", mend="Give means and deviations in the adapter's `normalisation`.",
            ) from error  # fmt: skip
    return Setup(loaded, spec, source, split, adapter)


@dataclass
class Absent:
    """A source without samples, of known shape; see `maekit.data.sample.Source`."""

    info: SignalInfo
    classes: tuple[str, ...] | None
    groups: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, dtype=np.str_))
    labels: NDArray[Any] | None = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    objects: tuple[str, ...] | None = None
    beside: dict[str, SignalInfo] = field(default_factory=dict)

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Sample:
        raise IndexError(index)

    def fingerprint(self) -> str:
        return ""


def make_autoencoder(setup: Setup) -> MaskedAutoencoder:
    """The masked autoencoder of a recipe, with new weights.

    Raises:
        UserError: masking, target or sizes that do not fit the data.
    """
    loaded, model, patchifier = setup.loaded, setup.recipe.model, setup.adapter.patchifier
    masking = construct(
        plugins.find("maskings", model.masking.name, place=loaded.locate("model", "masking", "name")),
        model.masking, loaded, ("model", "masking"), patchifier,
    )  # fmt: skip
    target, encoder = make_target(setup), make_encoder(setup)
    try:
        return MaskedAutoencoder(
            patchifier, encoder=encoder, decoder=size(model.decoder), masking=masking,
            mask_ratio=model.mask_ratio, target=target, encoder_mask_tokens=model.encoder_mask_tokens, loss_on=model.loss_on,
            decoder_attention=model.decoder_attention, predicted_share=model.predicted_share,
        )  # fmt: skip
    except ValueError as error:
        keys = ("mask_ratio", "encoder_mask_tokens", "decoder_attention")
        key = next(key for key in keys if key in str(error))
        raise UserError(str(error), place=loaded.locate("model", key)) from error


def make_encoder(setup: Setup) -> Backbone:
    """The encoder of a recipe, with new weights; one that is pretrained with mask tokens of its own has them in pretraining.

    Raises:
        UserError: options that do not fit it, or patches that it cannot take.
    """
    loaded, model = setup.loaded, setup.recipe.model
    kind = plugins.find("encoders", model.backbone.name, place=loaded.locate("model", "backbone", "name"))
    sized: tuple[TransformerConfig, ...] = ()
    known = {}
    if issubclass(kind, Encoder):
        sized = (size(model.encoder, model.drop_path),)
        known["mask_token"] = model.encoder_mask_tokens and setup.recipe.task.name not in LABELLED_TASKS
    encoder: Backbone = construct(
        kind, model.backbone, loaded, ("model", "backbone"), setup.adapter.patchifier, *sized, **known
    )
    return encoder


def make_target(setup: Setup) -> Target:
    """The target of a recipe, with the tokenizer where it has one; what is learned from data is not learned yet.

    Raises:
        UserError: options, or a tokenizer, that do not fit.
    """
    return _make_target(setup, setup.recipe.model.target, ("model", "target"))


def _make_target(setup: Setup, choice: Choice, keys: tuple[str | int, ...]) -> Target:
    loaded, options = setup.loaded, choice.options
    known: dict[str, Any] = {}
    kind = plugins.find("targets", choice.name, place=loaded.locate(*keys, "name"))
    if issubclass(kind, TokenTarget):
        if len(keys) > 2:
            raise UserError("a part that predicts codes", place=loaded.locate(*keys), value=choice.name,
                            expected="targets of numbers in a mix")  # fmt: skip
        known["tokenizer"] = make_tokenizer(loaded, setup.adapter)
        options.pop("tokenizer", None)
    elif issubclass(kind, MixTarget):
        known["parts"] = _make_parts(setup, options.pop("parts", None), (*keys, "parts"))
    target: Target = construct(
        kind, Choice(name=choice.name, **options), loaded, keys, setup.adapter.patchifier, **known
    )
    return target


def _make_parts(setup: Setup, given: Any, keys: tuple[str | int, ...]) -> list[Part]:
    parts = []
    for i, part in enumerate(given if isinstance(given, list) else [given]):
        options = {"name": part} if isinstance(part, str) else dict(part) if isinstance(part, dict) else {}
        weight = options.pop("weight", 1.0)
        if not isinstance(options.get("name"), str) or not isinstance(weight, int | float):
            raise UserError("parts of a mix", place=setup.loaded.locate(*keys), value=part,
                            expected="`parts: [{name: raw, weight: 1}, {name: ..., weight: 0.5, options}]`")  # fmt: skip
        parts.append(Part(options["name"], _make_target(setup, Choice(**options), (*keys, i)), float(weight)))
    return parts


def fit_target(setup: Setup, target: Target) -> None:
    """Let a target learn what it needs from the patches of training samples, without augmentation.

    Raises:
        UserError: patches that it cannot be learned from.
    """
    try:
        target.fit(TrainingPatches(setup))
    except ValueError as error:
        raise UserError(str(error), place=setup.loaded.locate("model", "target")) from error


@dataclass(frozen=True)
class TrainingPatches:
    """Standardised (patch, patch_dim) of one training sample after the other, NaN where not measured; read anew each time."""

    setup: Setup

    def __iter__(self) -> Iterator[Tensor]:
        adapter = self.setup.adapter
        for sample in self.setup.to_fit():
            signal, valid = adapter.prepare(sample)
            x, measured = adapter.front(
                torch.from_numpy(signal)[None], None if valid is None else torch.from_numpy(valid)[None]
            )
            patches = adapter.patchifier.patchify(x)[0]
            yield patches if measured is None else patches.where(measured[0, :, None], torch.nan)


def make_task(setup: Setup) -> Task:
    """The task of a recipe, with new weights; its front is the adapter's.

    Raises:
        UserError: a task, labels or options that do not fit.
    """
    loaded, recipe = setup.loaded, setup.recipe
    kind = plugins.find("tasks", recipe.task.name, place=loaded.locate("task", "name"))
    keys = ("task",)
    front = setup.adapter.front
    if recipe.task.name not in LABELLED_TASKS:
        model = () if recipe.task.name == "tokenizer" else (make_autoencoder(setup),)
        return construct(kind, recipe.task, loaded, keys, front, *model)
    encoder = make_encoder(setup)
    if (recipe.task.name == "classification") != (setup.source.classes is not None):
        raise UserError(
            f"{recipe.task.name} does not fit the labels", place=loaded.locate("task"),
            value=f"{'classes' if setup.source.classes else 'values'} in {setup.spec.name}",
            expected="classification for classes, regression for values",
        )  # fmt: skip
    if setup.source.classes is not None:
        return construct(kind, recipe.task, loaded, keys, front, encoder, classes=setup.source.classes)
    values = setup.labels[setup.split["train"]].astype(np.float64)
    # Without the data both come with the weights.
    mean, spread = (float(values.mean()), float(values.std()) or 1.0) if len(values) else (0.0, 1.0)
    return construct(
        kind, recipe.task, loaded, keys, front, encoder, mean=mean, std=spread, places=setup.adapter.places()
    )


def size(given: Preset | Size, drop_path: float = 0.0) -> TransformerConfig:
    """A transformer's size from a preset's name or from numbers."""
    if isinstance(given, Size):
        return TransformerConfig(given.width, given.depth, given.heads, given.mlp_ratio, given.drop_path or drop_path)
    preset = PRESETS[given]
    return TransformerConfig(preset.width, preset.depth, preset.heads, preset.mlp_ratio, drop_path)
