"""The demo: pretraining, fine-tuning and comparison on simulated radar vital signs, in a few minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from maekit import plugins
from maekit.build.experiment import build_experiment
from maekit.build.parts import label_kind_of
from maekit.build.prepare import RANDOM
from maekit.config.load import load_recipe
from maekit.report.content import Table, cell
from maekit.runs.evaluate import evaluate
from maekit.runs.report import report
from maekit.runs.train import finetune, pretrain

PRETRAIN, FINETUNE = "heart_rate/demo_pretrain", "heart_rate/demo_finetune"


def demo(runs: Path, *, quick: bool = False, tell: Callable[[str], None] = lambda _line: None) -> tuple[Table, Path]:
    """Simulate a cohort, pretrain, fine-tune with few labels, and compare on people not seen in training.

    Finished runs in `runs` are reused, so a second call returns at once.

    Args:
        runs: folder for recordings, runs and report.
        quick: use a small cohort and few epochs, as a check of the installation.
        tell: called with one line of progress before each part.

    Returns:
        The comparison table, and the path of the report page.
    """
    size = {"people": 14, "seconds": 60.0} if quick else {"people": 40, "seconds": 180.0}
    name = "quick" if quick else "full"
    cohort = runs / f"recordings_{name}"
    tell(f"1/4  simulating {size['people']} people before an FMCW radar, {size['seconds']:g} s each")
    spec = cohort / "simulated_vital_signs.yaml"
    if not spec.exists():
        plugins.find("adapters", "heart_rate").simulate(cohort, seed=0, **size)
    common = [f"data.root={cohort}"]
    short = [
        "schedule.epochs=2",
        "schedule.warmup_epochs=1",
        "data.window={seconds: 10, hop_seconds: 5}",
        "training.batch_size=16",
    ]
    common += short if quick else []
    tell("2/4  pretraining without labels")
    base = pretrain(PRETRAIN, overrides=[*common, f"name=pretrain_{name}"], runs=runs).folder
    tell("3/4  fine-tuning heart rate with the labels of four people, from the pretrained and from random weights")
    starts: dict[str, str | Path] = {"pretrained": base, "from scratch": RANDOM}
    scores: dict[str, dict[str, float]] = {}
    for label, start in starts.items():
        overrides = [*common, f"name=finetune_{name}_{label.replace(' ', '_')}"]
        tuned = finetune(FINETUNE, start, overrides=overrides, runs=runs).folder
        scores[label] = evaluate(tuned)
    tell("4/4  comparing on people not seen in training")
    experiment = build_experiment(load_recipe(FINETUNE, common), fit=False)
    test, kind = experiment.split["test"], label_kind_of(experiment)
    for label, values in kind.without_learning(experiment).items():
        scores[label] = kind.score(values, kind.truth(experiment, test))
    columns = ["mae", "rmse", "within", "r"]
    rows = [[label, *(cell(metrics[name]) for name in columns)] for label, metrics in scores.items()]
    people = len(set(experiment.source.groups[test].tolist()))
    table = Table(
        "Heart rate from simulated radar, people not seen in training",
        ["", "MAE [bpm]", "RMSE [bpm]", "share within 5 bpm", "Pearson r"],
        rows,
        f"{len(test)} windows of 10 s from {people} people; one seed, simulated data: the recipes "
        "describe studies on real recordings. The estimators without training are hard to beat on signals this clean.",
    )
    return table, report(base, extra=[table])
