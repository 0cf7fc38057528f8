"""Weights of a run, into a model: all of them, or a clear word on why not."""

from __future__ import annotations

import json
import logging
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file

from maekit.config.load import load_recipe
from maekit.core.positions import interpolate_positions
from maekit.errors import UserError
from maekit.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from maekit.build.experiment import Experiment

logger = logging.getLogger(__name__)

Weights = dict[str, "Tensor"]
IMPORTED = "imported.json"
"""In a run folder that was made of somebody else's weights: where they come from, and what they lacked."""
INITIALISED = "initialised"
MOST_SHOWN = 12
PICKLES = (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


def read_weights(source: Path) -> Weights:
    """The newest weights of a run folder, of one checkpoint folder, or of a safetensors file.

    Raises:
        UserError: nothing there, damaged, or a pickle.
    """
    if (source / "checkpoints").is_dir():
        found, _ = checkpoint.load_newest(source / "checkpoints")
        if found is not None:
            return found.weights
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
            hint="Runs stand below --runs (default `runs`), by the recipe's name.",
        )
    with source.open("rb") as file:
        start = file.read(9)
    # The length of a safetensors header may look like the start of a pickle; the header itself tells.
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
            f"not a safetensors file ({error})", location=str(source), expected="a file whole and as it was written"
        ) from error


def lacks_decoder(run: Path) -> bool:
    """Whether a run was made of weights without a (whole) decoder, so that its predictions mean nothing."""
    stated = run / IMPORTED
    return stated.is_file() and any(
        not name.startswith("model.encoder.") for name in json.loads(stated.read_text())[INITIALISED]
    )


def require_decoder(run: Path) -> None:
    """Refuse what would need predictions.

    Raises:
        UserError: a run that lacks a decoder.
    """
    if lacks_decoder(run):
        raise UserError(
            "no decoder in the weights that this run was made of",
            location=str(run),
            expected="weights that were saved with their decoder",
            hint="An encoder alone can be fine-tuned, probed and used for features.",
        )


def load_encoder(experiment: Experiment, module: nn.Module, source: Path) -> None:
    """The encoder and the normalisation of a pretraining run, into the encoder and front of a task.

    Raises:
        UserError: another modality, other shapes, missing or unexpected names.
    """
    stated = source / "recipe.yaml"
    if stated.is_file():
        pretrained, recipe = load_recipe(stated).recipe, experiment.recipe
        for what, key, theirs, mine in (
            ("another modality", "adapter", pretrained.adapter, recipe.adapter),
            ("another kind of encoder", "backbone", pretrained.model.backbone, recipe.model.backbone),
        ):
            if theirs.name != mine.name:
                raise UserError(
                    f"weights of {what}",
                    location=str(source),
                    value=f"{key} {theirs.name}",
                    expected=f"{key} {mine.name}",
                    hint=f"Start from a run that was pretrained with this {key}.",
                )
    weights = read_weights(source)
    prefix = "model.encoder." if any(name.startswith("model.encoder.") for name in weights) else "encoder."
    encoder = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    # Fine-tuning on pooled patches has no last norm, a probe of the ablation no mask token.
    wanted = dict(module.encoder.state_dict())  # type: ignore[operator, union-attr]
    encoder = {
        name: value
        for name, value in encoder.items()
        if name in wanted or name.split(".")[0] not in ("norm", "mask_token")
    }
    # Signals beside that are not read here are left out; those that were not there in pretraining start anew.
    auxiliary = {
        part: {name.split(".")[1] for name in names if name.startswith("auxiliary.")}
        for part, names in (("mine", wanted), ("theirs", encoder))
    }
    new = auxiliary["mine"] - auxiliary["theirs"]
    if new:
        logger.info("%s has not seen %s: their embeddings start with new weights", source, ", ".join(sorted(new)))
    encoder = {name: value for name, value in encoder.items() if name in wanted or not name.startswith("auxiliary.")}
    encoder |= {
        name: value for name, value in wanted.items() if name.startswith("auxiliary.") and name.split(".")[1] in new
    }
    check_patches(wanted, encoder, source)
    if "pos_embed" in encoder:
        encoder["pos_embed"] = resampled(encoder["pos_embed"], experiment.adapter.patchifier.grid_size)
    load_strictly(module.encoder, encoder, source)  # type: ignore[arg-type]
    front = {name.removeprefix("front."): value for name, value in weights.items() if name.startswith("front.")}
    load_strictly(module.front, front, source)  # type: ignore[arg-type]
    fronts: nn.ModuleDict = module.fronts  # type: ignore[assignment]
    for name, other in fronts.items():
        own = {
            key.removeprefix(f"fronts.{name}."): value
            for key, value in weights.items()
            if key.startswith(f"fronts.{name}.")
        }
        if own:
            load_strictly(other, own, source)
        else:
            other.set_statistics(experiment.fit_statistics(name))  # type: ignore[operator]


def resampled(table: Tensor, grid: Sequence[int]) -> Tensor:
    """A position table for another grid of the same proportions (larger samples, the same patches).

    A table does not say which grid it is of. Where the proportions cannot be the same it stays, and does not fit.
    """
    patches = table.shape[1] - 1
    shrink = (patches / prod(grid)) ** (1 / len(grid))
    old = [round(n * shrink) for n in grid]
    proportional = all(a * grid[0] == b * old[0] for a, b in zip(old, grid, strict=True))
    if patches == prod(grid) or prod(old) != patches or not proportional:
        return table
    return interpolate_positions(table, old, grid)


def check_patches(own: Weights, weights: Weights, source: Path) -> None:
    """Whether a patch of these weights is as large as one of this model, where it is embedded as a whole.

    Raises:
        UserError: it is not.
    """
    name = next((name for name in own if name.endswith("patch_embed.proj.weight")), None)
    if name is None or name not in weights:
        return
    mine, theirs = own[name].shape, weights[name].shape
    if mine[1] != theirs[1]:
        raise UserError(
            "weights for patches of another size, or with other channels",
            location=str(source),
            value=f"{theirs[1]} numbers a patch: {name} {tuple(theirs)} for {tuple(mine)}",
            expected=f"{mine[1]}",
            hint="Set the patch size that they were trained with; samples may be larger, for positions are interpolated.",
        )


class Differences(NamedTuple):
    """Names that a model has and the weights have not, the other way round, and those whose shapes differ (with both)."""

    missing: list[str]
    unexpected: list[str]
    of_another_shape: list[str]

    def told(self, own: Weights) -> str:
        """All of them in a sentence; a module that is missing or unexpected as a whole by its name alone."""
        there = set(own) - set(self.missing)
        parts = {
            "missing": _by_module(self.missing, there),
            "unexpected": _by_module(self.unexpected, own),
            "of another shape": self.of_another_shape,
        }
        return "; ".join(
            f"{what}: {', '.join(names[:MOST_SHOWN])}"
            + (f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else "")
            for what, names in parts.items()
            if names
        )


def differences(own: Weights, weights: Weights) -> Differences:
    """Between the weights of a model and those it shall take."""
    return Differences(
        [name for name in own if name not in weights],
        [name for name in weights if name not in own],
        [
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
    )


def _by_module(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """`decoder.* (104)` for the names of a module of which there is none among `others`."""
    parts_of = {name: name.split(".") for name in (*names, *others)}
    taken = {tuple(parts_of[name][:i]) for name in others for i in range(len(parts_of[name]) + 1)}
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        parts = tuple(parts_of[name])
        stem = next((parts[:i] for i in range(1, len(parts)) if parts[:i] not in taken), parts)
        found.setdefault(stem, []).append(name)
    return [some[0] if len(some) == 1 else f"{'.'.join(stem)}.* ({len(some)})" for stem, some in found.items()]


def load_strictly(module: nn.Module, weights: Weights, source: Path) -> None:
    """All weights of a module and no others.

    Raises:
        UserError: names that are missing or unexpected, shapes that differ.
    """
    own = module.state_dict()
    found = differences(own, weights)
    if any(found):
        raise UserError(
            f"weights that do not fit; {found.told(own)}",
            location=str(source),
            expected="weights of this very model",
            hint="Use the model and adapter settings that the weights were trained with.",
        )
    module.load_state_dict(weights)
