"""What does a study take beyond the trainings that it is made of?

    PYTHONPATH=tests python -m benchmarks.study [--rounds 3]

A study of the small recipe of `startup.py`, 30 epochs, one seed, in one process: its seconds over those that its training loops took in it.
What is beyond: opening data, statistics, checkpoints, predictions, methods without learning, intervals and the page.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.rows import Row
from benchmarks.startup import small_recipe
from maekit import study
from maekit.training import loop


def rows(rounds: int = 3) -> list[Row]:
    """Seconds of a study."""
    torch.set_num_threads(1)
    found: list[tuple[float, float]] = []
    spent: list[float] = []
    train = loop.train

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return train(*arguments, **options)
        finally:
            spent.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as name, mock.patch.object(loop, "train", timed):
        folder = Path(name)
        small_recipe(folder)
        recipe = folder / "tuned.yaml"
        recipe.write_text("extends: small.yaml\nname: tuned\ntask: {name: regression}\ninit: {recipe: small.yaml}\n")
        longer = ["schedule.epochs=30", "init.schedule.epochs=30"]
        for turn in range(rounds + 1):
            spent.clear()
            shutil.rmtree(folder / "runs", ignore_errors=True)
            began = time.perf_counter()
            study(recipe, seeds=1, overrides=longer, runs=folder / "runs", device="cpu")
            if turn:
                found.append((time.perf_counter() - began, sum(spent)))
    value, ratio = statistics.median(whole for whole, _ in found), statistics.median(a / b for a, b in found)
    return [Row("study: one seed of a small recipe", value, "s", "its training loops", ratio)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    for row in rows(parser.parse_args().rounds):
        print(row)


if __name__ == "__main__":
    main()
