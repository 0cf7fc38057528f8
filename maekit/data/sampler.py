"""Which samples make up which step: a pure function of (seed, epoch), so nothing has to be saved to resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Key(NamedTuple):
    """Everything that decides what one drawn sample looks like, beside the seed of the run."""

    epoch: int
    position: int


class BatchSampler:
    """Micro-batches of keys for one process in one epoch.

    An epoch is one permutation of the samples (or as many as `samples_per_epoch` needs), cut into steps of `batch_size` (the effective batch); the samples
    of a step are dealt out to (accumulation x world size) micro-batches. So the samples of a step, and with them
    order and augmentation, do not depend on workers, on the number of processes or on where a run was resumed.

    Args:
        samples: number of samples.
        batch_size: samples a step, over all processes and accumulated micro-batches.
        gradient_accumulation_steps: micro-batches a step and process.
        rank, world_size: this process among all.
        seed: of the run.
        shuffle: False takes samples in order and keeps the last, smaller batch (evaluation).
        samples_per_epoch: draw so many an epoch, in whole passes one after the other, whatever number there are; None: each once.

    Raises:
        UserError: a batch size that does not divide, or fewer samples than one step takes.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        *,
        seed: int = 0,
        gradient_accumulation_steps: int = 1,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        samples_per_epoch: int | None = None,
    ) -> None:
        if batch_size % (gradient_accumulation_steps * world_size):
            raise UserError(
                f"the batch does not divide into {world_size} processes x {gradient_accumulation_steps} accumulated micro-batches",
                location="training.batch_size",
                value=batch_size,
                expected=f"a multiple of {gradient_accumulation_steps * world_size}",
            )
        self.length = samples_per_epoch or samples
        if shuffle and self.length < batch_size:
            location, value = (
                ("training.batch_size", batch_size)
                if samples_per_epoch is None
                else ("schedule.samples_per_epoch", samples_per_epoch)
            )
            raise UserError(
                f"{self.length} training samples do not fill one step",
                location=location,
                value=value,
                expected=f"training.batch_size at most schedule.samples_per_epoch, or at most {samples} samples without it",
                hint="Lower the batch with `--set training.batch_size=...`, or go through the samples several times with `--set schedule.samples_per_epoch=...`.",
            )
        self.passes = -(-self.length // samples) if samples else 1
        self.samples, self.batch_size, self.seed, self.shuffle = samples, batch_size, seed, shuffle
        self.gradient_accumulation_steps, self.rank, self.world_size = gradient_accumulation_steps, rank, world_size
        self.epoch, self.first_step = 0, 0

    @property
    def steps(self) -> int:
        """Steps an epoch; in training a last, incomplete step is left out."""
        return self.length // self.batch_size if self.shuffle else -(-self.length // self.batch_size)

    def start_at(self, epoch: int, step: int = 0) -> None:
        """Where the next iteration begins."""
        self.epoch, self.first_step = epoch, step

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.gradient_accumulation_steps

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order()
        parts = self.gradient_accumulation_steps * self.world_size
        for step in range(self.first_step, self.steps):
            batch = range(step * self.batch_size, min((step + 1) * self.batch_size, self.length))
            for micro in range(self.gradient_accumulation_steps):
                part = micro * self.world_size + self.rank
                # Every process makes every step: where its share of the last one is empty it repeats a sample, which
                # evaluation counts once.
                share = batch[part::parts] if part < len(batch) else batch[:1]
                yield [Key(self.epoch * self.passes + at // self.samples, int(order[at])) for at in share]

    def _order(self) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.samples)
        passes = range(self.epoch * self.passes, (self.epoch + 1) * self.passes)
        return np.concatenate([np.random.default_rng((self.seed, one)).permutation(self.samples) for one in passes])
