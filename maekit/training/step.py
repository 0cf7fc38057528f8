"""One training step: forward and backward over micro-batches, then the optimizer.

The training loop, `maekit bench` and the memory estimate all use this class, so that they measure the same step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from maekit.training.average import make_average
from maekit.training.device import autocast, compile_module
from maekit.training.distributed import Process, parallelize, reduce_step, set_gradient_sync
from maekit.training.optimizer import gradient_norm, make_optimizer

if TYPE_CHECKING:
    from torch import Tensor

    from maekit.config.schema import Recipe
    from maekit.data.loading import Batch
    from maekit.tasks.task import Task, TaskOutput


class StepResult(NamedTuple):
    """Result of a step, the same on every process.

    Attributes:
        loss: mean over processes.
        grad_norm: Euclidean norm of all gradients, before clipping.
        finite: whether both are finite; the weights changed only if so.
        stop: whether any process was asked to stop.
    """

    loss: float
    grad_norm: float
    finite: bool
    stop: bool


class TrainStep:
    """A task together with everything that a training step needs.

    Args:
        task: the task to train, already on the device of `process`.
        recipe: its `optimizer`, `training` and `seed` are read.
        process: this process.

    Attributes:
        module: the task, wrapped for many processes where there are several.
        compiled: `module`, compiled where the recipe asks for it; called with the task's `inputs`.
        optimizer: of the trainable parameters.
        average: moving average of the weights, or None.
        precision: makes the autocast context of a forward pass.
    """

    def __init__(self, task: Task, recipe: Recipe, process: Process) -> None:
        options = recipe.training
        self.task, self.process, self.clip_grad = task, process, recipe.optimizer.clip_grad
        self.gradient_accumulation_steps = options.micro_batches(process.world_size)
        task.train()
        torch.manual_seed(recipe.seed)
        if options.activation_checkpointing:
            task.set_grad_checkpointing()
        self.average = make_average(task, options.ema)
        self.module = parallelize(task, process, options.parallel)
        self.optimizer = make_optimizer(task, recipe.optimizer)
        self.compiled = compile_module(self.module, options.compile, process.device)
        self.precision = autocast(options.precision, process.device)

    def forward_backward(self, batch: Batch, *, last: bool = True) -> TaskOutput:
        """Add the gradients of one micro-batch to those accumulated so far.

        Args:
            batch: on the device.
            last: whether it is the last micro-batch of the step, after which gradients are averaged over processes.

        Returns:
            Its share of the step's loss, without a graph, and the details of the pass.
        """
        set_gradient_sync(self.module, last)
        with self.precision():
            output: TaskOutput = self.compiled(self.task.inputs(batch))
        loss: Tensor = output.loss / self.gradient_accumulation_steps
        loss.backward()  # type: ignore[no-untyped-call]
        return output._replace(loss=loss.detach())

    def optimizer_step(self, loss: Tensor, *, stop: bool = False) -> StepResult:
        """Clip the accumulated gradients, update the weights and the moving average, and clear the gradients.

        The update is skipped where the loss or the gradient norm is not finite.

        Args:
            loss: sum over this process's micro-batches.
            stop: whether this process was asked to stop.
        """
        mean_loss, norm, stop = reduce_step(loss, gradient_norm(self.task, self.clip_grad), stop, self.process)
        finite = math.isfinite(mean_loss) and math.isfinite(norm)
        if finite:
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.task)
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(mean_loss, norm, finite, stop)
