"""Verbs about this machine: `maekit bench` and `maekit doctor`. Everything heavy is imported inside a command."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from maekit.cli.console import Axes, Device, RecipeArgument, Sets, out, print_facts, print_table, read_lengths


def bench(
    recipe: RecipeArgument,
    set_: Sets = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each of loader, step and both.")] = 10.0,
    device: Device = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Use random samples, which is also done without data.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Size of the data set, to estimate the time of the whole training.")
    ] = None,
    axis: Axes = None,
) -> None:
    """Measure samples per second of the loader, of the step and of both, memory, and the share of the machine in use."""
    from maekit.profiling import bench as benches

    result = benches.bench(
        recipe,
        overrides=set_ or [],
        seconds=seconds,
        device=device,
        synthetic=synthetic,
        samples=samples,
        lengths=read_lengths(axis or []),
    )
    if result.first:
        print_table(benches.table(result))
    print_facts(result.facts, "", result.first)


def doctor() -> None:
    """List what this machine has: versions, devices, compilers, plug-ins."""
    import shutil

    import torch

    from maekit import plugins
    from maekit.training.environment import describe_environment

    cuda = torch.cuda.is_available()
    facts = describe_environment(torch.device("cuda" if cuda else "cpu"))
    facts["bfloat16"] = "yes" if cuda and torch.cuda.is_bf16_supported() else "no (float32 is used)"
    facts["C++ compiler"] = shutil.which("c++") or "none: training.compile falls back"
    for kind in plugins.KINDS:
        facts[kind] = ", ".join(plugins.names(kind))
    for name, value in facts.items():
        out.print(f"{name:14}{escape(value)}")
