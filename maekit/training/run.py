"""The folder of a run: its exclusive writer, its files and its metrics.

It holds `recipe.yaml` (resolved), `environment.json`, `metrics.jsonl`, `checkpoints/` and `report.html`.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from maekit import files
from maekit.errors import UserError
from maekit.training.lock import lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


logger = logging.getLogger(__name__)


class RunBusyError(UserError):
    """Another process is training in a run folder; `lock` is its lock file."""

    lock: Path


class Run:
    """A run folder. Only the first process writes; on the others the writing methods do nothing.

    Args:
        folder: created by `owned` where it is missing.
        writes: True in the process that writes.
        tensorboard: also write TensorBoard event files.

    Attributes:
        checkpoints: the folder of checkpoints.
        metrics: the file of metrics, one JSON object a line.
    """

    def __init__(self, folder: Path, *, writes: bool = True, tensorboard: bool = False) -> None:
        self.folder, self.writes = folder, writes
        self.events = _event_writer(folder) if tensorboard and writes else None
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.jsonl"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder exclusively; the system releases it when the process dies.

        Raises:
            UserError: another process holds it, or it cannot be created.
        """
        if not self.writes:
            yield
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the run folder cannot be created ({error.strerror})",
                location=str(self.folder),
                hint="Choose another with --runs.",
            ) from error
        with lock(self.folder / ".lock") as holder:
            if holder is not None:
                busy = RunBusyError(
                    "another process is training in this run folder",
                    location=str(self.folder),
                    value=f"process {holder}",
                    expected="one process per run folder",
                    hint="Wait for it or stop it, or give this run another name with `--set name=...`.",
                )
                busy.lock = self.folder / ".lock"
                raise busy
            yield

    def write_text(self, name: str, text: str) -> None:
        """Write or replace a text file of the run."""
        if self.writes:
            with files.described_errors(self.folder / name, len(text)):
                files.write_text(self.folder / name, text)

    def log(self, row: dict[str, Any]) -> None:
        """Append one row to the metrics.

        Args:
            row: with `kind` (`train`, `validation`) and `step`; numbers also go to TensorBoard.
        """
        if self.writes:
            with files.described_errors(self.metrics), self.metrics.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if self.events is not None:
            for name, value in row.items():
                if isinstance(value, float):
                    self.events.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def rows(self) -> list[dict[str, Any]]:
        """Read the metrics logged so far.

        A line that is not a row of metrics is left out and named in a warning. A last line without an end, which a crash
        cut off, is left out silently.
        """
        rows = []
        lines = self.metrics.read_bytes().split(b"\n")[:-1] if self.metrics.exists() else []
        for number, line in enumerate(lines, start=1):
            row = _read_row(line)
            if row is None:
                shown = line[:60].decode(errors="backslashreplace")
                logger.warning("%s:%d: not a row of metrics, left out: %r", self.metrics, number, shown)
            else:
                rows.append(row)
        return rows

    def rewind(self, step: int) -> None:
        """Remove metrics logged after `step`, because those steps are run again."""
        lines = [json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step]
        if self.metrics.exists():
            self.write_text(self.metrics.name, "".join(lines))


def _read_row(line: bytes) -> dict[str, Any] | None:
    """Read a line of the metrics; None where it is not one that `Run.log` wrote."""
    try:
        row = json.loads(line)
        complete = (
            isinstance(row["kind"], str) and isinstance(row["step"], int) and isinstance(row["epoch"], int | float)
        )
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return row if complete else None


def _event_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "TensorBoard is not installed",
            location="training.tensorboard",
            value=True,
            hint="pip install 'maekit[tensorboard]', or leave it out: the metrics are in metrics.jsonl.",
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))
