"""Precision `auto`: decided by timing, recorded in the run, and kept when it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import pytest
import torch

from maekit.build.prepare import random_task
from maekit.config.load import load_recipe
from maekit.profiling.trial import example_batch
from maekit.runs.train import pretrain
from maekit.training import precision
from maekit.training.device import Precision
from maekit.training.distributed import Process
from maekit.training.run import Run

CPU = Process(0, 1, torch.device("cpu"))
AUTO = ["training.precision=auto"]


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in Run(folder).rows() if row["kind"] == "train"]


def timer(seconds: Sequence[float], timed: list[float]) -> Callable[..., float]:
    """In place of the clock: these durations one after the other, of calls that are made once."""

    def measure(call: Callable[[], None], *, give_up: float) -> float:
        del give_up
        call()
        timed.append(seconds[len(timed)])
        return timed[-1]

    return measure


@pytest.mark.parametrize(
    ("seconds", "expected", "measured"),
    [
        ([1, 30], "float32", 2),  # no units for bfloat16: the product decides alone
        ([1, 0.5, 1, 0.7], "bfloat16", 4),
        ([1, 0.5, 1, 0.95], "float32", 4),  # the rest of the step eats the gain
    ],
)
def test_timing_decides(
    seconds: Sequence[float], expected: str, measured: int, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products and steps in float32 and in bfloat16, in this order; nothing of the task changes."""
    timed: list[float] = []
    monkeypatch.setattr(precision, "_seconds", timer(seconds, timed))
    experiment, task = random_task(tiny, overrides=AUTO)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    random_state = torch.get_rng_state()
    batch = example_batch(experiment.some_samples("train"))
    decided = precision.resolve_precision(experiment.recipe, task, lambda: batch, CPU)
    assert (decided.training.precision, len(timed)) == (expected, measured)
    assert decided == experiment.recipe.model_copy(update={"training": decided.training})
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())
    assert all(p.grad is None for p in task.parameters())


def test_what_is_stated_or_recorded_is_not_timed(tiny: Path) -> None:
    """A run from before there were decisions recorded `auto`, and goes on with it."""
    experiment, task = random_task(tiny, overrides=AUTO)
    stated = load_recipe(tiny, ["training.precision=bfloat16"]).recipe
    assert precision.resolve_precision(stated, task, lambda: pytest.fail("timed"), CPU) == stated
    for recorded in get_args(Precision):
        recipe = precision.resolve_precision(
            experiment.recipe, task, lambda: pytest.fail("timed"), CPU, recorded=recorded
        )
        assert recipe.training.precision == recorded


def test_deciding_costs_less_than_a_second_where_bfloat16_is_slow(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that takes much longer is made twice and given up."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    calls = []

    def slow() -> None:
        calls.append(0)
        now[0] += 0.3

    assert precision._seconds(slow, give_up=0.005) == pytest.approx(0.3)
    assert len(calls) == 2
    assert precision._seconds(slow, give_up=1.0) == pytest.approx(0.3)
    assert len(calls) == 2 + 4  # until a second has passed


def test_a_run_records_its_precision_and_keeps_it(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast: list[float] = []
    monkeypatch.setattr(precision, "_seconds", timer([1, 0.5, 1, 0.5], fast))
    folder = pretrain(tiny, runs=tmp_path, overrides=AUTO).folder
    assert load_recipe(folder / "recipe.yaml").recipe.training.precision == "bfloat16"
    newest = max((folder / "checkpoints").iterdir())
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    # On another machine bfloat16 would be slow; the run goes on as it began, and nothing is timed.
    monkeypatch.setattr(precision, "_seconds", lambda call, give_up: pytest.fail("timed"))
    before = losses(folder)
    assert pretrain(tiny, runs=tmp_path, overrides=AUTO).folder == folder
    assert load_recipe(folder / "recipe.yaml").recipe.training.precision == "bfloat16"
    assert losses(folder) == before
    # The recorded precision may also be stated.
    pretrain(tiny, runs=tmp_path, overrides=["training.precision=bfloat16"])
