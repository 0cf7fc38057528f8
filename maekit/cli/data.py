"""`maekit data ...`: convert, pack, inspect, check and simulate recordings. Everything heavy is imported inside a command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from maekit.cli.console import Sets, VerbGroup, out, show, tell
from maekit.errors import UserError

data_app = typer.Typer(
    cls=VerbGroup, no_args_is_help=True, help="Convert, inspect and check recordings; simulate some."
)


@data_app.command("convert")
def data_convert(
    spec: Annotated[str, typer.Argument(help="A data spec: a YAML file, or the name of one that comes with maekit.")],
    from_: Annotated[Path, typer.Option("--from", help="Folder of the published files.")],
    to: Annotated[Path, typer.Option("--to", help="Folder for the HDF5 file.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a result that is there.")] = False,
) -> None:
    """CSV, NPY, NPZ, MAT, WAV, HDF5, raw int16, or folders of a file a frame, to HDF5, as a data spec says."""
    from maekit import plugins
    from maekit.config.data_spec import load_spec
    from maekit.data.convert.convert import convert

    found = load_spec(spec)
    rules = found.convert
    wanted = {rule.adapter for rule in rules.derived.values()} if rules else set()
    wanted |= {rule.through.adapter for rule in rules.streams.values() if rule.through} if rules else set()
    adapters = {name: plugins.find("adapters", name, location=spec) for name in wanted}
    result = convert(
        found,
        from_,
        to,
        overwrite=overwrite,
        tell=tell,
        derivations={name: adapter.derivations for name, adapter in adapters.items()},
        transformations={name: adapter.transformations for name, adapter in adapters.items()},
    )
    show(f"written: {result}")


@data_app.command("pack")
def data_pack(
    spec: Annotated[str, typer.Argument(help="A data spec: a YAML file, or the name of one that comes with maekit.")],
    root: Annotated[Path, typer.Option(help="Folder with the files.")],
    to: Annotated[Path, typer.Option("--to", help="New folder for the pack.")],
    form: Annotated[
        str | None,
        typer.Option(
            help="Of pictures; files (default): as they are; uint8: pixels, larger, without decoding in training."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Pixels that the shorter side is scaled down to, for uint8 (256).")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="How many HDF5 files for pictures; by default one for each GiB.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that read and decode pictures (8).")] = None,
) -> None:
    """Recordings in one piece each, many small pictures in a few large files: read fast with `--set data.root=PACK`; stopped, the same command goes on."""
    from maekit.config.data_spec import load_spec
    from maekit.data.hdf5.pack import pack_recordings
    from maekit.data.images.pack import pack

    found = load_spec(spec)
    options = {"form": form, "size": size, "shards": shards, "workers": workers}
    given = {name: value for name, value in options.items() if value is not None}
    if found.kind != "image_folder":
        if given:
            raise UserError(
                "an option of pictures, and the data spec is of recordings",
                location=f"--{next(iter(given))}",
                hint="Leave it out.",
            )
        packed = pack_recordings(found, root, to, tell=tell)
        show(f"packed: {packed.files} files, {packed.bytes / 2**20:.1f} MiB in {packed.folder}")
        return
    if form not in ("files", "uint8", None):
        raise UserError("no such form", location="--form", value=form, expected="files or uint8")
    done = pack(found, root, to, tell=tell, **given)  # type: ignore[arg-type]
    if done.unreadable:
        tell(f"{len(done.unreadable)} could not be read, {done.unreadable[0]} first; pack.json lists them")
    show(f"packed: {done.samples} pictures in {done.folder}")


@data_app.command("inspect")
def data_inspect(
    file: Annotated[Path, typer.Argument(help="A file of any format that conversion reads, or a folder of files.")],
) -> None:
    """The tree of a file: shapes, rates, missing share, ranges."""
    from maekit.data.inspect import inspect
    from maekit.data.inspect_folder import inspect_folder

    for line in inspect_folder(file) if file.is_dir() else inspect(file):
        show(line)


@data_app.command("check")
def data_check(
    spec: Annotated[str, typer.Argument(help="A data spec: a YAML file, or the name of one that comes with maekit.")],
    root: Annotated[Path, typer.Option(help="Folder with the files.")] = Path(),
) -> None:
    """Whether files are what a data spec says, and their values can be trusted: all problems, worst first; exit 2 if training would be wrong."""
    from maekit import plugins
    from maekit.config.data_spec import load_spec
    from maekit.data.check.check import check
    from maekit.data.check.problems import Problem

    adapters = [plugins.find("adapters", name) for name in plugins.names("adapters")]
    reducers = {name: reducer for adapter in adapters for name, reducer in adapter.reducers.items()}
    ranges = {unit: limits for adapter in adapters for unit, limits in adapter.label_ranges.items()}
    problems: list[Problem] = []
    for line in check(load_spec(spec), root, reducers, problems, typed=spec, ranges=ranges):
        show(line)
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(2)


@data_app.command("list")
def data_list() -> None:
    """List the data specs that come with maekit: what a sample is, what the data are, their licence."""
    from maekit.config.data_spec import load_spec, shipped_specs

    for name, path in shipped_specs().items():
        spec = load_spec(path)
        layout = "pictures" if spec.signal is None else ", ".join(spec.signal.axes)
        facts = [f"({layout})", spec.title, f"licence: {spec.licence or 'not stated'}"]
        out.print(f"[bold]{escape(name)}[/]  {escape('  '.join(filter(None, facts)))}")


@data_app.command("schema")
def data_schema(
    section: Annotated[str, typer.Argument(help="Only the keys below this one, e.g. convert.streams.NAME.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON Schema, for editors.")] = False,
) -> None:
    """Print all keys of data specs with type, default and meaning."""
    import json

    from maekit.config.describe import spec_keys, spec_schema

    if as_json:
        out.print_json(json.dumps(spec_schema()))
        return
    for key in spec_keys(section):
        out.print(f"[bold]{escape(key.path)}[/]{escape(key.line().removeprefix(key.path))}")


@data_app.command("copy")
def data_copy(
    spec: Annotated[str, typer.Argument(help="Name of a data spec that comes with maekit, or a YAML file.")],
    to: Annotated[Path, typer.Option("--to", help="File (.yaml) or folder.")],
) -> None:
    """Copy a data spec, to edit it for your own files."""
    from maekit.config.copying import copy_spec

    show(str(copy_spec(spec, to)))


@data_app.command("simulate")
def data_simulate(
    adapter: Annotated[str, typer.Argument(help="heart_rate, range_doppler, spectrogram, image, or a plug-in's.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write.")],
    seed: int = 0,
    set_: Sets = None,
) -> None:
    """Physically sensible recordings for trying things out, with their data spec (`--set people=10`)."""
    from maekit import plugins
    from maekit.config.options import call_with_settings

    simulate = plugins.find("adapters", adapter).simulate
    written = call_with_settings(simulate, f"simulation of {adapter}", set_ or [], to, seed=seed)
    show(f"data spec: {written}")
