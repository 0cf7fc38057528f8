"""One training step: micro-batches forward and backward, then the update. The loop, a bench and an estimate all take this one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from maekit.training.average import moving_average
from maekit.training.device import autocast, compile_if_wanted
from maekit.training.distributed import Process, parallelize, reduce_step, synchronise_gradients
from maekit.training.optimizer import gradient_norm, make_optimizer

if TYPE_CHECKING:
    from torch import Tensor

    from maekit.config.schema import Recipe
    from maekit.data.loading import Batch
    from maekit.tasks.task import Task


class Update(NamedTuple):
    """What came of a step: loss over all processes and norm of the gradient; it was made only if both are `finite`.

    `stop`: some process was asked to stop.
    """

    loss: float
    norm: float
    finite: bool
    stop: bool


class Step:
    """A task with all that a step takes: processes, precision, optimizer and moving average.

    Args:
        task: what is trained, on the device of `process` already.
        recipe: its `optimizer`, `training` and `seed` are read here.
        process: this process among all.
    """

    def __init__(self, task: Task, recipe: Recipe, process: Process) -> None:
        options = recipe.training
        self.task, self.process, self.clip_grad = task, process, recipe.optimizer.clip_grad
        self.gradient_accumulation_steps = options.micro_batches(process.world_size)
        task.train()
        torch.manual_seed(recipe.seed)
        if options.activation_checkpointing:
            task.set_grad_checkpointing()
        self.average = moving_average(task, options.ema)
        self.module = parallelize(task, process, options.parallel)
        self.optimizer = make_optimizer(task, recipe.optimizer)
        self.compiled = compile_if_wanted(self.module, options.compile, process.device)
        self.precision = autocast(options.precision, process.device)

    def learn(self, batch: Batch, *, last: bool = True) -> Tensor:
        """Gradients of one micro-batch, added to those that are there; `last` of a step averages them over processes.

        Returns:
            Its share of the step's loss, without a graph.
        """
        synchronise_gradients(self.module, last)
        with self.precision():
            part = self.compiled(batch) / self.gradient_accumulation_steps
        part.backward()
        return part.detach()

    def update(self, loss: Tensor, *, stop: bool = False) -> Update:
        """Use up the gradients: one move of the optimizer, left out where loss or gradient are not finite."""
        value, norm, stop = reduce_step(loss, gradient_norm(self.task, self.clip_grad), stop, self.process)
        finite = math.isfinite(value) and math.isfinite(norm)
        if finite:
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.task)
        self.optimizer.zero_grad(set_to_none=True)
        return Update(value, norm, finite, stop)
