"""The progress bar of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from maekit.cli.console import err, is_first_process

if TYPE_CHECKING:
    from maekit.training.loop import TrainProgress


class ProgressBar:
    """A bar with loss, rate and remaining time; without a terminal, a line at every validation."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=not (err.is_terminal and is_first_process()),
        )
        self.task = self.progress.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def update(self, step: TrainProgress) -> None:
        """Show one entry of the log."""
        if not is_first_process():
            return
        row = step.row
        text = f"epoch {step.epoch:.2f}  loss {row['loss']:.4f}"
        for name, label in (("loss_mean_patch", "mean patch"), ("loss_interpolation", "interpolation")):
            if name in row:
                text += f"  {label} {row[name]:.4f}"
        if "samples_per_s" in row:
            text += f"  {row['samples_per_s']:.0f} samples/s"
        if err.is_terminal:
            self.progress.update(self.task, total=step.steps, completed=step.step, description=text)
        elif row["kind"] == "validation":
            err.print(f"step {step.step}/{step.steps}  validation {text}")
