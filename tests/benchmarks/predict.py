"""How fast is prediction along recordings, beside the model alone?

    PYTHONPATH=tests python -m benchmarks.predict [--rounds 5]

Twelve simulated recordings of two minutes, an estimate a second, by a network of the size of `heart_rate/demo_finetune`; on one thread, in
turn in each round:

- `predict_many` on all, without and with the opening of the run;
- the model alone, on batches that are ready;
- `predict` of one recording after another;
- `Predictor`, which gets one of them in pieces of a second.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import h5py
import torch

from benchmarks.rows import Row
from maekit import Predictor, finetune, predict, predict_many
from maekit.adapters.simulate.vital_signs import simulate_vital_signs
from maekit.inference.predicting_run import open_predicting

PEOPLE, SECONDS, BATCH = 12, 120, 64


def rows(rounds: int = 5) -> list[Row]:
    """Windows and recordings a second."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate_vital_signs(folder / "data", people=PEOPLE, seconds=SECONDS, seed=1)
        overrides = [f"data.root={folder / 'data'}", "schedule.epochs=1", "schedule.warmup_epochs=0", "init=null"]
        run = finetune("heart_rate/demo_finetune", "random", overrides=overrides, runs=folder / "runs").folder
        file = folder / "data" / "vital_signs.h5"
        with h5py.File(file) as opened:
            records = list(opened)
            samples = opened[records[0]]["displacement"][()]
        found: list[dict[str, float]] = []
        for turn in range(rounds + 1):
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            began = time.perf_counter()
            many = predict_many(run, [file], out / "many")
            opening_too = time.perf_counter() - began
            windows = sum(result.rows for result in many.results)
            began = time.perf_counter()
            for record in records:
                predict(run, file, out / f"{record}.csv", record=record)
            one_by_one = time.perf_counter() - began
            seconds = {
                "many": many.took_s / windows,
                "many, opening too": opening_too / PEOPLE,
                "one by one": one_by_one / PEOPLE,
                "model": model_alone(run, windows) / windows,
                "pushed": pushed(run, samples) / (SECONDS - 9),
            }
            if turn:
                found.append(seconds)

    def row(name: str, which: str, unit: str, peer: str, of: str) -> Row:
        value = 1 / statistics.median(seconds[which] for seconds in found)
        return Row(f"predict: {name}", value, unit, peer, statistics.median(s[of] / s[which] for s in found))

    return [
        row("windows of many recordings", "many", "windows/s", "the model alone", "model"),
        row("many recordings, opening the run too", "many, opening too", "recordings/s", "one by one", "one by one"),
        row("Predictor, pieces of a second", "pushed", "windows/s", "the model alone on batches", "model"),
    ]


def model_alone(run: Path, windows: int) -> float:
    """Seconds for so many windows, in batches."""
    opened = open_predicting(run)
    task, adapter = opened.task.eval(), opened.experiment.adapter
    shape = (BATCH, len(opened.stats.signal.channels), *adapter.patchifier.sample_shape[1:])
    batch = {
        "signal": torch.randn(shape),
        "noise": torch.zeros(BATCH, 0),
        "index": torch.zeros(BATCH, dtype=torch.int64),
    }
    with torch.inference_mode():
        task.eval_step(batch)
        began = time.perf_counter()
        for _ in range(windows // BATCH):
            task.eval_step(batch)
    return (time.perf_counter() - began) * windows / (windows // BATCH * BATCH)


def pushed(run: Path, samples: object) -> float:
    """Seconds that a stream of samples takes."""
    predictor = Predictor(run)
    rate, took = round(predictor.rate_hz), 0.0
    for start in range(0, SECONDS * rate, rate):
        predictor.push(samples[start : start + rate])  # type: ignore[index]
        took += predictor.compute_s
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    for row in rows(parser.parse_args().rounds):
        print(row)


if __name__ == "__main__":
    main()
