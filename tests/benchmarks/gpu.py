"""Training steps of the image baseline on this GPU: fills the table of recipes/image/README.md.

    python tests/benchmarks/gpu.py [--models base large huge] [--batches 128 256 512] [--peak h100] [--device cuda]

Each step is that of the recipe (forward, backward, optimizer) in bfloat16, eager and compiled, on random pictures that are on
the GPU already. Beside its time stand the operations of its matrix products over those of the data sheet and over those of
the fastest product on this GPU, and the memory that was measured over that of the estimate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from maekit.build.random_experiment import random_experiment
from maekit.build.tasks import make_task
from maekit.config.load import load_recipe
from maekit.data.loading import to_device
from maekit.profiling.device_limits import device_name, peak_matmul_rate, peak_memory
from maekit.profiling.gpus import GPUS
from maekit.profiling.memory_estimate import product_flops, step_memory
from maekit.profiling.step_timing import time_step
from maekit.profiling.trial import example_batch, repeat_samples
from maekit.report.quantities import size
from maekit.training.distributed import Process, init_distributed
from maekit.training.step import TrainStep

PAGE = Path(__file__).parents[2] / "recipes" / "image" / "README.md"
BEGIN, END = "<!-- tests/benchmarks/gpu.py: begin -->\n", "<!-- end -->"
HEAD = (
    "| model | batch | | step | samples/s | of the data sheet's FLOP/s | of a matrix product | memory | of the estimate |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def row(model: str, batch: int, compiled: bool, process: Process, options: argparse.Namespace) -> str:
    """Time one step; what does not fit is said."""
    name = f"| ViT-{model[0].upper()} | {batch} | {'compiled' if compiled else 'eager'} | "
    loaded = load_recipe(
        f"image/imagenet/pretrain_{model}_1600",
        [
            f"training.batch_size={batch}",
            "training.micro_batch=null",
            "training.precision=bfloat16",
            f"training.compile={str(compiled).lower()}",
            *options.set,
        ],
    )
    experiment = random_experiment(loaded, batch, {})
    task = make_task(experiment)
    examples = example_batch(experiment.some_samples("train"))
    flops, estimate = product_flops(task, examples), step_memory(task, examples, batch, loaded.recipe, process)
    cuda = process.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        step = TrainStep(task.to(process.device), loaded.recipe, process)
        timing = time_step(step, to_device(repeat_samples(examples, batch), process.device), options.seconds)
    except torch.OutOfMemoryError:
        return f"{name}does not fit | | | | | {size(estimate.total)} estimated |\n"
    seconds, peak = timing.step(batch), peak_memory(process.device).get("tensors")
    rate = batch * flops / seconds
    memory = "| " if peak is None else f"{size(peak)} | {peak / estimate.total:.2f}"
    return (
        f"{name}{1000 * seconds:.1f} ms | {batch / seconds:,.0f} | {100 * rate / GPUS[options.peak].bfloat16:.1f} % | "
        f"{100 * rate / peak_matmul_rate(step):.1f} % | {memory} |\n"
    )


def main() -> None:
    """Measure every row, print the table, and write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("base", "large", "huge"), default=["base", "large", "huge"])
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--peak", choices=[*GPUS], default="h100", help="data sheet to compare with")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row")
    parser.add_argument("--set", nargs="*", default=[], help="of the recipe, KEY=VALUE")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--print-only", action="store_true", help="leave the page as it is")
    options = parser.parse_args()
    with init_distributed(options.device) as process:
        table = f"{device_name(process.device)}, bfloat16, torch {torch.__version__}:\n\n{HEAD}"
        print(table, end="", flush=True)
        for model in options.models:
            for batch in options.batches:
                for compiled in (False, True):
                    line = row(model, batch, compiled, process, options)
                    table += line
                    print(line, end="", flush=True)
    if not options.print_only:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
