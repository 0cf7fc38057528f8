"""Samples that could not be read: how many a recipe allows, and which they were."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from maekit.errors import UnreadableError


class Skipped:
    """Notes unreadable samples in a file that all workers and processes of a run share, and goes on after a restart.

    Args:
        budget: how many different ones are allowed.
        file: one line a sample, made with the first; None keeps them in memory.
    """

    def __init__(self, budget: int = 0, file: Path | None = None) -> None:
        self.budget, self.file = budget, file
        self._known: set[str] = set()

    def note(self, error: UnreadableError) -> None:
        """Write the sample down, once.

        Raises:
            UserError: more than allowed; the first as it is where none is.
        """
        if not self.budget:
            raise error
        line = str(error).replace("\n", " ")
        if line in self._known:
            return
        self._known.update(self.names())
        if line not in self._known:
            self._known.add(line)
            self._write(line)
        if len(self._known) > self.budget:
            raise UserError(
                "too many samples that cannot be read",
                location=str(self.file or error.location),
                value=len(self._known),
                expected=f"at most data.bad_samples, which allows {self.budget}",
                hint="Mend or remove those that the file lists, or allow for more." if self.file else str(error),
            ) from error

    def names(self) -> list[str]:
        """What was noted so far, by any process of the run."""
        if self.file is None or not self.file.exists():
            return sorted(self._known)
        lines = self.file.read_text(errors="surrogateescape").split("\n")
        return list(dict.fromkeys(line for line in lines if line))

    def _write(self, line: str) -> None:
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:  # in one call, so that lines of several workers do not mix
                os.write(handle, f"{line}\n".encode(errors="surrogateescape"))
            finally:
                os.close(handle)
        except OSError as error:
            raise UserError(
                f"cannot be written ({error.strerror})",
                location=str(self.file),
                value=line,
                hint="Samples that cannot be read are listed there.",
            ) from error
