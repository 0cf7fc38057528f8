"""From a source and an adapter to batches on the device."""

from __future__ import annotations

import atexit
import multiprocessing.util  # registers its own exit handler first, so that the one below runs before it
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maekit.data.sample import Sample
from maekit.data.skipped import Skipped
from maekit.errors import UnreadableError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    from maekit.data.sample import SignalInfo, Source
    from maekit.data.sampler import BatchSampler, Key

Batch: TypeAlias = dict[str, Tensor]
"""`signal` (batch, *prepared), `noise` (batch, patch), `index` (batch,) into the source, `label` (batch,) where
there are labels (of objects (batch, object, column)), `valid` (batch, *axes) only where something was not measured; and of
each auxiliary signal `NAME.signal`, `NAME.noise` and `NAME.valid`."""


DEAD_WORKER = "DataLoader worker"
"""How torch's message about a worker that has died begins."""

Prepared: TypeAlias = "tuple[NDArray[Any], NDArray[np.bool_] | None]"
"""A signal of fixed shape, and what of it was measured (None: all)."""


class Preparation(Protocol):
    """The part of an adapter that runs in worker processes."""

    def prepare(self, sample: Sample) -> Prepared:
        """See `maekit.adapter.Adapter`."""
        ...


class Variation(Protocol):
    """Augmentations that run in worker processes, before and after preparation."""

    def vary_sample(self, sample: Sample, rng: Generator) -> Sample:
        """A sample as it was read, varied; `sample` itself where nothing changes."""
        ...

    def vary_signal(self, signal: NDArray[Any], valid: NDArray[np.bool_] | None, rng: Generator) -> Prepared:
        """A prepared signal, varied."""
        ...


class AuxiliarySignal(NamedTuple):
    """Preparation of an auxiliary signal, the length of its masking noise, and its augmentations in training."""

    adapter: Preparation
    patches: int
    augmentations: Variation | None = None


MOST_KEPT = 512 << 20
"""Bytes of prepared samples that one process keeps for the next epoch; of a large data set the rest is prepared anew."""


class Samples(Dataset[dict[str, Any]]):
    """Chosen samples of a source, prepared by an adapter; randomness comes from (seed, epoch, index) alone.

    Prepared samples, before augmentation, are kept in memory as long as there is room, so that filters run once a sample.

    Args:
        source: random access to samples.
        indices: those of one split.
        adapter: prepares a sample.
        patches: length of the masking noise drawn with each sample.
        auxiliary: the same for auxiliary signals, by name.
        seed: of the run.
        augmentations: in training.
        skipped: takes note of samples that cannot be read; the next readable one then stands in, with its own index.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int] | NDArray[np.int64],
        adapter: Preparation,
        *,
        patches: int,
        seed: int = 0,
        augmentations: Variation | None = None,
        skipped: Skipped | None = None,
        auxiliary: Mapping[str, AuxiliarySignal] | None = None,
    ) -> None:
        self.source, self.adapter = source, adapter
        self.indices = np.asarray(indices, dtype=np.int64)
        self.patches, self.seed, self.skipped = patches, seed, skipped or Skipped()
        self.augmentations = augmentations
        self.auxiliary = auxiliary or {}
        self._blank: dict[str, Prepared] = {}
        self._kept: dict[int, Prepared] = {}
        self._room = MOST_KEPT

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        index, sample = self._read(key.position)
        rng = np.random.default_rng((self.seed, key.epoch, index))
        noise = rng.random(self.patches, dtype=np.float32)
        varied = sample if self.augmentations is None else self.augmentations.vary_sample(sample, rng)
        signal, valid = self._prepared(index, sample) if varied is sample else prepared(self.adapter, varied)
        if self.augmentations is not None:
            signal, valid = self.augmentations.vary_signal(signal, valid, rng)
        sample = varied
        item: dict[str, Any] = {"signal": signal, "valid": valid, "noise": noise, "index": index}
        if sample.label is not None:
            item["label"] = sample.label
        for name, (adapter, patches, augmentations) in self.auxiliary.items():
            other = sample.auxiliary.get(name)
            if other is None:
                signal, valid = self._missing(name)
            elif augmentations is None:
                signal, valid = adapter.prepare(other)
            else:
                signal, valid = prepared(adapter, augmentations.vary_sample(other, rng))
                signal, valid = augmentations.vary_signal(signal, valid, rng)
            item[f"{name}.signal"], item[f"{name}.valid"] = signal, valid
            item[f"{name}.noise"] = rng.random(patches, dtype=np.float32)
        return item

    def _missing(self, name: str) -> Prepared:
        """In place of a signal that a recording lacks: nothing of it is valid."""
        if name not in self._blank:
            self._blank[name] = blank(self.source.auxiliary[name], self.auxiliary[name].adapter)
        return self._blank[name]

    def __getitems__(self, keys: Sequence[Key]) -> list[dict[str, Any]] | UserError:
        """A batch; or what a person can mend, which is raised where the batch was asked for, without a worker's stack."""
        try:
            return [self[key] for key in keys]
        except UserError as error:
            return error

    def _prepared(self, index: int, sample: Sample) -> Prepared:
        """A copy, since an augmentation may work in place."""
        found = self._kept.get(index)
        if found is None:
            found = self.adapter.prepare(sample)
            size = sum(part.nbytes for part in found if part is not None)
            if size > self._room:
                return found
            self._kept[index] = found
            self._room -= size
        signal, valid = found
        return signal.copy(), None if valid is None else valid.copy()

    def _read(self, position: int) -> tuple[int, Sample]:
        last: UnreadableError | None = None
        for offset in range(len(self)):
            index = int(self.indices[(position + offset) % len(self)])
            try:
                return index, self.source[index]
            except UnreadableError as error:
                self.skipped.note(error)
                last = error
        raise last or IndexError(position)


def prepared(adapter: Preparation, sample: Sample) -> Prepared:
    """A sample through its adapter, unless an augmentation has prepared it already."""
    return (sample.signal, sample.valid) if sample.prepared else adapter.prepare(sample)


def blank(info: SignalInfo, adapter: Preparation) -> Prepared:
    """In place of a signal that is not there: nothing of it is valid."""
    zeros = np.zeros(info.shape, dtype=np.complex64 if info.complex else np.float32)
    signal, valid = adapter.prepare(Sample(zeros, None, None, "", "", info.rate_hz))
    return np.zeros_like(signal), np.zeros(signal.shape[1:] if valid is None else valid.shape, dtype=bool)


class Batches(DataLoader[Any]):
    """A DataLoader that passes on, as they were raised, errors of its workers that a person can mend.

    The death of a worker is noticed where the next batch is waited for, within 5 s. Torch's own handler of SIGCHLD would raise
    at any point of the main process instead: in the middle of a save, or of starting a thread, which then never ends.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        in_main_thread = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGCHLD)
        batches = super().__iter__()
        if in_main_thread:
            signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
        _workers.update(getattr(batches, "_workers", ()))
        try:
            for batch in batches:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if str(error).startswith(DEAD_WORKER):
                # A regular end would wait for a lock that the dead worker may have held.
                batches._shutdown = True  # type: ignore[attr-defined]
                _kill_workers()
            raise


def collate(items: Sequence[dict[str, Any]]) -> Batch:
    """Stack prepared samples; a `valid` appears only when something in the batch was not measured."""
    batch: Batch = {}
    for name in items[0]:
        values = [item[name] for item in items]
        if name.rpartition(".")[2] == "valid":
            if any(valid is not None and not valid.all() for valid in values):
                shape = next(valid.shape for valid in values if valid is not None)
                whole = np.ones(shape, dtype=bool)
                batch[name] = torch.from_numpy(np.stack([whole if valid is None else valid for valid in values]))
        elif isinstance(values[0], np.ndarray):
            batch[name] = torch.from_numpy(np.stack(values))
        else:
            batch[name] = torch.tensor(values)
    return batch


def loader(samples: Samples, sampler: BatchSampler, *, workers: int = 0, pin: bool = False) -> Batches:
    """Batches in the sampler's order, prepared by `workers` processes.

    They stay from epoch to epoch: nothing in them depends on it but the keys, which come from here. The generator of
    its own is for the seeds torch gives to workers, which would otherwise shift the random numbers of the next step.
    """
    return Batches(
        samples,
        batch_sampler=sampler,
        collate_fn=_collate,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),
    )


def _collate(items: Sequence[dict[str, Any]] | UserError) -> Batch | UserError:
    return items if isinstance(items, UserError) else collate(items)


def _leave_signals(worker: int) -> None:
    """A signal to all processes of a run (a cluster's, Ctrl-C) is for the main one, which still needs its workers to save."""
    del worker
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


_workers: WeakSet[multiprocessing.process.BaseProcess] = WeakSet()
"""Workers of all loaders of this process."""


@atexit.register
def _kill_workers() -> None:
    """Kill the workers that are left at exit, which an exception has kept from being shut down.

    multiprocessing sends them SIGTERM, which they ignore (see `_leave_signals`), and then waits for them without end.
    """
    for worker in list(_workers):
        if worker._parent_pid == os.getpid() and worker.is_alive():  # type: ignore[attr-defined]
            worker.kill()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch, without waiting for the copy where memory is pinned."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
