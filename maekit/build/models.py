"""From a recipe and its data to the model and the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit import plugins
from maekit.build.tokenizers import make_tokenizer
from maekit.config.options import construct
from maekit.config.schema import Choice, Size
from maekit.core.autoencoder import Encoder, MaskedAutoencoder
from maekit.core.joint import PRIMARY, JointAutoencoder, JointEncoder
from maekit.core.targets.tokens import TokenTarget
from maekit.core.transformer import PRESETS, TransformerConfig
from maekit.errors import UserError
from maekit.metrics.similarity import similarity_of
from maekit.tasks.joint import JointPretraining
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from maekit.config.schema import Preset, Recipe
    from maekit.core.encoders.base import Backbone
    from maekit.core.targets.base import Target
    from maekit.metrics.plane import Plane
    from maekit.metrics.similarity import Similarity
    from maekit.tasks.task import Task


if TYPE_CHECKING:
    from maekit.build.experiment import Experiment

from maekit.build.experiment import LABELLED_TASKS


def make_autoencoder(experiment: Experiment) -> MaskedAutoencoder:
    """The masked autoencoder of a recipe, with new weights.

    Raises:
        UserError: masking, target or sizes that do not fit the data.
    """
    loaded, model, patchifier = experiment.loaded, experiment.recipe.model, experiment.adapter.patchifier
    masking = construct(
        plugins.find("maskings", model.masking.name, location=loaded.locate("model", "masking", "name")),
        model.masking,
        loaded,
        ("model", "masking"),
        patchifier,
    )
    target, encoder = make_target(experiment), make_encoder(experiment)
    try:
        kind: type[MaskedAutoencoder] = JointAutoencoder if isinstance(encoder, JointEncoder) else MaskedAutoencoder
        return kind(
            patchifier,
            encoder=encoder,
            decoder=size(model.decoder),
            masking=masking,
            mask_ratio=model.mask_ratio,
            target=target,
            encoder_mask_tokens=model.encoder_mask_tokens,
            loss_on=model.loss_on,
            decoder_attention=model.decoder_attention,
            cross_mask_ratio=model.cross_mask_ratio,
        )
    except ValueError as error:  # the message begins with the option
        raise UserError(str(error), location=loaded.locate("model", str(error).split()[0].rstrip(":"))) from error


def make_encoder(experiment: Experiment) -> Backbone:
    """The encoder of a recipe, with new weights, and in pretraining with a mask token where the recipe asks for one.

    Raises:
        UserError: options that do not fit it, or patches that it cannot take.
    """
    loaded, model = experiment.loaded, experiment.recipe.model
    kind = plugins.find("encoders", model.backbone.name, location=loaded.locate("model", "backbone", "name"))
    arguments: dict[str, Any] = {}
    if experiment.auxiliary and kind is not Encoder:
        raise UserError(
            "an encoder of one signal alone",
            location=loaded.locate("model", "backbone"),
            value=model.backbone.name,
            expected="transformer, where there are signals `auxiliary`",
        )
    if experiment.auxiliary:
        kind = JointEncoder
        arguments["auxiliary"] = {name: adapter.patchifier for name, adapter in experiment.auxiliary.items()}
    if issubclass(kind, Encoder):
        arguments["config"] = size(model.encoder, model.drop_path)
    if issubclass(kind, Encoder) and not experiment.auxiliary:
        arguments["mask_token"] = model.encoder_mask_tokens and experiment.recipe.task.name not in LABELLED_TASKS
    encoder: Backbone = construct(
        kind, model.backbone, loaded, ("model", "backbone"), experiment.adapter.patchifier, **arguments
    )
    return encoder


def make_target(experiment: Experiment) -> Target:
    """The target of a recipe, with the tokenizer where it has one; it has learned nothing from data yet.

    Raises:
        UserError: options, or a tokenizer, that do not fit.
    """
    loaded, keys = experiment.loaded, ("model", "target")
    choice, patchifier = experiment.recipe.model.target, experiment.adapter.patchifier
    kind = plugins.find("targets", choice.name, location=loaded.locate(*keys, "name"))
    if not issubclass(kind, TokenTarget):
        return construct(kind, choice, loaded, keys, patchifier)
    options = {name: value for name, value in choice.options.items() if name != "tokenizer"}
    tokenizer = make_tokenizer(loaded, experiment.adapter, experiment.statistics.get(PRIMARY))
    return construct(kind, Choice(name=choice.name, **options), loaded, keys, patchifier, tokenizer=tokenizer)


def fit_target(experiment: Experiment, target: Target) -> None:
    """Fit a target to the patches of training samples, without augmentation.

    Raises:
        UserError: patches that it cannot be learned from.
    """
    try:
        target.fit(TrainingPatches(experiment))
    except ValueError as error:
        raise UserError(str(error), location=experiment.loaded.locate("model", "target")) from error


@dataclass(frozen=True)
class TrainingPatches:
    """Standardised (patch, patch_dim) of one training sample after the other, NaN where invalid; each iteration reads them again."""

    experiment: Experiment

    def __iter__(self) -> Iterator[Tensor]:
        adapter, front = self.experiment.adapter, self.experiment.make_front()
        for sample in self.experiment.to_fit():
            signal, valid = adapter.prepare(sample)
            x, measured = front(
                torch.from_numpy(signal)[None], None if valid is None else torch.from_numpy(valid)[None]
            )
            patches = adapter.patchifier.patchify(x)[0]
            yield patches if measured is None else patches.where(measured[0, :, None], torch.nan)


def make_task(experiment: Experiment) -> Task:
    """The task of a recipe, with new weights and fronts of its own.

    Raises:
        UserError: a task, labels or options that do not fit.
    """
    task = _make_task(experiment)
    if (
        isinstance(task, JointPretraining)
        and task.contrast is not None
        and experiment.recipe.training.parallel == "fsdp2"
    ):
        raise UserError(
            "momentum contrast with sharded weights",
            location=experiment.loaded.locate("training", "parallel"),
            value="fsdp2",
            expected="ddp: the encoder that follows needs whole weights in every process",
        )
    try:
        task.check_auxiliary(experiment.auxiliary)
    except ValueError as error:
        raise UserError(str(error), location=experiment.loaded.locate("task")) from error
    task.fronts.update({name: experiment.make_front(name) for name in experiment.auxiliary})
    return task


def _make_task(experiment: Experiment) -> Task:
    loaded, recipe = experiment.loaded, experiment.recipe
    kind = plugins.find("tasks", recipe.task.name, location=loaded.locate("task", "name"))
    keys = ("task",)
    front = experiment.make_front()
    if recipe.task.name not in LABELLED_TASKS:
        model = () if recipe.task.name == "tokenizer" else (make_autoencoder(experiment),)
        return construct(kind, recipe.task, loaded, keys, front, *model)
    encoder = make_encoder(experiment)
    labels, expected = kind_of_labels(experiment)
    if recipe.task.name != expected:
        raise UserError(
            f"{recipe.task.name} does not fit the labels",
            location=loaded.locate("task"),
            value=f"{labels} in {experiment.spec.name}",
            expected=f"{expected} for {labels}",
        )
    if experiment.source.objects is not None:
        plane = plane_of(experiment)
        _check_objects(experiment, plane)
        known = {"plane": plane, "columns": experiment.source.objects, "classes": experiment.source.classes}
        return construct(kind, recipe.task, loaded, keys, front, encoder, **known)
    if experiment.source.classes is not None:
        return construct(kind, recipe.task, loaded, keys, front, encoder, classes=experiment.source.classes)
    values = experiment.labels[experiment.split["train"]].astype(np.float64)
    # Without the data both come with the weights.
    mean, spread = (float(values.mean()), float(values.std()) or 1.0) if len(values) else (0.0, 1.0)
    return construct(
        kind, recipe.task, loaded, keys, front, encoder, mean=mean, std=spread, places=experiment.adapter.patch_values()
    )


def plane_of(experiment: Experiment) -> Plane:
    """Where the cells of the samples lie.

    Raises:
        UserError: the adapter does not say, or the data spec says what cannot be.
    """
    try:
        plane = experiment.adapter.plane()
    except ValueError as error:
        raise UserError(str(error), location=f"data spec {experiment.spec.name}: signal.steps") from error
    if plane is None:
        raise UserError(
            "it is not known where the cells of a sample lie",
            location=experiment.loaded.locate("adapter"),
            value=experiment.recipe.adapter.name,
            expected="an adapter with a `plane`, and `steps` of its axes in the data spec",
            hint="Detection needs the coordinates of both axes.",
        )
    return plane


def _check_objects(experiment: Experiment, plane: Plane) -> None:
    """Refuse training objects of which none lies on the map: bins in place of coordinates, another unit, another origin.

    Raises:
        UserError: so it is.
    """
    names = experiment.source.objects or ()
    if not len(experiment.split["train"]) or any(axis not in names for axis in plane.axes):
        return  # without the data, or for the task to say
    table = torch.as_tensor(np.asarray(experiment.labels[experiment.split["train"]], dtype=np.float64))
    where = table[..., [names.index(axis) for axis in plane.axes]].reshape(-1, 2)
    where = where[where.isfinite().all(-1)]
    if len(where) and not plane.within(plane.cells(where)).any():
        spans = [
            f"{axis} {float(low):.4g} to {float(high):.4g}"
            for axis, low, high in zip(plane.axes, where.amin(0), where.amax(0), strict=True)
        ]
        expected = [
            f"{axis} {float(c[0]):.4g} to {float(c[-1]):.4g}"
            for axis, c in zip(plane.axes, plane.coordinates, strict=True)
        ]
        raise UserError(
            "no object of the training split lies on the map",
            location=f"data spec {experiment.spec.name}: label.objects",
            value=", ".join(spans),
            expected=f"coordinates as `signal.steps` gives them: {', '.join(expected)}",
            hint="Convert the objects to these units (`maekit data check` shows both), or correct `start`, `step` and `unit`.",
        )


def object_similarity(experiment: Experiment) -> Similarity:
    """How alike two objects are, as the recipe's detection has it."""
    options = experiment.recipe.task.options
    try:
        return similarity_of(plane_of(experiment), options.get("kappa"), bool(options.get("boxes", False)))
    except ValueError as error:
        raise UserError(str(error), location=experiment.loaded.locate("task")) from error


def reads_patches(recipe: Recipe) -> bool:
    """Whether the task reads each patch by itself, so that a probe of pooled features would say nothing of it."""
    return recipe.task.name == "detection" or recipe.task.options.get("bins") == "patches"


def kind_of_labels(experiment: Experiment) -> tuple[str, str]:
    """In words, and the task that they are for."""
    if experiment.source.objects is not None:
        return "objects", "detection"
    return ("classes", "classification") if experiment.source.classes is not None else ("values", "regression")


def size(given: Preset | Size, drop_path: float = 0.0) -> TransformerConfig:
    """A transformer's size from a preset's name or from numbers."""
    if isinstance(given, Size):
        return TransformerConfig(given.width, given.depth, given.heads, given.mlp_ratio, given.drop_path or drop_path)
    preset = PRESETS[given]
    return TransformerConfig(preset.width, preset.depth, preset.heads, preset.mlp_ratio, drop_path)


def encoder_of(task: Task) -> Backbone | None:
    """The encoder of samples that a task trains or uses; None where it has none."""
    if isinstance(task, Transfer):
        return task.encoder
    return task.model.encoder if isinstance(task, Pretraining) else None
