"""Ways a run ends early: a signal, or numbers that stay infinite or NaN."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from maekit.training.run import Run


class StoppedError(Exception):
    """A run that ended early for a reason that is no fault in the program."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[Any, ...]:
        """Through a pipe from another process."""
        return type(self), (str(self), self.exit_code)


class InterruptedRunError(StoppedError):
    """SIGTERM or Ctrl-C, after a checkpoint was written. Exit code 128 + number of the signal: 143 or 130."""


class NotFiniteError(StoppedError):
    """Too many steps in a row without a finite loss and gradient. Exit code 3."""


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; a second Ctrl-C ends the process at once."""
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interruption(caught: Sequence[int], step: int) -> InterruptedRunError:
    """The end of a run that a signal asked for (here, or in another process of it)."""
    number = caught[0] if caught else int(signal.SIGTERM)
    return InterruptedRunError(
        f"stopped by {signal.Signals(number).name} after step {step}, which is saved; "
        "the same command goes on from there",
        128 + number,
    )


def not_finite(run: Run, batch: dict[str, Tensor], *, step: int, bad: int, loss: float, norm: float) -> NotFiniteError:
    """Dump the last batch and what was computed from it, and name the place."""
    dump = run.folder / "not_finite"
    if run.writes:
        dump.mkdir(exist_ok=True)
        save_file({name: value.contiguous().cpu() for name, value in batch.items()}, dump / "batch.safetensors")
        facts: dict[str, Any] = {"step": step, "loss": str(loss), "grad_norm": str(norm), "steps_in_a_row": bad}
        (dump / "facts.json").write_text(json.dumps(facts, indent=1))
    return NotFiniteError(
        f"{bad} steps in a row without a finite loss and gradient (step {step}: loss {loss}, gradient norm {norm}). "
        f"The last batch is in {dump}; the newest checkpoint is sound. Lower optimizer.base_lr, set "
        "optimizer.clip_grad, or look for infinite values with `maekit data inspect`.",
        3,
    )
