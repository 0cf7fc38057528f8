"""The experiment of a recipe on random samples, for what needs shapes but no data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maekit.build.adapters import make_adapters
from maekit.build.experiment import Experiment, task_class
from maekit.config.data_spec import load_spec
from maekit.data.random_source import RandomSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maekit.config.load import LoadedRecipe


def random_experiment(loaded: LoadedRecipe, samples: int, lengths: Mapping[str, int]) -> Experiment:
    """Build the experiment of a recipe on random samples, all of them in the training split, without normalisation.

    Args:
        loaded: a recipe.
        samples: how many.
        lengths: lengths of the axes that its data spec leaves to the files.

    Raises:
        UserError: a length that only the files tell, options that do not fit.
    """
    recipe = loaded.recipe
    spec = load_spec(recipe.data.spec, loaded.path.parent)
    source = RandomSource(
        spec,
        recipe.data.window,
        samples=samples,
        lengths=lengths,
        labels=task_class(loaded).needs_labels,
        auxiliary=list(recipe.auxiliary),
    )
    adapters = make_adapters(loaded, source.info, source.auxiliary)
    if 0 in source.shape:
        source.shape = adapters.adapter.patchifier.sample_shape
    empty = np.array([], dtype=np.int64)
    split = {"train": np.arange(samples), "validation": empty, "test": empty}
    return Experiment(loaded, spec, source, split, **adapters._asdict())


def data_exists(loaded: LoadedRecipe) -> bool:
    """Whether there is any data; whether it is right is checked later."""
    data = loaded.recipe.data
    spec = load_spec(data.spec, loaded.path.parent)
    root = Path(data.root)
    return (root / (spec.folder or "")).is_dir() if spec.files is None else any(root.glob(spec.files))
