"""Every verb under faults of the system (full disk, folders that cannot be written, too little memory): one error, exit code 2."""

from __future__ import annotations

import os
import re
import resource
import selectors
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maekit.adapters.simulate.shapes import simulate_shapes
from maekit.cli.main import main
from maekit.interop.weight_export import export_weights
from maekit.runs.train import finetune, pretrain

SECONDS = 60
IMAGE = """\
name: image
adapter: {name: image, size: 16, patch: 8}
data: {spec: simulated_shapes, root: ROOT, window: {axis: picture, length: 1}}
model: {encoder: {width: 16, depth: 1, heads: 2}, decoder: {width: 8, depth: 1, heads: 2}, mask_ratio: 0.5}
schedule: {epochs: 1}
training: {batch_size: 8}
"""


@dataclass(frozen=True)
class World:
    """What the verbs work on: data, recipes and finished runs that every case may read."""

    folder: Path
    cohort: Path
    recipe: Path
    pretrained: Path
    tuned: Path
    pictures: Path
    weights: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> World:
    from conftest import TINY

    folder = tmp_path_factory.mktemp("world")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.replace("ROOT", str(cohort)))
    (folder / "tuned.yaml").write_text(
        "extends: tiny.yaml\nname: tuned\ntask: regression\ninit: {recipe: tiny.yaml}\n"
        "reference: {metrics: {mae: 1.0}, tolerance: {mae: 0.1}, source: nowhere}\n"
    )
    short = ["schedule.epochs=1", "schedule.warmup_epochs=0"]
    pretrained = pretrain(str(recipe), overrides=short, runs=folder / "runs").folder
    tuned = finetune(str(folder / "tuned.yaml"), pretrained, overrides=short, runs=folder / "runs").folder
    simulate_shapes(folder / "shapes", pictures=40, painters=4, size=16)
    image_recipe = folder / "image.yaml"
    image_recipe.write_text(IMAGE.replace("ROOT", str(folder / "shapes")))
    weights = folder / "weights.safetensors"
    pictures = pretrain(str(image_recipe), runs=folder / "runs").folder
    export_weights(pictures, weights, "timm")
    (folder / "tables").mkdir()
    lines = [f"{i / 50:.2f},{np.sin(i / 8):.4f}" for i in range(5000)]
    (folder / "tables" / "p0.csv").write_text("\n".join(["t,x", *lines]) + "\n")
    (folder / "convert.yaml").write_text(
        "name: tables\nfiles: tables.h5\nsignal: {path: x, axes: [time], rate_hz: 50}\n"
        'records: "/*"\nconvert: {record: "(?P<record>p0)", streams: {x: {files: "*.csv", columns: [x], time: t}}}\n'
    )
    for side in ("train", "validation"):
        for label in ("a", "b"):
            (folder / "pictures" / side / label).mkdir(parents=True)
            for i in range(3):
                pixels = np.full((8, 8, 3), 40 * i, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "pictures" / side / label / f"{i}.png")
    (folder / "pictures.yaml").write_text("name: pictures\nkind: image_folder\n")
    return World(folder, cohort, recipe, pretrained, tuned, pictures, weights)


def copy_of(run: Path, target: Path) -> Path:
    """A finished run that a verb may write to."""
    shutil.copytree(run, target / run.name)
    return target / run.name


VERBS: dict[str, Callable[[World, Path], list[object]]] = {
    "pretrain": lambda w, to: ["pretrain", w.recipe, "--runs", to],
    "finetune": lambda w, to: [
        *("finetune", w.recipe, "--from", w.pretrained, "--runs", to, "--set", "task=regression")
    ],
    "predict csv": lambda w, to: [
        *("predict", w.tuned, w.cohort / "vital_signs.h5", "--record", "person_003", "--to", to / "a.csv")
    ],
    "predict h5": lambda w, to: [
        *("predict", w.tuned, w.cohort / "vital_signs.h5", "--record", "person_003", "--to", to / "a.h5")
    ],
    "embed": lambda w, to: ["embed", w.pretrained, to / "features.h5"],
    "reconstruct": lambda w, to: ["reconstruct", w.pretrained, to / "pictures", "--count", "1"],
    "report": lambda w, to: ["report", copy_of(w.tuned, to)],
    "study": lambda w, to: [
        *("study", w.folder / "tuned.yaml", "--runs", to, "--seeds", "1", "--set", "schedule.epochs=1")
    ],
    "export": lambda w, to: ["export", w.pretrained, "--to", to / "w.safetensors", "--format", "safetensors"],
    "export official": lambda w, to: ["export", w.pictures, "--to", to / "w.pth", "--format", "official"],
    "export onnx": lambda w, to: ["export", w.pretrained, "--to", to / "w.onnx", "--format", "onnx"],
    "export torch_export": lambda w, to: ["export", w.pretrained, "--to", to / "w.pt2", "--format", "torch_export"],
    "import": lambda w, to: [
        *("import", w.weights, "--recipe", w.folder / "image.yaml", "--to", to / "run", "--layout", "timm", "--partial")
    ],
    "data convert": lambda w, to: [
        "data",
        "convert",
        w.folder / "convert.yaml",
        "--from",
        w.folder / "tables",
        "--to",
        to,
    ],
    "data pack": lambda w, to: [
        *("data", "pack", w.folder / "pictures.yaml", "--root", w.folder / "pictures", "--to", to / "pack")
    ],
    "data simulate": lambda w, to: [
        *("data", "simulate", "heart_rate", "--to", to, "--set", "people=2", "--set", "seconds=20")
    ],
    "recipe copy": lambda w, to: ["recipe", "copy", "heart_rate/demo_finetune", to / "recipes"],
    "demo": lambda w, to: ["demo", "--quick", "--runs", to],
}
READING: dict[str, Callable[[World, Path], list[object]]] = {
    "evaluate": lambda w, to: ["evaluate", w.tuned],
    "probe": lambda w, to: ["probe", w.recipe, "--from", w.pretrained, "--set", "task=regression"],
    "compare": lambda w, to: ["compare", w.tuned],
    "data check": lambda w, to: ["data", "check", "simulated_vital_signs", "--root", w.cohort],
    "data inspect": lambda w, to: ["data", "inspect", w.cohort / "vital_signs.h5"],
}
"""Verbs that write nothing; they still need memory."""


def run_limited(arguments: list[object], folder: Path, limits: dict[int, int]) -> tuple[int, str]:
    """Exit code and output of a command in a forked process with limits of the system.

    A fork has everything imported; pipes are not limited as files are.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        with suppress(BaseException):
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.close(reader)
            os.chdir(folder)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            sys.argv = ["maekit", *map(str, arguments)]
            for kind, limit in limits.items():
                if kind == resource.RLIMIT_AS:
                    pages = int(Path("/proc/self/statm").read_text().split()[0])
                    limit += pages * resource.getpagesize()
                resource.setrlimit(kind, (limit, limit))
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    os.close(writer)
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while selector.select(SECONDS):
            block = os.read(reader, 1 << 16)
            if not block:
                break
            output += block
        else:
            os.kill(child, signal.SIGKILL)
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, re.sub(r"\x1b\[[0-9;]*m", "", output.decode())


def check_error(code: int, output: str) -> None:
    """One paragraph that begins with `error`, and nothing of a traceback."""
    assert code == 2, output
    errors = [line for line in output.splitlines() if line.startswith("error ")]
    assert len(errors) == 1, output
    assert "Traceback" not in output
    assert output.splitlines()[-1] == errors[0], output


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".lock"]


def check_full_disk(world: World, to: Path, verb: str, limit: int) -> None:
    arguments = VERBS[verb](world, to)
    code, output = run_limited(arguments, to, {resource.RLIMIT_FSIZE: limit})
    if limit and code == 0:
        return  # all files are smaller
    check_error(code, output)
    assert "File too large" in output or "No space left" in output
    assert str(to) in output.splitlines()[-1], "it names the place"
    assert not leftovers(to)


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk(world: World, tmp_path: Path, verb: str) -> None:
    check_full_disk(world, tmp_path, verb, 0)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [300, 3000, 20_000, 100_000])
@pytest.mark.parametrize("verb", VERBS)
def test_a_disk_that_fills(world: World, tmp_path: Path, verb: str, limit: int) -> None:
    check_full_disk(world, tmp_path, verb, limit)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("report",)])
def test_a_file_where_a_folder_should_be(world: World, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("mine")
    code, output = run_limited(VERBS[verb](world, tmp_path / "file"), tmp_path, {})
    check_error(code, output)
    assert str(tmp_path / "file") in output.splitlines()[-1]
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*VERBS, *READING])
def test_too_little_memory(world: World, tmp_path: Path, verb: str) -> None:
    """Python reports it; what kills the process inside a library leaves nothing under a final name (`replacing`)."""
    arguments = (VERBS | READING)[verb](world, tmp_path)
    code, output = run_limited(arguments, tmp_path, {resource.RLIMIT_AS: 4 << 20})
    if code > 0 and code != 4:
        assert code == 2, output
        assert "memory" in output.splitlines()[-1]
        assert "Traceback" not in output
        assert not leftovers(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*VERBS, *READING])
def test_the_verbs_work_without_faults(world: World, tmp_path: Path, verb: str) -> None:
    code, output = run_limited((VERBS | READING)[verb](world, tmp_path), tmp_path, {})
    assert code in (0, 4), output
    assert not leftovers(tmp_path)
    assert torch.get_num_threads() == 1
