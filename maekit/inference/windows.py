"""Windows of recordings through a run's model: prepared a recording at a time, run together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maekit.data.loading import collate, to_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maekit.build.experiment import Experiment
    from maekit.build.training_stats import TrainingStats
    from maekit.data.sample import Sample
    from maekit.inference.predicting_run import PredictingRun
    from maekit.inference.recording import AuxiliaryOfWindows
    from maekit.tasks.label_kinds.recording_output import RecordingOutput


@dataclass(frozen=True)
class PreparedWindows:
    """Consecutive windows of one recording, ready for the model.

    Attributes:
        windows: first row and sample of each.
        reasons: why nothing is predicted from each; empty where something is.
        items: for the model, of those without a reason.
    """

    windows: Sequence[tuple[int, Sample]]
    reasons: list[str]
    items: list[dict[str, Any]]

    def rows(self, output: RecordingOutput[Any], predictions: Sequence[Any]) -> list[Any]:
        """The row of each window, in order.

        Args:
            output: makes the rows.
            predictions: those of `items`.
        """
        left = iter(predictions)
        return [
            output.row(start, sample, None if reason else next(left), reason)
            for (start, sample), reason in zip(self.windows, self.reasons, strict=True)
        ]


def prepare_windows(
    run: PredictingRun, windows: Sequence[tuple[int, Sample]], auxiliary: AuxiliaryOfWindows
) -> PreparedWindows:
    """Prepare windows together, as the run's adapters do in training.

    Args:
        run: that predicts.
        windows: first row and sample of each.
        auxiliary: of the recording.
    """
    reasons = [reason_against(run.experiment, sample, run.limits) for _, sample in windows]
    usable = [window for window, reason in zip(windows, reasons, strict=True) if not reason]
    items: list[dict[str, Any]] = []
    no_noise = np.zeros(0)
    signals = run.experiment.adapter.prepare_batch([sample for _, sample in usable]) if usable else []
    for (start, _), (signal, valid) in zip(usable, signals, strict=True):
        item: dict[str, Any] = {"signal": signal, "valid": valid, "noise": no_noise, "index": 0}
        for name, (other, other_valid) in auxiliary.prepared(start).items():
            item |= {f"{name}.signal": other, f"{name}.valid": other_valid, f"{name}.noise": no_noise}
        items.append(item)
    return PreparedWindows(windows, reasons, items)


def run_model(
    run: PredictingRun, prepared: Sequence[PreparedWindows], output: RecordingOutput[Any], device: torch.device
) -> list[Any]:
    """The predictions of all windows from which something is predicted, in order; the model sees them together.

    Args:
        run: that predicts.
        prepared: windows of one recording or of several.
        output: of any of these recordings.
        device: of the task.
    """
    items = [item for one in prepared for item in one.items]
    if not items:
        return []
    with torch.inference_mode():
        rows = run.task.eval_step(to_device(collate(items), device))
    return list(output.predictions({name: values.cpu().numpy() for name, values in rows.items()}))


def reason_against(experiment: Experiment, sample: Sample, stats: TrainingStats | None) -> str:
    """Why nothing is predicted from a window; empty where something is.

    Args:
        experiment: of the run.
        sample: the window.
        stats: with the limits of quality; None: quality does not count.
    """
    missing = 0.0 if sample.valid is None else float(1 - sample.valid.mean())
    if missing > experiment.spec.missing_budget or missing >= 1:
        return f"{missing:.0%} of the window are missing"
    return stats.shortcomings(experiment.adapter.quality(sample)) if stats is not None else ""
