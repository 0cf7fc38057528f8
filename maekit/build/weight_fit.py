"""Whether weights fit a model: patch size, position tables, and a comparison name by name."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from maekit.core.positions import interpolate_positions
from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from maekit.build.weights import Weights

MAX_LISTED = 12
"""Names that an error lists of each kind."""


class Mismatch(NamedTuple):
    """Differences between the weights of a model and those it shall load.

    Attributes:
        missing: names that only the model has.
        unexpected: names that only the weights have.
        of_another_shape: names with both shapes.
    """

    missing: list[str]
    unexpected: list[str]
    of_another_shape: list[str]

    def describe(self, own: Weights) -> str:
        """List all differences; a module that is missing or unexpected as a whole is named once.

        Args:
            own: weights of the model.
        """
        present = set(own) - set(self.missing)
        lists = {
            "missing": _by_module(self.missing, present),
            "unexpected": _by_module(self.unexpected, own),
            "of another shape": self.of_another_shape,
        }
        return "; ".join(
            f"{kind}: {', '.join(names[:MAX_LISTED])}"
            + (f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else "")
            for kind, names in lists.items()
            if names
        )


def summarise_names(names: Sequence[str]) -> str:
    """List modules by their first name, as `projector.* (4)`."""
    groups = _by_module(names, ())
    return ", ".join(groups[:MAX_LISTED]) + (
        f" and {len(groups) - MAX_LISTED} more" if len(groups) > MAX_LISTED else ""
    )


def compare_weights(own: Weights, weights: Weights) -> Mismatch:
    """Compare `weights` with those of a model, `own`."""
    return Mismatch(
        [name for name in own if name not in weights],
        [name for name in weights if name not in own],
        [
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
    )


def load_strictly(module: nn.Module, weights: Weights, source: Path) -> None:
    """Load weights into a module, all of them and no others.

    Raises:
        UserError: missing or unexpected names, or other shapes.
    """
    own = module.state_dict()
    mismatch = compare_weights(own, weights)
    if any(mismatch):
        raise UserError(
            f"weights that do not fit; {mismatch.describe(own)}",
            location=str(source),
            expected="weights of the same model",
            hint="Use the model and adapter settings that the weights were trained with.",
        )
    module.load_state_dict(weights)


def check_patch_size(own: Weights, weights: Weights, source: Path) -> None:
    """Check that a patch has as many values in `weights` as in the model, where one linear layer embeds it.

    Raises:
        UserError: it has not.
    """
    name = next((name for name in own if name.endswith("patch_embed.proj.weight")), None)
    if name is None or name not in weights or weights[name].ndim != own[name].ndim:
        return
    expected, actual = own[name].shape, weights[name].shape
    if expected[1] != actual[1]:
        raise UserError(
            "weights for patches of another size, or with other channels",
            location=str(source),
            value=f"{actual[1]} numbers a patch: {name} {tuple(actual)} for {tuple(expected)}",
            expected=f"{expected[1]}",
            hint="Set the patch size that they were trained with; samples may be larger, since positions are interpolated.",
        )


def resample_positions(table: Tensor, grid: Sequence[int]) -> Tensor:
    """Resample a position table (1, 1 + patches, width) to another grid of the same proportions.

    A table does not store its grid, so it is assumed to have the proportions of `grid`. Where that is impossible the
    table is returned as it is, and does not fit.
    """
    if table.ndim != 3 or len(table) != 1 or table.shape[1] < 2 or not table.is_floating_point():
        return table
    patches = table.shape[1] - 1
    scale = (patches / prod(grid)) ** (1 / len(grid))
    old_grid = [round(n * scale) for n in grid]
    proportional = all(old * grid[0] == new * old_grid[0] for old, new in zip(old_grid, grid, strict=True))
    if patches == prod(grid) or prod(old_grid) != patches or not proportional:
        return table
    return interpolate_positions(table, old_grid, grid)


def _by_module(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Join the names of a module that has none among `others`, as `decoder.* (104)`."""
    parts_of = {name: name.split(".") for name in (*names, *others)}
    shared = {tuple(parts_of[name][:i]) for name in others for i in range(len(parts_of[name]) + 1)}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        parts = tuple(parts_of[name])
        stem = next((parts[:i] for i in range(1, len(parts)) if parts[:i] not in shared), parts)
        groups.setdefault(stem, []).append(name)
    return [group[0] if len(group) == 1 else f"{'.'.join(stem)}.* ({len(group)})" for stem, group in groups.items()]
