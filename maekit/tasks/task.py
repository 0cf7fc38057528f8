"""The interface of a task: a module that turns a batch into a loss and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from torch import Tensor, nn

from maekit.core.transformer import Blocks
from maekit.tasks.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from maekit.core.autoencoder import MaskedAutoencoder
    from maekit.core.encoders.base import Backbone
    from maekit.tasks.label_kinds.base import LabelKind
    from maekit.tasks.parts import Parts

Batch: TypeAlias = dict[str, Tensor]
"""As `maekit.data.loading` makes it; of an auxiliary signal `NAME.signal` and so on."""
EvalRows: TypeAlias = dict[str, Tensor]
"""One entry a sample in every tensor, `index` among them, so that evaluation on many processes counts each once."""


class TaskOutput(NamedTuple):
    """Result of a training pass over a batch.

    Attributes:
        loss: a scalar to differentiate.
        details: without a graph: what `Task.train_rows` needs of the pass.
    """

    loss: Tensor
    details: dict[str, Tensor]


class Task(nn.Module, ABC):
    """A module with a front end (signals to standardised samples) and a model, which computes its loss and its metrics.

    What else is done with a task follows from what its class declares.

    Attributes:
        needs_labels: whether it is trained with labels, by `maekit finetune`; else without, by `maekit pretrain`.
        label_kind: of a task with labels: what they are, and with that how predictions are scored, drawn and written.
        has_autoencoder: whether it trains a masked autoencoder, which is then `model`.
        is_linear_classifier: whether its head is one linear layer that gives a logit a class, as in the layouts of other
            people's classifiers.
        front: the front end.
        fronts: those of the auxiliary signals, by name; whoever builds the task puts them in.
    """

    needs_labels: ClassVar[bool] = False
    label_kind: ClassVar[type[LabelKind] | None] = None
    has_autoencoder: ClassVar[bool] = False
    is_linear_classifier: ClassVar[bool] = False
    front: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.fronts = nn.ModuleDict()

    @classmethod
    @abstractmethod
    def build_arguments(cls, parts: Parts) -> dict[str, Any]:
        """Arguments of the constructor that do not stand in a recipe.

        Args:
            parts: of the experiment.

        Raises:
            UserError: parts that the experiment does not have.
        """

    @classmethod
    def reads_patches(cls, options: Mapping[str, Any]) -> bool:
        """Whether its head reads each patch by itself, so that a linear probe is its own head on a frozen encoder.

        Args:
            options: of the recipe's task.
        """
        del options
        return False

    def check_auxiliary(self, others: Collection[str]) -> None:
        """Refuse options that do not go with auxiliary signals. Default: nothing to object.

        Args:
            others: names of the auxiliary signals.

        Raises:
            ValueError: an option that does not go with them; the message says which and what to do.
        """

    def fit(self, patches: Iterable[Tensor]) -> None:
        """Learn what is computed from training data before the first step. Default: nothing.

        Args:
            patches: standardised (patch, patch_dim) of each training sample, NaN where invalid; may be iterated again.

        Raises:
            ValueError: patches from which it cannot be computed.
        """

    def inputs(self, batch: Batch) -> Batch:
        """What `forward` computes from: the batch after its front ends, augmentation and mixing. Default: the batch itself.

        A training step calls it before `forward` and outside of what is compiled, since random numbers of Python and NumPy
        cannot be. Of its own result it gives that result, so that a `forward` which calls it too takes either.
        """
        return batch

    @abstractmethod
    def forward(self, batch: Batch) -> TaskOutput:
        """Training pass over one (micro-)batch, or over the `inputs` of one."""

    @abstractmethod
    def train_rows(self, batch: Batch, details: dict[str, Tensor]) -> EvalRows:
        """What the metrics of a training step need of each sample, computed from the step's own pass.

        Args:
            batch: that was trained on.
            details: of its `TaskOutput`.

        Returns:
            Rows for `compute_metrics`; those of samples that were mixed speak of the mixtures.
        """

    @abstractmethod
    def eval_step(self, batch: Batch) -> EvalRows:
        """What evaluation needs of each sample of a batch.

        A task with labels gives predictions as its label kind reads them, also where the batch has no `label`; where it
        has one, what the metrics need of it too.
        """

    @abstractmethod
    def compute_metrics(self, rows: EvalRows) -> dict[str, float]:
        """Metrics over all evaluated samples; `loss` among them."""

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> Verdict:
        """How training without labels went, for the report.

        Args:
            rows: logged metrics, in order.
        """
        if not rows:
            return Verdict("Nothing was measured yet.")
        return Verdict(f"The loss is {rows[-1]['loss']:.3f}; there is nothing to compare it with.")

    @property
    def encoder(self) -> Backbone | None:
        """The encoder of samples that it trains or uses; None where it has none."""
        return self._modules.get("encoder")  # type: ignore[return-value]

    @property
    def autoencoder(self) -> MaskedAutoencoder | None:
        """The masked autoencoder that it trains to reconstruct samples; None where it has none."""
        return None

    @property
    def values(self) -> NDArray[np.float64] | None:
        """(value,) rising, in the label's unit, over which `log_probability` of `eval_step` is a distribution; None where there is none."""
        return None

    def serve(self, signal: Tensor) -> Tensor:
        """What an exported graph computes from prepared signals. Default: the tokens of the encoder."""
        assert self.encoder is not None
        return self.encoder(self.front(signal, None)[0])

    @property
    def can_be_sharded(self) -> bool:
        """Whether its weights may be sharded over processes."""
        return True

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
