"""What an H100 and an H200 make of every shipped recipe at best: fills the table of docs/gpus.md, without a GPU.

    PYTHONPATH=tests python tests/benchmarks/gpu_bounds.py [NAME ...]

Recipes whose steps are the same share a row. A name or the beginning of one keeps the other rows as they are on the page.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from recipe_stand_ins import stand_in_task

from maekit.config.load import load_recipe
from maekit.config.schema import Recipe
from maekit.config.shipped import shipped_recipes
from maekit.profiling.gpu_step import GPUStep, gpu_steps
from maekit.profiling.gpus import GPUS
from maekit.profiling.workload import Workload
from maekit.report.quantities import duration, operations, size
from maekit.training.distributed import Process

PAGE = Path(__file__).parents[2] / "docs" / "gpus.md"
BEGIN, END = "<!-- tests/benchmarks/gpu_bounds.py: begin -->\n", "<!-- end -->"
HEAD = (
    "| recipe | weights | batch: at once | memory | most at once: H100 / H200 | operations | limit | step, at least: H100 / H200 |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
LEFT_OUT = ("ablations", "partial")
"""Folders of recipes that change one thing in another recipe."""
COUNTS = ("batch_size", "micro_batch", "gradient_accumulation_steps", "ema", "activation_checkpointing", "precision")


def step_of(recipe: Recipe) -> str:
    """Everything of a recipe that a step depends on."""
    whole = recipe.model_dump(mode="json")
    data = {name: whole["data"][name] for name in ("spec", "window")}
    training = {name: whole["training"][name] for name in COUNTS}
    parts = {name: whole[name] for name in ("adapter", "auxiliary", "model", "task")}
    return json.dumps([data, training, parts, whole["optimizer"]["name"]])


def row(names: list[str]) -> str:
    """Estimate the step of recipes that share it."""
    recipe = load_recipe(names[0]).recipe
    workload = Workload(recipe, recipe.training.batch_size, 0, 1)
    with TemporaryDirectory() as folder:
        task, batch = stand_in_task(names[0], Path(folder), full_size=True)
    h100, h200 = gpu_steps([*GPUS.values()], task, batch, workload, Process(0, 1, torch.device("cuda")))
    return (
        f"| {', '.join(f'`{name}`' for name in names)} | {size(h100.memory.weights)} | {recipe.training.batch_size:,}: "
        f"{workload.micro_batch:,} | {_memory(h100, h200)} | {h100.largest:,} / {h200.largest:,} | "
        f"{operations(h100.flops)} | {h100.bound.limit} | "
        f"{duration(h100.bound.seconds)} / {duration(h200.bound.seconds)} |\n"
    )


def _memory(h100: GPUStep, h200: GPUStep) -> str:
    if h100.fits:
        return size(h100.memory.total)
    return f"{size(h100.memory.total)}: {'H200 only' if h200.fits else 'does not fit'}"


def main() -> None:
    """Compute the rows that were asked for, and write the table into the page after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[""])
    options = parser.parse_args()
    torch.set_num_threads(1)
    groups: dict[str, list[str]] = {}
    for name in shipped_recipes():
        if not set(name.split("/")) & set(LEFT_OUT):
            groups.setdefault(step_of(load_recipe(name).recipe), []).append(name)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    rows = {line.split("`")[1]: line for line in old.splitlines(keepends=True) if line.startswith("| `")}
    for names in groups.values():
        if names[0].startswith(tuple(options.names)):
            rows[names[0]] = row(names)
            print(rows[names[0]], end="", flush=True)
            table = "".join(rows[group[0]] for group in groups.values() if group[0] in rows)
            PAGE.write_text(f"{before}{BEGIN}{HEAD}{table}{END}{after}")


if __name__ == "__main__":
    main()
