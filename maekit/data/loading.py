"""From a source and an adapter to batches on the device."""

from __future__ import annotations

import atexit
import math
import multiprocessing.util  # registers its own exit handler first, so that the one below runs before it
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maekit.data.sample import Sample
from maekit.data.seeding import sample_rngs
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

    def prepare_batch(self, samples: Sequence[Sample]) -> list[Prepared]:
        """See `maekit.adapter.Adapter`."""
        ...


class Variation(Protocol):
    """Augmentations that run in worker processes, before and after preparation."""

    @property
    def varies_samples(self) -> bool:
        """Whether `vary_sample` may change anything."""
        ...

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


BATCH_BYTES = 32 << 20
"""Bytes of samples, as read, that are held to be prepared together."""
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
        self._together = (
            max(1, BATCH_BYTES // max(4 * math.prod(source.info.shape), 1)) if 0 not in source.info.shape else 1
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self._items([key])[0]

    def _items(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """Samples that are read and prepared together; each has the random numbers that it has alone."""
        drawn = self._read(keys)
        rngs = self._rngs(keys, [index for index, _ in drawn])
        noise = [rng.random(self.patches, dtype=np.float32) for rng in rngs]
        samples, varied = [sample for _, sample in drawn], [False] * len(keys)
        if self.augmentations is not None and self.augmentations.varies_samples:
            samples = [self.augmentations.vary_sample(s, rng) for s, rng in zip(samples, rngs, strict=True)]
            varied = [sample is not before for sample, (_, before) in zip(samples, drawn, strict=True)]
        indices = [index for index, _ in drawn]
        signals = self._prepared(indices, samples, varied)
        return [
            self._item(index, sample, signal, rng, noise=drawn_noise)
            for index, sample, signal, rng, drawn_noise in zip(indices, samples, signals, rngs, noise, strict=True)
        ]

    def _item(
        self, index: int, sample: Sample, signal_and_valid: Prepared, rng: Generator, *, noise: NDArray[np.float32]
    ) -> dict[str, Any]:
        """A prepared sample, varied, with its label and auxiliary signals."""
        signal, valid = signal_and_valid
        if self.augmentations is not None:
            signal, valid = self.augmentations.vary_signal(signal, valid, rng)
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

    def _rngs(self, keys: Sequence[Key], indices: Sequence[int]) -> list[Generator]:
        """The generator of each sample; a batch may reach into the next epoch."""
        if len(epochs := {key.epoch for key in keys}) == 1:
            return sample_rngs(self.seed, epochs.pop(), indices)
        return [sample_rngs(self.seed, key.epoch, [index])[0] for key, index in zip(keys, indices, strict=True)]

    def _missing(self, name: str) -> Prepared:
        """In place of a signal that a recording lacks: nothing of it is valid."""
        if name not in self._blank:
            self._blank[name] = blank(self.source.auxiliary[name], self.auxiliary[name].adapter)
        return self._blank[name]

    def __getitems__(self, keys: Sequence[Key]) -> list[dict[str, Any]] | UserError:
        """A batch; or what a person can mend, which is raised where the batch was asked for, without a worker's stack."""
        try:
            pieces = range(0, len(keys), self._together)
            return [item for at in pieces for item in self._items(keys[at : at + self._together])]
        except UserError as error:
            return error

    def _prepared(self, indices: Sequence[int], samples: Sequence[Sample], varied: Sequence[bool]) -> list[Prepared]:
        """Prepared samples, as copies of what is kept, since an augmentation may work in place."""
        signals: list[Prepared | None] = [
            None if changed else _copied(self._kept.get(index)) for index, changed in zip(indices, varied, strict=True)
        ]
        for i, sample in enumerate(samples):
            if sample.prepared:  # by an augmentation, which gave what preparation would
                signals[i] = sample.signal, sample.valid
        missing = [i for i, signal in enumerate(signals) if signal is None]
        made = self.adapter.prepare_batch([samples[i] for i in missing]) if missing else []
        for i, prepared_one in zip(missing, made, strict=True):
            signals[i] = prepared_one if varied[i] else self._keep(indices[i], prepared_one)
        return cast("list[Prepared]", signals)

    def _keep(self, index: int, signal: Prepared) -> Prepared:
        """Keep a prepared sample for the next epoch, if there is room; a copy of it."""
        size = sum(part.nbytes for part in signal if part is not None)
        if size > self._room or index in self._kept:
            return signal
        self._kept[index] = signal
        self._room -= size
        return cast("Prepared", _copied(signal))

    def _read(self, keys: Sequence[Key]) -> list[tuple[int, Sample]]:
        """Indices and samples of a batch: read together if the source can, one by one if not or if one cannot be read."""
        read_batch = getattr(self.source, "read_batch", None)
        if read_batch is not None:
            indices = [int(self.indices[key.position]) for key in keys]
            with suppress(UnreadableError):
                return list(zip(indices, read_batch(indices), strict=True))
        return [self._read_or_stand_in(key.position) for key in keys]

    def _read_or_stand_in(self, position: int) -> tuple[int, Sample]:
        """The sample at a position, or the next one that can be read."""
        last: UnreadableError | None = None
        for offset in range(len(self)):
            index = int(self.indices[(position + offset) % len(self)])
            try:
                return index, self.source[index]
            except UnreadableError as error:
                self.skipped.note(error)
                last = error
        raise last or IndexError(position)


def _copied(signal: Prepared | None) -> Prepared | None:
    return None if signal is None else (signal[0].copy(), None if signal[1] is None else signal[1].copy())


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
        except (RuntimeError, ConnectionError, EOFError) as error:
            # A worker that dies while it passes a batch closes its socket.
            passing = not isinstance(error, RuntimeError)
            if not (passing and self.num_workers) and not str(error).startswith(DEAD_WORKER):
                raise
            # A regular end would wait for a lock that the dead worker may have held.
            batches._shutdown = True  # type: ignore[attr-defined]
            _kill_workers()
            if passing:
                raise RuntimeError(f"{DEAD_WORKER} ended while it passed a batch: {error}") from error
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
