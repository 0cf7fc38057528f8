"""Data of the recipes of a study, each opened once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maekit.build.experiment import Experiment, build_experiment
from maekit.build.prepare import identity

if TYPE_CHECKING:
    from maekit.config.load import LoadedRecipe


class OpenedData:
    """Opens data and computes their fingerprint once, however many points of a grid read the same windows of the same files."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, ...], tuple[Experiment, str]] = {}

    def experiment(self, loaded: LoadedRecipe, *, labels: bool) -> Experiment:
        """The data of a recipe; the split is that of the recipe that asked first."""
        return self._open(loaded, labels)[0]

    def identity(self, loaded: LoadedRecipe, *, labels: bool) -> dict[str, Any]:
        """Everything that a training of this recipe depends on, data included; see `maekit.build.prepare.identity`."""
        experiment, fingerprint = self._open(loaded, labels)
        return identity(replace(experiment, loaded=loaded), fingerprint)

    def _open(self, loaded: LoadedRecipe, labels: bool) -> tuple[Experiment, str]:
        data = loaded.recipe.data.model_dump_json(include={"spec", "root", "window", "bad_samples"})
        signals = loaded.recipe.model_dump_json(include={"adapter", "auxiliary"})
        key = (data, signals, str(loaded.path.parent), str(labels))
        if key not in self._opened:
            experiment = build_experiment(loaded, labels=labels, fit=False)
            self._opened[key] = experiment, experiment.source.fingerprint()
        return self._opened[key]
