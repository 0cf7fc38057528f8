"""How fast is one training step, side by side with the peers?

    PYTHONPATH=tests python -m benchmarks.step [--model vit_small] [--batch 16] [--precision float32] [--rounds 15] [--device cpu]

Every contender lives in a process of its own; steps are taken in turn, so that whatever else the machine does meets all
alike. Printed: the median of each and, round by round, its time over maekit's; how much of the machine's own matrix
product (measured in the same rounds) maekit's step reaches, by its model FLOPs.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import statistics
import time
from contextlib import nullcontext
from multiprocessing.connection import Connection

import torch

from benchmarks.contenders import CONTENDERS, Work, optimizer
from benchmarks.rows import Row

WORKS = {"image": ((3, 224, 224), (16, 16)), "signal": ((1, 1, 10_000), (1, 50)), "map": ((1, 256, 64), (16, 8))}
PRECISIONS = ("float32", "bfloat16")
MODELS = {"vit_tiny": (192, 12, 3), "vit_small": (384, 12, 6), "vit_base": (768, 12, 12), "vit_large": (1024, 24, 16)}


def contender(name: str, work: Work, options: argparse.Namespace, pipe: Connection) -> None:
    """One process: says what its step is worth, then takes a step for every message and says its seconds."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    from maekit.training.device import fast_float32_matmul, keep_freed_memory

    ours = name in ("maekit", "matrix")
    if ours:
        keep_freed_memory(device)
    with fast_float32_matmul(device) if ours else nullcontext():
        run = product(options, device) if name == "matrix" else step(name, work, options, device)
        if run is None:
            pipe.send(None)
            return
        flops, once = run
        for _ in range(2):
            once()
        pipe.send(flops)
        while pipe.recv():
            began = time.perf_counter()
            once()
            if device.type == "cuda":
                torch.cuda.synchronize()
            pipe.send(time.perf_counter() - began)


def step(name: str, work: Work, options: argparse.Namespace, device: torch.device):
    """FLOPs of a step, as published, and the step; None where the peer is not installed or cannot run that shape."""
    try:
        made = CONTENDERS[name](work)
    except ImportError:
        print(f"not installed: {name}")
        return None
    if made is None:
        return None
    model, loss = made
    model.to(device).train()
    update = optimizer(name, model.parameters())
    if options.compile:
        loss = torch.compile(loss)
    x = torch.randn(options.batch, *work.shape, device=device)
    precision = torch.autocast(device.type, torch.bfloat16) if options.precision == "bfloat16" else nullcontext()

    def once() -> None:
        with precision:
            value = loss(x)
        value.backward()
        update.step()
        update.zero_grad(set_to_none=True)

    return options.batch * work.flops, once


def product(options: argparse.Namespace, device: torch.device):
    """The matrix-product ceiling: the best of a few square products in the same precision."""
    dtype = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    side = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    return 8 * 2 * side**3, lambda: [torch.nn.functional.linear(a, b) for _ in range(8)]


def measure(options: argparse.Namespace) -> tuple[dict[str, float], dict[str, list[float]]]:
    """FLOPs of a step of each contender, and its seconds in each round."""
    work = Work(*WORKS[options.work], *MODELS[options.model])
    context = mp.get_context("spawn")
    pipes: dict[str, Connection] = {}
    flops: dict[str, float] = {}
    for name in ("matrix", *options.only):
        mine, its = context.Pipe()
        context.Process(target=contender, args=(name, work, options, its), daemon=True).start()
        counted = mine.recv()
        if counted is not None:
            pipes[name], flops[name] = mine, counted
    times: dict[str, list[float]] = {name: [] for name in pipes}
    for _ in range(options.rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            times[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    return flops, times


def rows() -> list[Row]:
    """A small step in both precisions."""
    return [row for precision in PRECISIONS for row in _rows("--batch", "4", "--precision", precision)]


def long_rows() -> list[Row]:
    """Steps of all sizes that `recipes/image/README.md` lists."""
    found = []
    for precision in PRECISIONS:
        for model in ("vit_small", "vit_base"):
            for batch in ("16", "32"):
                found += _rows("--model", model, "--batch", batch, "--precision", precision)
        for work in ("signal", "map"):
            found += _rows("--work", work, "--precision", precision)
    return found


def _rows(*arguments: str) -> list[Row]:
    """Steps of maekit over those of each peer, and its part of the matrix product."""
    options = parser().parse_args(["--rounds", "7", *arguments])
    flops, times = measure(options)
    name = f"step: {options.work}, {options.model}, batch {options.batch}, {options.precision}"
    rate = options.batch / statistics.median(times["maekit"])
    found = []
    for peer in flops:
        done = flops["maekit"] / flops["matrix"] if peer == "matrix" else 1.0
        ratio = done * statistics.median(its / own for own, its in zip(times["maekit"], times[peer], strict=True))
        if peer != "maekit":
            found.append(Row(name, rate, "samples/s", {"matrix": "matrix product"}.get(peer, peer), ratio))
    return found


def parser() -> argparse.ArgumentParser:
    """Options of one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=WORKS, default="image")
    parser.add_argument("--model", choices=MODELS, default="vit_small")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", nargs="*", default=[*CONTENDERS], choices=[*CONTENDERS])
    return parser


def main() -> None:
    """Measure, and say what came out."""
    options = parser().parse_args()
    flops, times = measure(options)
    ceiling = flops["matrix"] / statistics.median(times["matrix"])
    print(
        f"{options.work} {options.model} batch {options.batch} {options.precision} {options.device}, {options.threads} threads, "
        f"torch {torch.__version__}; matrix product {ceiling / 1e9:.0f} GFLOP/s"
    )
    for name in times:
        if name == "matrix":
            continue
        median = statistics.median(times[name])
        ratio = (
            statistics.median(b / a for a, b in zip(times["maekit"], times[name], strict=True))
            if "maekit" in times
            else 1.0
        )
        share = flops[name] / median / ceiling
        print(
            f"  {name:13} {1000 * median:8.1f} ms  {options.batch / median:7.1f} samples/s  {ratio:5.2f} x maekit's time  "
            f"{100 * share:5.1f} % of the matrix product"
        )


if __name__ == "__main__":
    main()
