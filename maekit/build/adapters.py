"""From a recipe to the adapters of its signals and their augmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from maekit import plugins
from maekit.adapter import Adapter, Augmentation, Augmentations
from maekit.config.options import construct
from maekit.config.schema import Choice, split_choice
from maekit.core.joint import PRIMARY
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maekit.config.load import LoadedRecipe
    from maekit.data.sample import SignalInfo


class Adapters(NamedTuple):
    """Adapters and augmentations of the signals of a recipe.

    Attributes:
        adapter: of the samples.
        auxiliary: of the auxiliary signals, by name.
        augmentations: of training samples, by the name of the signal; those of the samples' own by `PRIMARY`.
    """

    adapter: Adapter
    auxiliary: dict[str, Adapter]
    augmentations: dict[str, Augmentations]


def make_adapters(loaded: LoadedRecipe, info: SignalInfo, auxiliary: Mapping[str, SignalInfo]) -> Adapters:
    """The adapters that a recipe names.

    Args:
        loaded: the recipe.
        info: of the samples.
        auxiliary: of the auxiliary signals that the data have.

    Raises:
        UserError: signals that the data do not have, or options that do not fit them.
    """
    recipe = loaded.recipe
    kind = plugins.find("adapters", recipe.adapter.name, location=loaded.locate("adapter", "name"))
    adapter: Adapter = construct(kind, recipe.adapter, loaded, ("adapter",), info)
    others: dict[str, Adapter] = {}
    augmentations: dict[str, Augmentations] = {}
    for name, choice in recipe.auxiliary.items():
        keys = ("auxiliary", name)
        if name not in auxiliary:
            raise UserError(
                "data without this auxiliary signal",
                location=loaded.locate(*keys),
                value=name,
                expected="an HDF5 data set whose spec has `auxiliary`",
                hint=nearest(name, auxiliary),
            )
        choice, listed = split_choice(choice, loaded.locate(*keys, "augment"))
        kind = plugins.find("adapters", choice.name, location=loaded.locate(*keys))
        others[name] = construct(kind, choice, loaded, keys, auxiliary[name])
        augmentations[name] = make_augmentations(loaded, listed, (*keys, "augment"), others[name], {})
    augmentations[PRIMARY] = make_augmentations(loaded, recipe.augment, ("augment",), adapter, others)
    return Adapters(adapter, others, augmentations)


def make_augmentations(
    loaded: LoadedRecipe,
    choices: Sequence[Choice],
    keys: tuple[str | int, ...],
    adapter: Adapter,
    auxiliary: Mapping[str, Adapter],
) -> Augmentations:
    """Augmentations of one signal.

    Args:
        loaded: the recipe, for locations.
        choices: names and options, in the order of the recipe.
        keys: where the list stands in the recipe.
        adapter: of the signal.
        auxiliary: adapters of the signals that are read together with it.

    Raises:
        UserError: an unknown name, or options that do not fit the adapter or the auxiliary signals.
    """
    augmentations = []
    for i, choice in enumerate(choices):
        kind = plugins.find("augmentations", choice.name, location=loaded.locate(*keys, i, "name"))
        augmentation: Augmentation = construct(kind, choice, loaded, (*keys, i), adapter)
        try:
            augmentation.check_auxiliary(auxiliary)
        except ValueError as error:
            raise UserError(f"{choice.name}: {error}", location=loaded.locate(*keys, i)) from error
        augmentations.append(augmentation)
    return Augmentations.by_stage(augmentations)
