"""Reading the weights of a run, and loading a pretrained encoder into a task."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file

from maekit.build.identity import RECIPE_FILE, check_identity
from maekit.build.weight_fit import check_patch_size, load_strictly, resample_positions
from maekit.config.load import load_recipe
from maekit.errors import UserError
from maekit.files import read_json
from maekit.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from maekit.build.experiment import Experiment

logger = logging.getLogger(__name__)

Weights = dict[str, "Tensor"]
IMPORTED = "imported.json"
"""In a run folder made from imported weights: their source, and what they lacked."""
INITIALISED = "initialised"
"""Key in that file: names of the weights that were missing and initialised."""
PICKLES = (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
"""First bytes of pickle and ZIP files."""


def read_weights(source: Path) -> Weights:
    """Read the newest weights of a run folder, those of a checkpoint folder, or a safetensors file.

    A damaged checkpoint of a run is named in a warning, and the next older one is read.

    Raises:
        UserError: nothing there, damaged, a pickle, or a run whose recipe was edited since it was trained.
    """
    if (source / "checkpoints").is_dir():
        newest, damaged = checkpoint.load_newest(source / "checkpoints")
        for message in damaged:
            logger.warning("%s", message)
        if newest is not None:
            if (source / RECIPE_FILE).is_file():
                check_identity(source, newest.state["identity"])
            if damaged:
                logger.warning("%s: the older weights of step %d are used", source, newest.step)
            return newest.weights
    if (source / checkpoint.MANIFEST).is_file():
        try:
            return checkpoint.load(source).weights
        except checkpoint.DamagedError as error:
            raise UserError(
                f"a damaged checkpoint ({error})", location=str(source), hint="Use an older one of the run."
            ) from error
    if not source.is_file():
        raise UserError(
            "no checkpoint here",
            location=str(source),
            value="a folder" if source.is_dir() else "nothing",
            expected="a run folder, a checkpoint folder or a .safetensors file",
            hint="Runs are below --runs (default `runs`), by the recipe's name.",
        )
    with source.open("rb") as file:
        start = file.read(9)
    # The length in a safetensors header may look like the start of a pickle; the `{` of the header decides.
    if start.startswith(PICKLES) and not start.endswith(b"{"):
        raise UserError(
            "a pickle (.pth, .pt, .bin), which may run code when it is opened",
            location=str(source),
            value=start,
            expected="safetensors, or a run",
            hint="`maekit import` makes a run of its tensors, and runs nothing.",
        )
    try:
        return load_file(source)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"not a safetensors file ({error})", location=str(source), expected="a complete, undamaged file"
        ) from error


def lacks_decoder(run: Path) -> bool:
    """Return whether a run was imported without a complete decoder, so that its predictions mean nothing."""
    facts = run / IMPORTED
    return facts.is_file() and any(
        not name.startswith("model.encoder.") for name in read_json(facts).get(INITIALISED, ())
    )


def require_decoder(run: Path) -> None:
    """Refuse a run whose predictions mean nothing.

    Raises:
        UserError: it was imported without a complete decoder.
    """
    if lacks_decoder(run):
        raise UserError(
            "this run was imported from weights without a decoder",
            location=str(run),
            expected="weights that were saved with their decoder",
            hint="An encoder alone can be fine-tuned, probed and used for features.",
        )


def load_encoder(experiment: Experiment, module: nn.Module, source: Path) -> None:
    """Load encoder and normalisation of a pretraining run into the encoder and the front ends of a task.

    Auxiliary signals that the task does not read are left out. Those that the pretraining did not have get new
    embeddings, and a normalisation estimated from the data.

    Args:
        experiment: of the task.
        module: the task, with `encoder`, `front` and `fronts`.
        source: a run folder, a checkpoint folder or a safetensors file.

    Raises:
        UserError: another modality, other shapes, missing or unexpected names.
    """
    _check_recipe(experiment, source)
    weights = read_weights(source)
    prefix = "model.encoder." if any(name.startswith("model.encoder.") for name in weights) else "encoder."
    own: Weights = dict(module.encoder.state_dict())  # type: ignore[operator, union-attr]
    encoder = _select(_below(prefix, weights), own, source)
    check_patch_size(own, encoder, source)
    if "pos_embed" in encoder:
        encoder["pos_embed"] = resample_positions(encoder["pos_embed"], experiment.adapter.patchifier.grid_size)
    load_strictly(module.encoder, encoder, source)  # type: ignore[arg-type]
    load_strictly(module.front, _below("front.", weights), source)  # type: ignore[arg-type]
    fronts: nn.ModuleDict = module.fronts  # type: ignore[assignment]
    for name, front in fronts.items():
        pretrained = _below(f"fronts.{name}.", weights)
        if pretrained:
            load_strictly(front, pretrained, source)
        else:
            front.set_statistics(experiment.fit_statistics(name))  # type: ignore[operator]


def _check_recipe(experiment: Experiment, source: Path) -> None:
    """Check that a pretraining run has the adapter and the backbone of the task's recipe."""
    if not (source / RECIPE_FILE).is_file():
        return
    pretrained, recipe = load_recipe(source / RECIPE_FILE).recipe, experiment.recipe
    for problem, key, actual, expected in (
        ("weights of another modality", "adapter", pretrained.adapter.name, recipe.adapter.name),
        ("weights of another kind of encoder", "backbone", pretrained.model.backbone.name, recipe.model.backbone.name),
    ):
        if actual != expected:
            raise UserError(
                problem,
                location=str(source),
                value=f"{key} {actual}",
                expected=f"{key} {expected}",
                hint=f"Start from a run that was pretrained with this {key}.",
            )


def _select(encoder: Weights, own: Weights, source: Path) -> Weights:
    """Adapt the weights of a pretrained encoder to the parts that a task's encoder (`own`) has.

    A classifier on pooled patches has no last norm, and no task has a mask token.
    """
    added = _auxiliary_signals(own) - _auxiliary_signals(encoder)
    encoder = {
        name: value
        for name, value in encoder.items()
        if name in own or name.split(".")[0] not in ("norm", "mask_token", "auxiliary")
    }
    if added:
        logger.info("%s has not seen %s: their embeddings start with new weights", source, ", ".join(sorted(added)))
    new = {name: value for name, value in own.items() if _auxiliary_signals([name]) & added}
    return encoder | new


def _auxiliary_signals(names: Iterable[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("auxiliary.")}


def _below(prefix: str, weights: Weights) -> Weights:
    """Weights whose names start with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
