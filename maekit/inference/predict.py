"""A trained run along one recording, or many at once: one prediction for every window, streamed, or why there is none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from maekit import files
from maekit.config.data_spec import load_spec
from maekit.errors import UserError
from maekit.inference.predicting_run import open_predicting
from maekit.inference.prediction import PredictResult, Settings, speed
from maekit.inference.recording_files import PredictionNames, find_recording_files, prediction_name
from maekit.inference.together import Together
from maekit.inference.writers import check_place
from maekit.tasks.label_kinds.recording_output import PredictOptions

OVERVIEW = "predictions.json"


def predict(
    run: Path,
    file: Path,
    to: Path | None = None,
    *,
    record: str | None = None,
    hop_s: float | None = None,
    gate: bool = True,
    smoothing: int = 1,
    track_s: float | None = None,
    uncertain_above: float | None = None,
    score_threshold: float | None = None,
    pictures: Sequence[Path] = (),
    frame: int | None = None,
    spec: str | None = None,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    device: str | None = None,
) -> PredictResult:
    """Predictions of a fine-tuned run along one recording: an estimate every `hop_s`, or the objects of every frame.

    The recording is read in pieces and rows are written as they come: memory does not grow with its length.

    Args:
        run: folder of a run of a task with labels; its training data need not be there.
        file: HDF5, laid out as the run's data spec says, or a file that the spec's `convert` section reads; labels are not needed.
        to: file to write, in a format of the run's labels; by default CSV, named after the recording, in the current folder.
        record: which recording of the file, where there are several.
        hop_s: seconds from window to window; the default depends on the labels.
        gate: predict nothing where the adapter finds the signal poorer than in training.
        smoothing: of values: each becomes the median over so many windows around it.
        track_s: of values: follow them along the recording, with windows until so many seconds later.
        uncertain_above: of values: no estimate whose uncertainty, in the unit of the label, is larger.
        score_threshold: of objects: score of what is written.
        pictures: of objects: files to draw.
        frame: of objects: row that still pictures show.
        spec: a data spec for another layout than the run's.
        overwrite: whether files may be replaced.
        overrides: of the run's recipe.
        device: the model runs there.

    Raises:
        UserError: no such run, one that predicts nothing, a recording that is not as the spec says or does not fit.
    """
    opened_run = open_predicting(run, overrides, gate=gate)
    layout = load_spec(spec) if spec else opened_run.experiment.spec
    options = PredictOptions(smoothing, track_s, uncertain_above, score_threshold, tuple(pictures), frame)
    results: list[PredictResult] = []
    Together(
        Settings(opened_run, layout, options, hop_s, overwrite, {file.resolve()}),
        lambda file, path: to or Path(prediction_name(file.stem, path)),
        succeeded=results.append,
        failed=_raise,
    ).run([file], record, device, every=False)
    return results[0]


def _raise(_file: Path, _record: str, error: UserError | OSError) -> NoReturn:
    raise error


@dataclass(frozen=True)
class ManyPredicted:
    """What `predict_many` wrote, and how fast.

    Attributes:
        overview: JSON file of `results`, `failures` and the real-time factor.
        results: of each recording.
        failures: (file, or file and recording in it; the reason) of those that were not predicted to their end.
        row_noun: what a row is called.
        took_s: from the first window to the last, the model being loaded.
    """

    overview: Path
    results: list[PredictResult]
    failures: list[tuple[str, str]]
    row_noun: str
    took_s: float

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of recordings over seconds of computing; None where a rate is not known."""
        lengths = [result.recorded_s for result in self.results]
        return sum(length or 0 for length in lengths) / self.took_s if lengths and None not in lengths else None

    def lines(self) -> Iterator[str]:
        """For the terminal, after the line of each recording."""
        yield f"written: {self.overview}"
        sides = Counter(result.side for result in self.results)
        if count := sides.pop("train", 0):
            yield f"{count} of the recordings were in the training of the run: their predictions say nothing about new ones"
        for side, count in sorted((sides - Counter({"": sides[""]})).items()):
            yield f"{count} of the recordings were in the {side} data of the run"
        for name, count in Counter(name for result in self.results for name in result.lacking).items():
            yield f"{count} of the recordings have no signal {name!r}, which the run was trained with; it was left out"
        recordings = f"{len(self.results)} recording{'s' * (len(self.results) != 1)}"
        rows = sum(result.rows for result in self.results)
        yield f"{recordings}, {speed(rows, self.row_noun, self.took_s, self.real_time_factor)}"

    def error(self) -> UserError | None:
        """All failures as one error; None where there is none."""
        if not self.failures:
            return None
        count, of = len(self.failures), len(self.failures) + len(self.results)
        return UserError(
            f"{count} of {of} could not be predicted; the others are done",
            location=str(self.overview.parent),
            hint="\n".join(["", *(reason for _, reason in self.failures)]),
        )

    def document(self) -> dict[str, object]:
        """For the overview."""
        return {
            "real_time_factor": self.real_time_factor,
            "took_s": self.took_s,
            self.row_noun: sum(result.rows for result in self.results),
            "recordings": [
                {
                    "file": str(result.file),
                    "record": result.record,
                    "predictions": result.location.name,
                    self.row_noun: result.rows,
                    "valid": result.valid,
                    "recorded_s": result.recorded_s,
                    "in_data_of_run": result.side,
                    "auxiliary_lacking": list(result.lacking),
                }
                for result in self.results
            ],
            "failures": [{"recording": name, "reason": reason} for name, reason in self.failures],
        }


def predict_many(
    run: Path,
    recordings: Sequence[Path],
    to: Path,
    *,
    record: str | None = None,
    hop_s: float | None = None,
    gate: bool = True,
    smoothing: int = 1,
    track_s: float | None = None,
    uncertain_above: float | None = None,
    score_threshold: float | None = None,
    frame: int | None = None,
    spec: str | None = None,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    device: str | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> ManyPredicted:
    """Predictions of a fine-tuned run along many recordings, whose windows go through the model together.

    They are those that `predict` makes of each recording alone, to rounding of float32. A recording that cannot be predicted is
    among the failures of the result, and the others are not touched by it.

    Args:
        run: see `predict`.
        recordings: files, of which all recordings are meant, and folders, which are searched for HDF5 files and for files that the
            spec's `convert` section reads.
        to: folder, made if need be: a CSV and a picture for each recording, named after it, and `predictions.json` with an overview.
        record: the recording of this name in each file.
        hop_s: see `predict`.
        gate: see `predict`.
        smoothing: see `predict`.
        track_s: see `predict`.
        uncertain_above: see `predict`.
        score_threshold: see `predict`.
        frame: see `predict`.
        spec: see `predict`.
        overwrite: see `predict`.
        overrides: see `predict`.
        device: see `predict`.
        report: told a line of each recording.

    Raises:
        UserError: no such run, one that predicts nothing, a folder without recordings, or an overview that would be replaced.
    """
    opened_run = open_predicting(run, overrides, gate=gate)
    layout = load_spec(spec) if spec else opened_run.experiment.spec
    found = find_recording_files(recordings, layout)
    options = PredictOptions(smoothing, track_s, uncertain_above, score_threshold, frame=frame)
    results: list[PredictResult] = []
    failures: list[tuple[str, str]] = []

    def succeeded(result: PredictResult) -> None:
        results.append(result)
        report(f"{result.location}: {'; '.join(result.summary)}")

    def failed(file: Path, path: str, error: UserError | OSError) -> None:
        name = f"{file}:{path}" if path.strip("/") else str(file)
        shown = error if isinstance(error, UserError) else files.describe(error, file)
        text = " ".join([str(shown), *getattr(error, "__notes__", ())])
        failures.append((name, text if str(file) in text else f"{file}: {text}"))
        report(f"{name}: not predicted")

    settings = Settings(opened_run, layout, options, hop_s, overwrite, {file.resolve() for file in found})
    together = Together(settings, PredictionNames(to, found).place, succeeded=succeeded, failed=failed)
    if (to.suffix.lower() in together.output.endings or to.exists()) and not to.is_dir():
        raise UserError("a file for several recordings", location="--to", value=str(to), expected="a folder")
    to.mkdir(parents=True, exist_ok=True)
    check_place(to / OVERVIEW, "--to", (), overwrite=overwrite)
    together.run(found, record, device, every=True)
    many = ManyPredicted(to / OVERVIEW, results, failures, together.output.row_noun, together.took_s)
    document = {"run": str(run), "weights_sha256": opened_run.weights_sha256, **many.document()}
    files.write_text(many.overview, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return many
