"""The folder of a run: who may write it, what stands in it, its metrics.

`recipe.yaml` (resolved), `environment.json`, `metrics.jsonl`, `checkpoints/`, `report.html`.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from maekit.errors import UserError
from maekit.training.lock import lock

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

LIBRARIES = ("maekit", "torch", "timm", "einops", "numpy", "scipy", "h5py", "torchvision")


class Run:
    """One run folder. Only the first process writes; the others hold the same object and stay silent.

    Args:
        folder: made when missing.
        writes: True in the process that owns the folder.
        tensorboard: also write event files.
    """

    def __init__(self, folder: Path, *, writes: bool = True, tensorboard: bool = False) -> None:
        self.folder, self.writes = folder, writes
        self.events = _event_writer(folder) if tensorboard and writes else None
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.jsonl"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go when the process ends, however it ends.

        Raises:
            UserError: another process holds it.
        """
        if not self.writes:
            yield
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UserError(
                f"the run folder cannot be made ({error.strerror})",
                location=str(self.folder),
                hint="Choose another with --runs.",
            ) from error
        with lock(self.folder / ".lock") as holder:
            if holder is not None:
                raise UserError(
                    "another process is training in this run folder",
                    location=str(self.folder),
                    value=f"process {holder}",
                    expected="one run a folder",
                    hint="Wait for it or stop it, or give this run another name with `--set name=...`.",
                )
            yield

    def write_text(self, name: str, text: str) -> None:
        """Replace a small file of the run in one step."""
        if self.writes:
            unfinished = self.folder / f".{name}.unfinished"
            unfinished.write_text(text)
            unfinished.replace(self.folder / name)

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to the metrics; on disk when this returns."""
        if self.writes:
            with self.metrics.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if self.events is not None:
            for name, value in row.items():
                if isinstance(value, float):
                    self.events.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def rows(self) -> list[dict[str, Any]]:
        """The metrics so far; a last line that was cut off by a crash is passed over."""
        rows = []
        for line in self.metrics.read_text().splitlines() if self.metrics.exists() else []:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def rewind(self, step: int) -> None:
        """Take out metrics after `step`: those steps are about to be run again."""
        kept = [json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step]
        if self.metrics.exists():
            self.write_text(self.metrics.name, "".join(kept))


def environment(device: torch.device) -> dict[str, str]:
    """Versions and hardware, as found."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    accelerator = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "device": accelerator,
        **versions,
    }


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


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
