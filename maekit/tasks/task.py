"""What the training loop knows of a task: a module that turns a batch into a loss and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor, nn

from maekit.core.transformer import Blocks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Batch: TypeAlias = dict[str, Tensor]
"""As `maekit.data.loading` makes it; of a signal beside, `NAME.signal` and so on."""
EvalRows: TypeAlias = dict[str, Tensor]
"""One entry a sample in every tensor, `index` among them, so that evaluation on many processes counts each once."""


class Task(nn.Module, ABC):
    """A module with a front (signal to standardised samples) and a model, that knows its loss and its metrics.

    `fronts` are those of the signals beside the samples' own, by name; whoever builds the task puts them in.
    """

    front: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.fronts = nn.ModuleDict()

    def check_auxiliary(self, others: Collection[str]) -> None:
        """Told which signals are read beside the sample. Default: nothing to object.

        Raises:
            ValueError: an option that does not go with them; the message says which and what to do.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Loss of one (micro-)batch, a scalar to differentiate."""

    @abstractmethod
    def eval_step(self, batch: Batch) -> EvalRows:
        """What evaluation needs of each sample of a batch."""

    @abstractmethod
    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """Metrics over all evaluated samples; `loss` among them."""

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, in order: what is wrapped for sharding and counted for layer decay."""

    def depth_of(self, name: str) -> int | None:
        """For layer decay: 0 for what stands before the blocks, i + 1 for block i, None for all after them."""
        del name
        return None

    def no_weight_decay(self) -> frozenset[str]:
        """Names of parameters with more than one dimension that take no weight decay."""
        return frozenset()

    def set_grad_checkpointing(self) -> None:
        """Let every block of its transformers be computed again in the backward pass, to save memory."""
        for module in self.modules():
            if isinstance(module, Blocks):
                module.set_grad_checkpointing()

    def selection(self) -> Mapping[str, bool]:
        """Metrics by which a validation result may be called better, True where higher is better."""
        return {"loss": False}
