"""Weights from and for other people's code: `maekit import` and `maekit export`. Everything heavy is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maekit.cli.console import RunArgument, Sets, show


def import_weights(
    file: Annotated[
        Path, typer.Argument(help=".pth, .pt, .bin or .safetensors of the MAE authors, timm or Hugging Face.")
    ],
    recipe: Annotated[str, typer.Option(help="The recipe whose model the weights are for.")],
    to: Annotated[Path, typer.Option(help="Run folder to make.")],
    layout: Annotated[str, typer.Option(help="auto, official, timm or huggingface.")] = "auto",
    key: Annotated[str | None, typer.Option(help="Where the weights are, e.g. model_ema or teacher.backbone.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take what fits and initialise the rest.")] = False,
    set_: Sets = None,
) -> None:
    """Make a run folder from weights that somebody else trained; nothing in the file is executed."""
    from maekit.interop import weight_import

    notes = weight_import.import_weights(
        file, recipe, to, layout=layout, key=key, partial=partial, overrides=set_ or []
    )
    for note in notes:
        show(note)
    show(f"run: {to}")


def export_weights(
    run: RunArgument,
    to: Annotated[Path, typer.Option(help="File to write; for huggingface, a folder.")],
    format_: Annotated[
        str, typer.Option("--format", help="official, timm, huggingface, safetensors, onnx or torch_export.")
    ],
    set_: Sets = None,
) -> None:
    """Write a run's weights for other people's code; exported graphs are run once and compared."""
    from maekit.interop import weight_export

    for note in weight_export.export_weights(run, to, format_, overrides=set_ or []):
        show(note)
    show(f"written: {to}")
