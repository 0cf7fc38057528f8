"""The whole of maekit in a few minutes, on simulated radar vital signs; every number is measured as it runs."""

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
    """Simulate a cohort, pretrain, fine-tune with few labels, compare on people never seen.

    Runs that were finished before are taken as they are, so a second call answers at once.

    Args:
        runs: folder for recordings, runs and report.
        quick: a small cohort and few epochs, to see that everything works.
        tell: called with a line before every part.

    Returns:
        The comparison, and the report page.
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
    tell("4/4  comparing on people that nothing was trained on")
    experiment = build_experiment(load_recipe(FINETUNE, common), fit=False)
    test, kind = experiment.split["test"], label_kind_of(experiment)
    for label, values in kind.without_learning(experiment).items():
        scores[label] = kind.score(values, kind.truth(experiment, test))
    columns = ["mae", "rmse", "within", "r"]
    rows = [[label, *(cell(found[c]) for c in columns)] for label, found in scores.items()]
    people = len(set(experiment.source.groups[test].tolist()))
    table = Table(
        "Heart rate from simulated radar, people never seen in training",
        ["", "MAE [bpm]", "RMSE [bpm]", "share within 5 bpm", "Pearson r"],
        rows,
        f"{len(test)} windows of 10 s from {people} people; one seed, simulated data: see the recipes for studies on real "
        "recordings. The spectral peak needs no training, and wins on signals as clean as many of these.",
    )
    return table, report(base, extra=[table])
