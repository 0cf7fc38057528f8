"""Pictures of what a pretrained model sees, and how its predictions were turned back into units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from maekit.adapter import Front
from maekit.build.experiment import Experiment
from maekit.build.open_run import open_run
from maekit.build.weights import require_decoder
from maekit.data.loading import collate
from maekit.data.sampler import Key
from maekit.errors import UserError
from maekit.files import write_text
from maekit.metrics import trivial
from maekit.report import figures
from maekit.report.content import Picture

if TYPE_CHECKING:
    from torch import Tensor

    from maekit.core.autoencoder import MaskedAutoencoder
    from maekit.tasks.task import Task

Statistics = Literal["true", "neighbours"]

EXPLANATION = {
    "raw": "The model predicts these values directly, without normalisation by patch.",
    "true": "Normalised predictions were rescaled with the true mean and standard deviation of each masked patch, which the "
    "model was not shown: this LEAKS information and makes the reconstruction look better than it is.",
    "neighbours": "Normalised predictions were rescaled with mean and standard deviation interpolated from the visible patches; "
    "nothing of the masked patches was used.",
}


@dataclass(frozen=True)
class Reconstruction:
    """One sample in the unit of its modality, (*sample_shape) each; NaN in `masked` where patches were removed.

    `off` is the mean absolute error of what was removed, `off_interpolation` that of interpolation from what is visible.
    """

    location: str
    original: Any
    masked: Any
    reconstruction: Any
    loss: float
    loss_mean_patch: float
    off: float
    off_interpolation: float


@torch.no_grad()
def reconstruct_samples(
    experiment: Experiment, task: Task, count: int, *, statistics: Statistics = "neighbours", side: str = ""
) -> list[Reconstruction]:
    """Mask and reconstruct some samples of a side (test, else validation, else training), evenly spread.

    Visible patches are shown as they are; only removed ones are predictions.
    """
    side = side or next(name for name in ("test", "validation", "train") if len(experiment.split[name]))
    samples = experiment.some_samples(side)
    chosen = torch.linspace(0, len(samples) - 1, min(count, len(samples))).long().tolist()
    batch = collate([samples[Key(0, i)] for i in chosen])
    task.eval().cpu()
    x, valid = task.front(batch["signal"], batch.get("valid"))
    model = task.autoencoder
    assert model is not None, "see `undrawable`"
    output = model(x, valid=valid, noise=batch["noise"])
    patches = model.patchifier.patchify(x)
    visible = ~output.mask if valid is None else ~output.mask & valid
    rows = task.eval_step(batch)
    found = []
    turned = turn_back(model, patches, output.pred, visible, statistics)
    between = trivial.interpolation(model.patchifier, patches, visible)
    for i, index in enumerate(chosen):
        mixed = torch.where(output.mask[i, :, None], turned[i], patches[i])
        shown = torch.where(visible[i, :, None], patches[i], torch.nan)
        measured = patches[i] if valid is None else torch.where(valid[i, :, None], patches[i], torch.nan)
        original, masked, whole = (_in_units(task, part) for part in (measured, shown, mixed))
        removed = np.isnan(masked) & np.isfinite(original)
        guessed = _in_units(task, torch.where(output.mask[i, :, None], between[i], patches[i]))
        off = [float(np.abs(one - original)[removed].mean()) for one in (whole, guessed)]
        scored = rows["scored"][i].clamp(min=1)
        losses = {name: (rows[name][i] / scored).item() for name in ("loss", "loss_mean_patch")}
        found.append(
            Reconstruction(
                experiment.source[int(samples.indices[index])].location,
                original,
                masked,
                whole,
                **losses,
                off=off[0],
                off_interpolation=off[1],
            )
        )
    return found


def turn_back(
    model: MaskedAutoencoder, patches: Tensor, pred: Tensor, visible: Tensor, statistics: Statistics
) -> Tensor:
    """Predictions as standardised patches.

    Raises:
        UserError: a target that cannot be turned back into patches.
    """
    target = model.target
    own = target.statistics(patches)
    if own is None:
        raise UserError(
            "predictions of this target cannot be turned back into a sample",
            location="model.target",
            value=type(target).__name__,
            expected="a run with the target raw, patch_norm or pca",
            hint="Its losses are in the report, beside predictors without learning.",
        )
    pred = target.as_patches(pred)
    if statistics == "neighbours":

        def from_neighbours(values: Tensor) -> Tensor:
            spread_out = values.expand_as(patches).contiguous()
            return trivial.interpolation(model.patchifier, spread_out, visible).mean(-1, keepdim=True)

        return pred * from_neighbours(own.scale.log()).exp() + from_neighbours(own.mean)
    return pred * own.scale + own.mean


def undrawable(task: Task) -> str:
    """Why a task has no predictions that can be turned back into samples; empty where it has."""
    if task.autoencoder is None:
        return "nothing was masked and predicted in this run"
    target, patch_dim = task.autoencoder.target, task.autoencoder.patchifier.patch_dim
    if target.statistics(torch.zeros(1, 1, patch_dim)) is None:
        return f"predictions of a {type(target).__name__} cannot be turned back"
    return ""


def explain(model: MaskedAutoencoder, statistics: Statistics) -> str:
    """Describe how predictions were converted to values of the sample."""
    from maekit.core.targets.pca import PCATarget
    from maekit.core.targets.pixels import RawTarget

    target = model.target
    if isinstance(target, PCATarget):
        return f"{EXPLANATION['raw']} Only {target.dim} principal components of a patch are predicted."
    return EXPLANATION["raw" if isinstance(target, RawTarget) else statistics]


def pictures(experiment: Experiment, task: Task, count: int, statistics: Statistics = "neighbours") -> list[Picture]:
    """A figure for each sample: original, what the model saw, reconstruction."""
    unit = experiment.adapter.unit.split(" re ")[0]  # a difference of levels has no reference
    alone = " The model saw this signal only, without the auxiliary ones." if experiment.auxiliary else ""
    assert task.autoencoder is not None, "see `undrawable`"
    how, of = explain(task.autoencoder, statistics), f" {unit}" if unit else ""
    return [
        figures.reconstruction(
            experiment.adapter.draw,
            [("original", one.original), ("visible", one.masked), ("reconstruction", one.reconstruction)],
            caption=f"{one.location}. Loss {one.loss:.3f}; the mean patch has {one.loss_mean_patch:.3f}. Mean absolute error on masked patches: "
            f"{one.off:.3g}{of}; interpolation from visible patches has {one.off_interpolation:.3g}{of}.{alone} {how}",
            shared=one.original,
        )
        for one in reconstruct_samples(experiment, task, count, statistics=statistics)
    ]


def reconstruct(
    run: Path, output: Path, *, count: int = 4, statistics: str = "neighbours", overrides: Sequence[str] = ()
) -> list[tuple[Path, str]]:
    """Write `reconstruction_N.svg` files for a run of masked autoencoding.

    Returns:
        Each file with its caption.

    Raises:
        UserError: a run without reconstructions, unknown `statistics`, files that are there already.
    """
    if statistics not in ("true", "neighbours"):
        raise UserError(
            "no such way to turn predictions back",
            location="--statistics",
            value=statistics,
            expected="true or neighbours",
        )
    experiment, task = open_run(run, overrides=overrides)
    if task.autoencoder is None:
        raise UserError(
            "nothing was masked and predicted in this run",
            location=str(run),
            value=experiment.recipe.task.name,
            expected="a run of a masked autoencoder",
        )
    paths = [output / f"reconstruction_{i}.svg" for i in range(count)]
    require_decoder(run)
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise UserError("would overwrite what is there", location=there[0], hint="Choose another folder.")
    output.mkdir(parents=True, exist_ok=True)
    made = pictures(experiment, task, count, statistics)  # type: ignore[arg-type]
    for path, picture in zip(paths, made, strict=False):
        write_text(path, picture.svg)
    return [(path, picture.caption) for path, picture in zip(paths, made, strict=False)]


def _in_units(task: Task, patches: Tensor) -> Any:
    assert isinstance(task.front, Front)
    return task.front.to_units(task.front.patchifier.unpatchify(patches[None]))[0].numpy()
