"""The verbs that write, each as a command that takes a second, with what it finds and where it writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Command = list[str]


def _nothing(corpus: Path, work: Path) -> None:
    """No preparation."""


@dataclass(frozen=True)
class Verb:
    """A command that writes below `out`, run in a work folder with the corpus of the fuzzer in `corpus`.

    Args:
        name: for the table.
        command: arguments, in which CORPUS stands for that folder.
        prepare: writes what is there before the command.
        grows: whether files under final names may be between the old and the new state, such as those of a run.
    """

    name: str
    command: Command
    prepare: Callable[[Path, Path], None] = _nothing
    grows: bool = False


def _old_result(name: str) -> Callable[[Path, Path], None]:
    def prepare(corpus: Path, work: Path) -> None:
        (work / "out" / name).write_bytes(b"the result of yesterday\n")

    return prepare


def _copy_run(name: str) -> Callable[[Path, Path], None]:
    def prepare(corpus: Path, work: Path) -> None:
        shutil.copytree(corpus / "runs" / name, work / "out" / name)

    return prepare


def _sources(*names: str) -> Callable[[Path, Path], None]:
    def prepare(corpus: Path, work: Path) -> None:
        (work / "sources").mkdir()
        for name in names:
            shutil.copy(corpus / "sources" / name, work / "sources" / name)

    return prepare


_TUNED, _RECORDING = "CORPUS/runs/tuned", "CORPUS/cohort/vital_signs.h5"
_PREDICT = ["predict", _TUNED, _RECORDING, "--record", "person_001", "--device", "cpu", "--overwrite", "--to"]
_CONVERT = ["data", "convert", "CORPUS/specs/of_plain_csv.yaml", "--from", "sources", "--to", "out"]
_STUDY = ["tuned.yaml", "--seeds", "1", "--runs", "out", "--device", "cpu"]


def _conversion_again(corpus: Path, work: Path) -> None:
    _sources("plain.csv")(corpus, work)
    _old_result("mine.h5")(corpus, work)


def _study_recipes(corpus: Path, work: Path) -> None:
    for name in ("tiny.yaml", "tuned.yaml"):
        shutil.copy(corpus / name, work / name)
    with (work / "tuned.yaml").open("a") as file:
        file.write("init: {recipe: tiny.yaml}\n")


VERBS = [
    Verb("pretrain", ["pretrain", "CORPUS/tiny.yaml", "--runs", "out", "--device", "cpu"], grows=True),
    Verb("finetune", ["finetune", "CORPUS/tuned.yaml", "--from", "CORPUS/runs/tiny", "--runs", "out", "--device", "cpu"], grows=True),
    Verb("report", ["report", "out/tiny", "--device", "cpu"], _copy_run("tiny")),
    Verb("predict csv", [*_PREDICT, "out/o.csv"], _old_result("o.csv")),
    Verb("predict json", [*_PREDICT, "out/o.json"], _old_result("o.json")),
    Verb("predict hdf5", [*_PREDICT, "out/o.h5"], _old_result("o.h5")),
    Verb("predict folder", ["predict", _TUNED, "CORPUS/cohort", "--device", "cpu", "--overwrite", "--to", "out"], _old_result("predictions.json")),
    Verb("convert", _CONVERT, _sources("plain.csv")),
    Verb("convert again", [*_CONVERT, "--overwrite"], _conversion_again),
    Verb("convert unzip", ["data", "convert", "CORPUS/specs/unzip.yaml", "--from", "sources", "--to", "out/new", "--overwrite"], _sources("x.zip"), grows=True),
    Verb("pack", ["data", "pack", "CORPUS/pictures.yaml", "--root", "CORPUS/pictures", "--to", "out/pack", "--workers", "1"], grows=True),
    Verb("simulate", ["data", "simulate", "heart_rate", "--to", "out/new", "--set", "people=2", "--set", "seconds=12"], grows=True),
    Verb("embed", ["embed", "CORPUS/runs/tiny", "out/f.h5", "--device", "cpu"]),
    Verb("reconstruct", ["reconstruct", "CORPUS/runs/tiny", "out/pictures", "--count", "1"], grows=True),
    Verb("export", ["export", "CORPUS/runs/pictures", "--to", "out/w.safetensors", "--format", "safetensors"]),
    Verb("export pth", ["export", "CORPUS/runs/pictures", "--to", "out/w.pth", "--format", "official"]),
    Verb("import", ["import", "CORPUS/weights/w.safetensors", "--recipe", "CORPUS/image.yaml", "--to", "out/run", "--layout", "official"], grows=True),
    Verb("recipe copy", ["recipe", "copy", "heart_rate/demo_finetune", "out/mine.yaml"]),
    Verb("study", ["study", *_STUDY], _study_recipes, grows=True),
    Verb("sweep", ["sweep", *_STUDY, "--sweep", "model.mask_ratio=0.5"], _study_recipes, grows=True),
]  # fmt: skip
