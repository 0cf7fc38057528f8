"""Which of two recipes an override is for: the labelled task, or the pretraining that its `init` names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from maekit.config.sweep import INIT

if TYPE_CHECKING:
    from collections.abc import Iterable

ONLY_PRETRAINING = frozenset(
    {
        "model.masking",
        "model.mask_ratio",
        "model.target",
        "model.decoder",
        "model.encoder_mask_tokens",
        "model.loss_on",
        "model.decoder_attention",
        "model.cross_mask_ratio",
    }
)
ONLY_LABELLED = frozenset({"data.label_fraction", "data.labelled_groups", "task", "init", "name"})
OF_THE_SAME_DATA = frozenset({"data.root", "data.spec", "data.split", "data.bad_samples"})
HOW_IT_RUNS = frozenset(
    {
        "training.batch_size",
        "training.micro_batch",
        "training.precision",
        "training.compile",
        "training.workers",
        "training.parallel",
    }
)
OF_A_TRAINING = frozenset({"optimizer", "schedule", "training"})


@dataclass(frozen=True)
class Routing:
    """Where keys go: the adapter, windows and the encoder to both, what is masked and predicted to the pretraining.

    `init.KEY` goes to the pretraining whatever it is.

    Attributes:
        same_data: both recipes read the same data set, so they share its folder too.
        probing: nothing is trained with labels, so optimizer and schedule can only mean the pretraining's.
    """

    same_data: bool
    probing: bool = False

    def to_pretraining(self, key: str) -> bool:
        """Whether the pretraining takes this key."""
        if key == "init.recipe":
            return True  # another recipe is another pretraining
        if key.startswith(INIT):
            return True
        areas = _areas(key)
        if areas & OF_THE_SAME_DATA or key == "data.window":
            return self.same_data
        if areas & OF_A_TRAINING:
            return self.probing or bool(areas & HOW_IT_RUNS)
        return not areas & ONLY_LABELLED

    def to_labelled(self, key: str) -> bool:
        """Whether the labelled task takes this key."""
        if key.startswith(INIT):
            return key == "init.recipe"
        areas = _areas(key)
        if areas & OF_A_TRAINING:
            return not self.probing or bool(areas & HOW_IT_RUNS)
        return not areas & ONLY_PRETRAINING

    def pretraining(self, settings: Iterable[str]) -> list[str]:
        """Those `key=value` for the pretraining, as it takes them."""
        kept = [s for s in settings if self.to_pretraining(_key(s)) and _key(s) != "init.recipe"]
        return [setting.removeprefix(INIT) for setting in kept]

    def labelled(self, settings: Iterable[str]) -> list[str]:
        """Those `key=value` for the labelled task."""
        return [setting for setting in settings if self.to_labelled(_key(setting))]


def compared(settings: Iterable[str], *, same_adapter: bool) -> list[str]:
    """Those `key=value` for another recipe on the same data: its own model and training stay."""
    return [setting for setting in settings if same_adapter and _areas(_key(setting)) & {"adapter"}]


def _key(setting: str) -> str:
    return setting.partition("=")[0].strip()


def _areas(key: str) -> frozenset[str]:
    """The first part of a key, and the first two."""
    parts = key.split(".")
    return frozenset({parts[0], ".".join(parts[:2])})
