"""How a run ends early: by a signal, or because loss or gradient stay NaN or infinite."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from maekit.files import described_errors, write_text
from maekit.training.tensor_file import write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from maekit.training.run import Run


class StoppedError(Exception):
    """A run ended early, and not because of a fault in the program.

    Attributes:
        exit_code: of the command.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle both arguments; `Exception` would pickle the message alone."""
        return type(self), (str(self), self.exit_code)


class InterruptedRunError(StoppedError):
    """SIGTERM or Ctrl-C, after a checkpoint was written. Exit code 128 + number of the signal: 143 or 130."""


class NotFiniteError(StoppedError):
    """Too many consecutive steps without a finite loss and gradient. Exit code 3."""


stop_requests: list[int] = []
"""Signals for work in other threads than the main one. Whoever started that work appends SIGTERM to end it, and clears the
list before the next piece of work."""


@contextmanager
def deferred_signals(notify: Callable[[int], None] | None = None) -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of ending the process; a second Ctrl-C raises KeyboardInterrupt.

    Outside the main thread, where Python allows no handlers, `stop_requests` takes their place.

    Args:
        notify: also called with each signal, in the main thread.

    Yields:
        The list to which signals are appended as they arrive.
    """
    caught: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)
        if notify is not None:
            notify(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop_requests
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def interrupted_error(caught: Sequence[int], step: int) -> InterruptedRunError:
    """Make the exception for a run that a signal stopped after `step`; `caught` is empty where another process got it."""
    number = caught[0] if caught else int(signal.SIGTERM)
    return InterruptedRunError(
        f"stopped by {signal.Signals(number).name} after step {step}, which is saved; "
        "run the same command again to continue",
        128 + number,
    )


def not_finite_error(
    run: Run, batch: dict[str, Tensor], *, step: int, bad_steps: int, loss: float, grad_norm: float
) -> NotFiniteError:
    """Write the last batch and the numbers computed from it to the run folder, and make the exception.

    Args:
        run: gets a folder `not_finite`.
        batch: of the last step.
        step: steps done before it.
        bad_steps: consecutive steps that were not finite.
        loss: of the last step.
        grad_norm: of the last step.
    """
    dump = run.folder / "not_finite"
    if run.writes:
        with described_errors(dump):
            dump.mkdir(exist_ok=True)
            write_tensors(dump / "batch.safetensors", batch)
            facts = {"step": step, "loss": str(loss), "grad_norm": str(grad_norm), "steps_in_a_row": bad_steps}
            write_text(dump / "facts.json", json.dumps(facts, indent=1))
    return NotFiniteError(
        f"{bad_steps} steps in a row without a finite loss and gradient (step {step}: loss {loss}, gradient norm "
        f"{grad_norm}). The last batch is in {dump}; the checkpoints from before these steps are kept. Look for infinite "
        "values with `maekit data inspect`, or start again under another name with a lower optimizer.base_lr or with "
        "optimizer.clip_grad: this run would fail again from its newest checkpoint.",
        3,
    )
