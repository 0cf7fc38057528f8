"""Weights of a run, into a model: all of them, or a clear word on why not."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file

from maekit.core.positions import interpolate_positions
from maekit.errors import UserError
from maekit.recipe.load import load_recipe
from maekit.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from maekit.build import Setup

Weights = dict[str, "Tensor"]
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
                f"a damaged checkpoint ({error})", place=str(source), mend="Use an older one of the run."
            ) from error
    if not source.is_file():
        raise UserError(
            "no checkpoint here", place=str(source), value="a folder" if source.is_dir() else "nothing",
            expected="a run folder, a checkpoint folder or a .safetensors file",
            mend="Runs stand below --runs (default `runs`), by the recipe's name.",
        )  # fmt: skip
    with source.open("rb") as file:
        start = file.read(4)
    if start.startswith(PICKLES):
        raise UserError(
            "a pickle (.pth, .pt, .bin), which may run code when it is opened", place=str(source), value=start,
            expected="safetensors", mend="Save the tensors with safetensors.torch.save_file where you trust the file.",
        )  # fmt: skip
    try:
        return load_file(source)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"not a safetensors file ({error})", place=str(source), expected="a file whole and as it was written"
        ) from error


def load_encoder(setup: Setup, module: nn.Module, source: Path) -> None:
    """The encoder and the normalisation of a pretraining run, into the encoder and front of a task.

    Raises:
        UserError: another modality, other shapes, missing or unexpected names.
    """
    stated = source / "recipe.yaml"
    if stated.is_file():
        theirs = load_recipe(stated).recipe.adapter.name
        mine = setup.recipe.adapter.name
        if theirs != mine:
            raise UserError(
                "weights of another modality", place=str(source), value=f"adapter {theirs}", expected=f"adapter {mine}",
                mend="Start from a run that was pretrained with this adapter.",
            )  # fmt: skip
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
    if "pos_embed" in encoder:
        encoder["pos_embed"] = resampled(encoder["pos_embed"], setup.adapter.patchifier.grid_size)
    load_strictly(module.encoder, encoder, source)  # type: ignore[arg-type]
    front = {name.removeprefix("front."): value for name, value in weights.items() if name.startswith("front.")}
    load_strictly(module.front, front, source)  # type: ignore[arg-type]


def resampled(table: Tensor, grid: Sequence[int]) -> Tensor:
    """A position table for another grid of the same proportions (larger samples, the same patches).

    Where the proportions cannot be the same the table stays, and does not fit.
    """
    patches = table.shape[1] - 1
    shrink = (patches / prod(grid)) ** (1 / len(grid))
    old = [round(n * shrink) for n in grid]
    if patches == prod(grid) or prod(old) != patches:
        return table
    return interpolate_positions(table, old, grid)


def differences(own: Weights, weights: Weights) -> dict[str, list[str]]:
    """Names that are `missing`, `unexpected`, `of another shape` (with both shapes)."""
    return {
        "missing": [name for name in own if name not in weights],
        "unexpected": [name for name in weights if name not in own],
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
    }


def load_strictly(module: nn.Module, weights: Weights, source: Path) -> None:
    """All weights of a module and no others.

    Raises:
        UserError: names that are missing or unexpected, shapes that differ.
    """
    problems = [
        f"{len(names)} {what} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"
        for what, names in differences(module.state_dict(), weights).items()
        if names
    ]
    if problems:
        raise UserError(
            "weights that do not fit: " + "; ".join(problems), place=str(source), expected="weights of this very model",
            mend="Use the model and adapter settings that the weights were trained with.",
        )  # fmt: skip
    module.load_state_dict(weights)
