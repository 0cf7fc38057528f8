"""A GPU that is not there: tensors with its device and their shapes, and streams that wait for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from maekit.data.loading import Batch
from maekit.tasks.task import Task


def fake_copies(mode: FakeTensorMode, task: Task, batch: Batch) -> tuple[Task, Batch]:
    """The task and the batch as fake tensors on a GPU. What a task does not register stays on the CPU, as with `.to`."""

    def move(tensor: Tensor) -> Tensor:
        return mode.from_tensor(tensor).to("cuda")

    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        task._apply(move)  # type: ignore[no-untyped-call]
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
    return task, {name: move(tensor) for name, tensor in batch.items()}


class Stream:
    """Of a GPU, or an event on it: everything that is queued on it is done at once."""

    def __init__(self, priority: int = 0) -> None:
        del priority

    def record_event(self) -> Stream:
        return Stream()

    def record(self) -> None:
        """Nothing is waited for."""

    def wait_event(self, event: object) -> None:
        """See `record`."""

    wait_stream = wait_event


@contextmanager
def fake_streams() -> Iterator[None]:
    """What sharding asks of a GPU beside tensors: its number, streams and events."""
    with mock.patch.multiple(
        torch.cuda,
        current_device=lambda: 0,
        current_stream=lambda *_: Stream(),
        stream=torch.cpu.stream,
        Stream=Stream,
        Event=Stream,
    ):
        yield
