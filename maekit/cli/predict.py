"""`maekit predict`: a trained estimator along recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maekit.cli.console import Sets, show
from maekit.errors import UserError


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a fine-tuned run, e.g. runs/heart_rate/demo_finetune.")],
    recordings: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings: HDF5, files that the conversion rules of the run's data spec read, or folders of these."
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            help="CSV, JSON or HDF5 (of objects CSV or JSON) to write, by default named after the recording; for all recordings of "
            "several files or of a folder or file a folder, by default `predictions`."
        ),
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
    """Predict along recordings with a fine-tuned run.

    Each estimate has its time, its uncertainty and whether it can be trusted. A detection run gives the objects of every frame with
    their places and scores. Of many recordings, those that cannot be predicted are named at the end.
    """
    from maekit.inference.predict import predict as run_along
    from maekit.inference.predict import predict_many

    options: dict[str, Any] = {
        "record": record,
        "hop_s": hop,
        "smoothing": smoothing,
        "track_s": track,
        "gate": gate,
        "uncertain_above": uncertain_above,
        "score_threshold": score_threshold,
        "frame": frame,
        "spec": spec,
        "overwrite": overwrite,
        "overrides": set_ or [],
        "device": device,
    }
    if len(recordings) == 1 and not recordings[0].is_dir() and not _is_folder(to):
        for line in run_along(run, recordings[0], to, pictures=picture or [], **options).lines():
            show(line)
        return
    if picture:
        raise UserError(
            "a picture of several recordings",
            location="--picture",
            value=str(picture[0]),
            expected="one recording",
            hint="Leave it out: a picture is drawn beside the predictions of each.",
        )
    found = predict_many(run, recordings, to or Path("predictions"), report=show, **options)
    for line in found.lines():
        show(line)
    if error := found.error():
        raise error


def _is_folder(to: Path | None) -> bool:
    """Whether a place to write to is a folder, or would be one."""
    return to is not None and (to.is_dir() or not to.suffix)
