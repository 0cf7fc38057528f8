"""`maekit predict`: a trained estimator along a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maekit.cli.console import Sets, show


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a fine-tuned run, e.g. runs/heart_rate/demo_finetune.")],
    file: Annotated[
        Path, typer.Argument(help="A recording: HDF5, or a file that the conversion rules of the run's data spec read.")
    ],
    to: Annotated[
        Path | None,
        typer.Option(help="CSV, JSON or HDF5 (of objects CSV or JSON) to write; by default named after the recording."),
    ] = None,
    record: Annotated[str | None, typer.Option(help="Which recording of the file, where there are several.")] = None,
    hop: Annotated[
        float | None,
        typer.Option(min=1e-3, help="Seconds from estimate to estimate; by default 1, of objects every frame."),
    ] = None,
    smoothing: Annotated[int, typer.Option(min=1, help="Median over so many estimates, an odd number.")] = 1,
    track: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="Follow the value along the recording, with what comes until so much later."
        ),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="No estimate where the signal is poorer than in training.")
    ] = True,
    uncertain_above: Annotated[
        float | None, typer.Option(min=0, help="No estimate that is more uncertain than this, in the label's unit.")
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(min=0, help="Of objects: the score of what is written, from 0 to below 1, by default 0.3."),
    ] = None,
    picture: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Of objects: PNG or SVG of one frame, GIF of all; may be given again."),
    ] = None,
    frame: Annotated[
        int | None, typer.Option(min=0, help="Which frame PNG and SVG show; by default the one with the most objects.")
    ] = None,
    spec: Annotated[
        str | None, typer.Option(help="Data spec (name or file) of a recording laid out otherwise than the run's data.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    set_: Sets = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU where there is one.")] = None,
) -> None:
    """Predict along a recording with a fine-tuned run.

    Each estimate has its time, its uncertainty and whether it can be trusted. A detection run gives the objects of every frame with
    their places and scores.
    """
    from maekit.inference.predict import predict as run_along

    found = run_along(
        run,
        file,
        to,
        record=record,
        hop_s=hop,
        smoothing=smoothing,
        track_s=track,
        gate=gate,
        uncertain_above=uncertain_above,
        score_threshold=score_threshold,
        pictures=picture or [],
        frame=frame,
        spec=spec,
        overwrite=overwrite,
        overrides=set_ or [],
        device=device,
    )
    for line in found.lines():
        show(line)
