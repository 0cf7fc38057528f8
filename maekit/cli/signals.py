"""SIGTERM and SIGHUP end a command like Ctrl-C does: what it was writing is removed first."""

from __future__ import annotations

import os
import signal
from types import FrameType


class TerminatedError(SystemExit):
    """A signal asked the command to end. Exit code 128 + number of the signal, e.g. 143 for SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


def exit_on_signals() -> None:
    """Let SIGTERM and SIGHUP raise `TerminatedError` in this process, unless they are ignored (`nohup`).

    Training and prediction have handlers of their own while they run. Processes that this one forks end at once.
    """
    process = os.getpid()

    def terminate(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise TerminatedError(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, terminate)
