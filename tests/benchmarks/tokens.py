"""What does padding cost that is not computed, and how does memory grow with the number of tokens?

    PYTHONPATH=tests python -m benchmarks.tokens [--rounds 9] [--memory]

Forward and backward passes of fine-tuning and pretraining, with unmeasured patches left out of the blocks as in every run, beside
the same with all of them computed. Both take turns in one process on one thread, and the time is the thread's own on the
processor. Rows of a batch have 20 to 100 % valid patches, evenly spread, or all of them half.

`--memory`: peak memory of a pass over one sample of 1,000 to 30,000 tokens on the CPU, less what the process needs without
it; a process each.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.rows import Row
from maekit.adapter.front import Front
from maekit.core import Encoder, GridPatchifier, MaskedAutoencoder, RandomMasking, TransformerConfig
from maekit.core.transformer import TransformerBlocks
from maekit.tasks.classification import Classification
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.task import Task
from maekit.training.device import fast_float32_matmul, keep_freed_memory

CPU = torch.device("cpu")
PATCH = 16
SIZES = {
    "4 x 64, 128 tokens": (TransformerConfig(64, 4, 4), 128),
    "4 x 192, 200 tokens": (TransformerConfig(192, 4, 3), 200),
}
BATCH = 16


def rows(rounds: int = 9) -> list[Row]:
    """Measure on one thread."""
    torch.set_num_threads(1)
    keep_freed_memory(CPU)  # as in every run
    found = []
    for size, (config, patches) in SIZES.items():
        shares = {"20 to 100 % valid": torch.linspace(0.2, 1, BATCH), "half valid": torch.full((BATCH,), 0.5)}
        for kind, share in shares.items():
            valid = torch.arange(patches) < (share[:, None] * patches).round()
            for name, task in tasks(config, patches).items():
                times = alternate(task, batch_of(valid), rounds)
                ratio = statistics.median(mine / padded for mine, padded in times)
                mine = 1000 * statistics.median(one for one, _ in times)
                found.append(Row(f"tokens: {name}, {size}, {kind}", mine, "ms", "all computed", ratio))
    return found


def tasks(config: TransformerConfig, patches: int) -> dict[str, Task]:
    """A task of each kind, half of whose patches are masked where it masks."""
    patchifier = GridPatchifier((1, PATCH * patches), (PATCH,), ("time",))
    autoencoder = MaskedAutoencoder(
        patchifier,
        encoder=config,
        decoder=TransformerConfig(config.width, 2, config.heads),
        masking=RandomMasking(patchifier),
        mask_ratio=0.5,
    )
    fine = Classification(Front(patchifier), Encoder(patchifier, config), classes=("a", "b"))
    return {"fine-tuning": fine, "pretraining": Pretraining(Front(patchifier), autoencoder)}


def batch_of(valid: Tensor) -> dict[str, Tensor]:
    """A batch with these valid patches."""
    count, patches = valid.shape
    return {
        "signal": torch.randn(count, 1, PATCH * patches),
        "valid": valid.repeat_interleave(PATCH, 1),
        "noise": torch.rand(count, patches),
        "label": torch.zeros(count, dtype=torch.long),
        "index": torch.arange(count),
    }


def alternate(task: Task, batch: dict[str, Tensor], rounds: int) -> list[tuple[float, float]]:
    """Seconds of a pass, and of one in which all patches are computed, in turns; the first round warms up."""
    blocks = [module for module in task.modules() if isinstance(module, TransformerBlocks)]
    times = []
    with fast_float32_matmul(CPU):
        for _ in range(rounds + 1):
            pair = []
            for update_all in (False, True):
                for stack in blocks:
                    stack.update_all = update_all
                began = time.thread_time()
                task(batch).loss.backward()
                pair.append(time.thread_time() - began)
                task.zero_grad()
            times.append((pair[0], pair[1]))
    return times[1:]


def memory_rows() -> list[Row]:
    """Peak memory of fine-tuning passes, in processes of their own; the ratio is of the bytes a token at 1,000."""
    found = []
    for gaps in (False, True):
        one = 0.0
        for patches in (1_000, 10_000, 30_000):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.tokens", "--pass", str(patches), *(["--gaps"] if gaps else [])],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            megabytes = float(done.stdout)
            one = one or megabytes / patches
            name = f"memory: {patches:,} tokens of width 32, {'a third unmeasured' if gaps else 'all measured'}"
            found.append(Row(name, megabytes, "MB", "1,000 tokens, per token", megabytes / patches / one))
    return found


def pass_memory(patches: int, *, gaps: bool) -> float:
    """MB that a pass over one sample adds to the peak of this process."""
    torch.set_num_threads(1)
    valid = torch.ones(1, patches, dtype=torch.bool)
    if gaps:
        valid[:, ::3] = False
    small, large = (tasks(TransformerConfig(32, 2, 2), count)["fine-tuning"] for count in (300, patches))
    batch = batch_of(valid)
    small(batch_of(torch.ones(1, 300, dtype=torch.bool))).loss.backward()
    before = peak_mb()
    large(batch).loss.backward()
    return peak_mb() - before


def peak_mb() -> float:
    """Peak memory of this process; on Linux without that of the process that started it, which `getrusage` counts too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--pass", dest="patches", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--gaps", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.patches:
        print(pass_memory(options.patches, gaps=options.gaps))
        return
    for row in memory_rows() if options.memory else rows(options.rounds):
        print(row)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
