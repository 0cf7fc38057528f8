"""How long does it take until something happens, beside the imports that it cannot do without?

    PYTHONPATH=tests python -m benchmarks.startup [--rounds 5]

Each in a process of its own, in turn in each round: `import torch`; the public functions; `maekit --help` beside the import of the
libraries of a command line; and a pretraining of ten small steps with its report.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rows import Row
from maekit.adapters.simulate.vital_signs import simulate_vital_signs

RECIPE = """\
name: small
adapter: {name: heart_rate, patch_s: 1.0, rate_hz: 10, difference: true}
data:
  spec: simulated_vital_signs
  root: ROOT
  window: {axis: time, seconds: 10, hop_seconds: 5}
  split: {validation: [p000], test: [p001]}
model: {encoder: {width: 16, depth: 2, heads: 2}, decoder: {width: 8, depth: 1, heads: 2}, mask_ratio: 0.5}
schedule: {epochs: 2, warmup_epochs: 1}
training: {batch_size: 4}
"""


def small_recipe(folder: Path) -> Path:
    """A recipe file over simulated recordings; ten steps."""
    simulate_vital_signs(folder / "data", people=6, seconds=30, seed=1)
    recipe = folder / "small.yaml"
    recipe.write_text(RECIPE.replace("ROOT", str(folder / "data")))
    return recipe


def rows(rounds: int = 5) -> list[Row]:
    """Seconds of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe, runs = small_recipe(folder), folder / "runs"
        commands = {
            "import torch": ["-c", "import torch"],
            "import": ["-c", "from maekit import *"],
            "imports of a command line": ["-c", "import typer, rich.console, rich.table"],
            "help": ["-m", "maekit", "--help"],
            "run": ["-m", "maekit", "pretrain", str(recipe), "--runs", str(runs), "--device", "cpu"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(rounds + 1):
            for name, command in commands.items():
                shutil.rmtree(runs, ignore_errors=True)
                began = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=folder)
                if turn:
                    times[name].append(time.perf_counter() - began)

    def row(name: str, which: str, peer: str) -> Row:
        ratio = statistics.median(own / its for own, its in zip(times[which], times[peer], strict=True))
        return Row(f"startup: {name}", statistics.median(times[which]), "s", peer, ratio)

    return [
        row("import of the public functions", "import", "import torch"),
        row("maekit --help", "help", "imports of a command line"),
        row("pretraining of ten small steps, with report", "run", "import torch"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    for row in rows(parser.parse_args().rounds):
        print(row)


if __name__ == "__main__":
    main()
