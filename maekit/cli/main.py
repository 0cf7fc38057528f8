"""The command line: `maekit VERB ...`. Everything heavy is imported inside a command, so that help is instant."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from maekit.cli.console import Device, DryRun, RecipeArgument, Runs, Sets, err, out, print_facts, print_table
from maekit.cli.data import data_app
from maekit.cli.predict import predict
from maekit.cli.recipe import recipe_app
from maekit.cli.study import study, sweep
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.training.loop import Progress

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Pretrain masked autoencoders on radar maps, heart signals, spectrograms, images, or a modality of your own.",
)
app.add_typer(recipe_app, name="recipe")
app.add_typer(data_app, name="data")
app.command()(predict)

RunArgument = Annotated[Path, typer.Argument(help="Folder of a run, e.g. runs/heart_rate/demo_pretrain.")]
ResumeOption = Annotated[
    str, typer.Option("--resume", help="auto: go on from the newest checkpoint; never: refuse a folder with one.")
]
From = Annotated[str, typer.Option("--from", help="A pretraining run, a checkpoint, or `random`.")]


@app.callback()
def _global(
    plugin: Annotated[
        list[Path] | None, typer.Option(help="Python file that registers something; may be repeated.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say more.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    if plugin:
        from maekit import plugins

        for path in plugin:
            plugins.load_file(path)


@app.command()
def pretrain(
    recipe: RecipeArgument,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    device: Device = None,
    resume: ResumeOption = "auto",
    dry_run: DryRun = False,
) -> None:
    """Pretrain (or train a tokenizer) without labels, or go on where a run was interrupted; then write its report."""
    from maekit import api
    from maekit.build.prepare import recipe_without_labels

    if dry_run:
        _plan(recipe_without_labels(recipe, set_ or []), None, runs, device)
        return
    with _Bar() as bar:
        outcome = api.pretrain(
            recipe, overrides=set_ or [], runs=runs, device=device, resume=_resume(resume), watch=bar.update
        )
    _finish(outcome, device)


@app.command()
def finetune(
    recipe: RecipeArgument,
    from_: From,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    device: Device = None,
    resume: ResumeOption = "auto",
    dry_run: DryRun = False,
) -> None:
    """Train a labelled task from a pretrained encoder; then write its report."""
    from maekit import api
    from maekit.build.prepare import recipe_with_labels

    if dry_run:
        _plan(recipe_with_labels(recipe, set_ or []), from_, runs, device)
        return
    with _Bar() as bar:
        outcome = api.finetune(
            recipe, from_, overrides=set_ or [], runs=runs, device=device, resume=_resume(resume), watch=bar.update
        )
    _finish(outcome, device)


@app.command()
def probe(recipe: RecipeArgument, from_: From, set_: Sets = None, device: Device = None) -> None:
    """A linear model on frozen features, beside one on the raw input and a constant (RECIPE: the labelled task)."""
    from maekit.runs.probe import probe_table

    print_table(probe_table(recipe, from_, overrides=set_ or [], device=device))


app.command()(study)
app.command()(sweep)


@app.command()
def bench(
    recipe: RecipeArgument,
    set_: Sets = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each of loader, step and both.")] = 10.0,
    device: Device = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Random samples; also where there is no data.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(min=1, help="How many there would be, for the time of the whole.")
    ] = None,
    axis: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LENGTH", help="Points along an axis of random samples.")
    ] = None,
) -> None:
    """Samples a second of the loader, of the step and of both; memory; how much of the machine they use."""
    from maekit.profiling import bench as benches

    found = benches.bench(
        recipe,
        overrides=set_ or [],
        seconds=seconds,
        device=device,
        synthetic=synthetic,
        samples=samples,
        lengths=benches.read_lengths(axis or []),
    )
    if found.first:
        print_table(benches.table(found))
    print_facts(found.facts, "", found.first)


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test; by default test, validation without it.")
    ] = None,
    set_: Sets = None,
    device: Device = None,
) -> None:
    """Metrics of a run on one side of its split, as JSON."""
    from maekit import api

    metrics = api.evaluate(run, side=split, overrides=set_ or [], device=device)
    if _speaks():
        out.print_json(json.dumps(metrics))


@app.command()
def embed(
    run: RunArgument,
    output: Annotated[Path, typer.Argument(help="HDF5 file to write.")],
    pooling: Annotated[str, typer.Option(help="mean (of the patches) or class (token).")] = "mean",
    set_: Sets = None,
    device: Device = None,
) -> None:
    """Write the features of every sample to an HDF5 file; nothing is masked."""
    from maekit import api

    out.print(
        f"features in {escape(str(api.embed(run, output, pooling=pooling, overrides=set_ or [], device=device)))}"
    )


@app.command()
def reconstruct(
    run: RunArgument,
    output: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(min=1, help="How many samples.")] = 4,
    statistics: Annotated[
        str, typer.Option(help="How a normalised prediction is turned back: true (leaks) or neighbours.")
    ] = "neighbours",
    set_: Sets = None,
) -> None:
    """Draw original, masked and reconstructed samples of a pretraining run."""
    from maekit.runs.reconstruct import reconstruct as draw

    for path, caption in draw(run, output, count=count, statistics=statistics, overrides=set_ or []):
        out.print(escape(f"{path}: {caption}"))


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help=".pth, .pt, .bin or .safetensors of the MAE authors, timm or Hugging Face.")
    ],
    recipe: Annotated[str, typer.Option(help="The recipe whose model the weights are for.")],
    to: Annotated[Path, typer.Option(help="Run folder to make.")],
    layout: Annotated[str, typer.Option(help="auto, official, timm or huggingface.")] = "auto",
    key: Annotated[str | None, typer.Option(help="Where in the checkpoint the weights are, e.g. model_ema.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take what fits, initialise the rest.")] = False,
    set_: Sets = None,
) -> None:
    """A run folder from weights that somebody else trained; nothing in the file is executed."""
    from maekit.interop.import_export import import_weights

    for note in import_weights(file, recipe, to, layout=layout, key=key, partial=partial, overrides=set_ or []):
        out.print(escape(note))
    out.print(f"run: {escape(str(to))}")


@app.command("export")
def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option(help="File (for huggingface a folder) to write.")],
    format_: Annotated[
        str, typer.Option("--format", help="official, timm, huggingface, safetensors, onnx or torch_export.")
    ],
    set_: Sets = None,
) -> None:
    """A run's weights for other people's code; graphs are run once more and compared."""
    from maekit.interop.import_export import export_weights

    for note in export_weights(run, to, format_, overrides=set_ or []):
        out.print(escape(note))
    out.print(f"written: {escape(str(to))}")


@app.command()
def report(run: RunArgument, set_: Sets = None, device: Device = None) -> None:
    """Write (again) the report page of a run."""
    from maekit.runs.report import report as write

    out.print(f"report: {escape(str(write(run, overrides=set_ or [], device=device)))}")


@app.command()
def compare(
    run: RunArgument,
    finetuned: Annotated[Path | None, typer.Option(help="Of a pretraining run: the run fine-tuned from it.")] = None,
    linear: Annotated[
        Path | None, typer.Option(help="Of a pretraining run: the linear probe of it (tune: frozen).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Evaluate on this split now; by default the last validation counts.")
    ] = None,
    set_: Sets = None,
    device: Device = None,
) -> None:
    """A run beside the reference in its recipe. Exit code 1: worse, not finished, or not all measured."""
    from maekit.runs.compare import compare as put_beside

    result = put_beside(run, finetuned=finetuned, linear=linear, split=split, overrides=set_ or [], device=device)
    print_table(result.table)
    if not result.met:
        raise typer.Exit(1)


@app.command()
def demo(
    runs: Runs = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Seconds instead of minutes; numbers mean little.")] = False,
) -> None:
    """Simulated radar vital signs, end to end: pretrain, fine-tune with few labels, compare on people never seen."""
    from maekit.cli.demo import demo as run_demo

    table, page = run_demo(runs, quick=quick, tell=lambda s: err.print(escape(s)))
    print_table(table)
    out.print(f"report: {escape(str(page))}")


@app.command()
def doctor() -> None:
    """What this machine has: versions, devices, compilers, plug-ins."""
    import shutil

    import torch

    from maekit import plugins
    from maekit.training.environment import describe_environment

    facts = describe_environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    facts["bfloat16"] = (
        "yes" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no (float32 is used)"
    )
    facts["C++ compiler"] = shutil.which("c++") or "none: training.compile falls back"
    for kind in ("adapters", "encoders", "maskings", "targets", "tasks"):
        facts[kind] = ", ".join(plugins.names(kind))  # type: ignore[arg-type]
    for name, value in facts.items():
        out.print(f"{name:14}{escape(value)}")


def main() -> None:
    """Entry point. Exit codes: 0; 1 a comparison that fails; 2 what the person can mend; 3 not finite; 130 Ctrl-C; 143 SIGTERM."""
    try:
        app()
    except UserError as error:
        err.print(f"[red]error[/] {escape(str(error))}")
        sys.exit(2)
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        err.print(escape(str(error)))
        sys.exit(code)


def _resume(value: str) -> Any:
    if value not in ("auto", "never"):
        raise UserError("no such way to resume", location="--resume", value=value, expected="auto or never")
    return value


def _finish(outcome: Any, device: str | None) -> None:
    from maekit.runs.report import report as write

    if outcome.first:
        out.print(f"run: {escape(str(outcome.folder))}")
        out.print(f"report: {escape(str(write(outcome.folder, device=device)))}")


def _plan(loaded: Any, start: str | None, runs: Path, device: str | None) -> None:
    from maekit.profiling.dry_run import dry_run

    found = dry_run(loaded, start, runs=runs, device=device)
    print_facts(found.facts, found.title, found.first)


def _speaks() -> bool:
    """Whether this is the one of torchrun's processes that tells people anything."""
    return os.environ.get("RANK", "0") == "0"


class _Bar:
    """Progress with loss, rate and time to go; lines instead of a bar where nobody watches."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=not (err.is_terminal and _speaks()),
        )
        self.task = self.progress.add_task("starting", total=None)

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def update(self, step: Progress) -> None:
        if not _speaks():
            return
        row = step.row
        text = f"epoch {step.epoch:.2f}  loss {row['loss']:.4f}"
        for name, label in (("loss_mean_patch", "mean patch"), ("loss_interpolation", "interpolation")):
            if name in row:
                text += f"  {label} {row[name]:.4f}"
        if "samples_per_s" in row:
            text += f"  {row['samples_per_s']:.0f} samples/s"
        if err.is_terminal:
            self.progress.update(self.task, total=step.steps, completed=step.step, description=text)
        elif row["kind"] == "validation":
            err.print(f"step {step.step}/{step.steps}  validation {text}")
