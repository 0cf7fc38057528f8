"""Each error's own advice, followed as typed, leads to a command that passes: the mend is read from the message."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz import corpus as seeds
from fuzz.__main__ import build_corpus
from fuzz.worker import run_command

from maekit.config.data_spec import shipped_specs


@dataclass
class Person:
    """Somebody who types a command in a folder, and does what its error says."""

    folder: Path
    corpus: Path
    command: list[str] = field(default_factory=list)

    def run(self) -> tuple[int, str]:
        """Exit code and output of the command."""
        code, _, _, text = run_command(self.command, self.folder)
        return code, text

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text in a file."""
        text = (self.folder / file).read_text()
        assert old in text, text
        (self.folder / file).write_text(text.replace(old, new))

    def add(self, *options: str) -> None:
        """Type further options."""
        self.command += options

    def instead(self, old: str, new: str) -> None:
        """Type a word of the command in another way."""
        assert old in self.command
        self.command[self.command.index(old)] = new


Mend = Callable[[Person, "re.Match[str]"], object]


@dataclass(frozen=True)
class Situation:
    """Files, a command that fails on them, and what its errors advise: the mend is made of the groups of the pattern."""

    name: str
    files: Mapping[str, str | bytes]
    command: str
    advice: str
    mend: Mend
    then: tuple[tuple[str, Mend], ...] = ()


def both(*mends: Mend) -> Mend:
    """Do one after the other."""

    def mend(person: Person, match: re.Match[str]) -> None:
        for part in mends:
            part(person, match)

    return mend


def edit(file: str, old: str, new: str = "{0}") -> Mend:
    """Replace text in a file by what was advised."""
    return lambda person, match: person.edit(file, old, new.format(*match.groups()))


def add(*options: str) -> Mend:
    """Add the advised options."""
    return lambda person, match: person.add(*(option.format(*match.groups()) for option in options))


def instead(old: str, new: str = "{0}") -> Mend:
    """Replace a word of the command by what was advised."""
    return lambda person, match: person.instead(old, new.format(*match.groups()))


RECIPE = seeds.SIGNAL.replace("NAME", "tiny").replace("EPOCHS", "1").replace("ROOT", "CORPUS/cohort")
SPEC = """\
name: mine
files: "*.h5"
records: "/*"
signal: {path: x, axes: [time], rate_hz: {attribute: rate_hz}}
convert:
  record: "(?P<record>[a-z0-9]+)[.]"
  streams: {x: {files: "*.csv", columns: [a], time: t}}
"""
RECORDED = shipped_specs()["simulated_vital_signs"].read_text()
ROWS = [(f"{i * 0.02:.3f}", f"{np.sin(i / 5):.4f}") for i in range(200)]
TABLE = "t,a\n" + "".join(f"{t},{a}\n" for t, a in ROWS)
CONVERT = "data convert s.yaml --from src --to out"
CHECK = "recipe check r.yaml"
CHECK_DATA = "data check s.yaml --root CORPUS/cohort"
PREDICT = "predict CORPUS/runs/tuned CORPUS/cohort/vital_signs.h5 --device cpu --to o.csv"
MEANT = r"Did you mean '([^']+)'"
NOW = r"It is now called '([^']+)'"


def recipe(old: str, new: str) -> dict[str, str | bytes]:
    """The recipe with a mistake."""
    assert old in RECIPE
    return {"r.yaml": RECIPE.replace(old, new)}


def table(text: str | bytes = TABLE, spec: tuple[str, str] = ("", ""), name: str = "p1.csv") -> dict[str, str | bytes]:
    """A source file, and a spec that reads it with a mistake."""
    return {f"src/{name}": text, "s.yaml": SPEC.replace(*spec) if spec[0] else SPEC}


def recorded(old: str, new: str) -> dict[str, str | bytes]:
    """The spec of the simulated recordings with a mistake."""
    assert old in RECORDED
    return {"s.yaml": RECORDED.replace(old, new)}


def stamps(*values: float | str) -> str:
    return "t,a\n" + "".join(f"{value},{i}\n" for i, value in enumerate(values))


def _remove_line(person: Person, match: re.Match[str]) -> None:
    path = person.folder / match[1]
    lines = path.read_text().splitlines(keepends=True)
    del lines[int(match[2]) - 1]
    path.write_text("".join(lines))


def _extend_a_base(person: Person, match: re.Match[str]) -> None:
    text = (person.folder / "r.yaml").read_text()
    (person.folder / "base.yaml").write_text(text.replace("<<: {seed: 1}\n", "seed: 1\n"))
    (person.folder / "r.yaml").write_text(f"{match[1]}base.yaml\n")


SITUATIONS = [
    Situation("unknown key", recipe("mask_ratio", "mask_ration"), CHECK, MEANT, edit("r.yaml", "mask_ration")),
    Situation("key of an earlier version", recipe("save_every_steps: 3", "accumulation: 2"), CHECK, NOW, edit("r.yaml", "accumulation")),
    Situation("option that is an augmentation now", recipe(", difference: true", ", wander_std: 1.0"), CHECK, "in the recipe: `(augment: [^`]+)`", both(edit("r.yaml", ", wander_std: 1.0", ""), edit("r.yaml", "schedule:", "{0}\nschedule:"))),
    Situation("unknown adapter", recipe("heart_rate", "heartrate"), CHECK, MEANT, edit("r.yaml", "heartrate")),
    Situation("unknown option of an adapter", recipe("patch_s", "patchs"), CHECK, MEANT, edit("r.yaml", "patchs")),
    Situation("number with a unit", recipe("seconds: 10", "seconds: 10 s"), CHECK, r"Write the number alone \((\d+)\)", edit("r.yaml", "10 s,", "{0},")),
    Situation("key given twice", recipe("schedule", "seed: 1\nseed: 2\nschedule"), CHECK, r"(r.yaml):(\d+):\d+: a key given twice", _remove_line),
    Situation("merge key", recipe("schedule", "<<: {seed: 1}\nschedule"), CHECK, r"Use `(extends: )other.yaml`", _extend_a_base),
    Situation("indented by a tab", recipe("  spec", "\tspec"), CHECK, "Indent with (space)s", edit("r.yaml", "\t", "  ")),
    Situation("recipe that is not there", recipe("tiny", "tiny"), "recipe check r.yml", MEANT, instead("r.yml")),
    Situation("misspelled shipped recipe", {}, "recipe check heart_rate/demo_pretran", MEANT, instead("heart_rate/demo_pretran")),
    Situation("misspelled command", recipe("tiny", "tiny"), "recpie check r.yaml", MEANT, instead("recpie")),
    Situation("misspelled option", recipe("tiny", "tiny"), f"{CHECK} --sett seed=1", MEANT, instead("--sett")),
    Situation("--set with the end of a key", recipe("tiny", "tiny"), f"{CHECK} --set batch_size=2", MEANT, instead("batch_size=2", "{0}=2")),
    Situation("misspelled masking", recipe("tiny", "tiny"), f"{CHECK} --set model.masking=blocks", MEANT, instead("model.masking=blocks", "model.masking={0}")),
    Situation("misspelled data spec", recipe("simulated_vital_signs", "simulated_vital_sign"), CHECK, MEANT, edit("r.yaml", "simulated_vital_sign")),
    Situation("no such root", recipe("CORPUS/cohort", "nowhere"), f"{CHECK} --data", r"\((--set) (data.root=)FOLDER\)", lambda p, m: p.add(m[1], f"{m[2]}{p.corpus / 'cohort'}")),
    Situation("labelled recipe to pretrain", {"r.yaml": RECIPE + "task: regression\n"}, "pretrain r.yaml --device cpu", "Use `maekit (finetune)`", both(instead("pretrain"), add("--from", "random"))),
    Situation("unlabelled recipe to fine-tune", recipe("tiny", "tiny"), "finetune r.yaml --from random", "Use `maekit (pretrain)`", both(instead("finetune"), lambda p, m: p.command.__delitem__(slice(-2, None)))),
    Situation("no such device", recipe("tiny", "tiny"), "pretrain r.yaml --device cuda:7", r"expected (?:one of )?(cpu)", instead("cuda:7")),
    Situation("resume never", {**recipe("tiny", "tiny"), "runs/tiny/": "runs/tiny"}, "pretrain r.yaml --resume never", r"with `(--set) (name=)\.\.\.`", add("{0}", "{1}second")),
    Situation("resume with another recipe", {**recipe("width: 8", "width: 16"), "runs/tiny/": "runs/tiny"}, "pretrain r.yaml", r"with `(--set) (name=)\.\.\.`", add("{0}", "{1}second")),
    Situation("misspelled split", {}, "evaluate CORPUS/runs/tuned --split tset", MEANT, instead("tset")),
    Situation("no recording named", {}, PREDICT, r"got '(\w+), .*(--record)", add("{1}", "{0}")),
    Situation("result that is there", {"o.csv": "x"}, f"{PREDICT} --record person_001", "(--overwrite)", add("{0}")),
    Situation("export to a file that is there", {"w.safetensors": "x"}, "export CORPUS/runs/tuned --format safetensors --to w.safetensors", "another name with (--to)", instead("w.safetensors", "w2.safetensors")),
    Situation("no such format", {}, "export CORPUS/runs/tuned --format safetensor --to w.safetensors", r"(safetensors)", instead("safetensor")),
    Situation("several sets of weights", {}, "import k.pth --recipe CORPUS/image.yaml --layout official --to run", r"`(--key) (\w+)`", add("{0}", "{1}")),
    Situation("no such column", table(TABLE.replace("t,a", "t,aa")), CONVERT, r"expected one of t, (\w+)", edit("s.yaml", "[a]", "[{0}]")),
    Situation("no such column of time", table(TABLE.replace("t,a", "tt,a")), CONVERT, MEANT, edit("s.yaml", "time: t", "time: {0}")),
    Situation("columns without names", table(TABLE.removeprefix("t,a\n")), CONVERT, "expected one of (0), (1)", both(edit("s.yaml", "[a]", "[{1}]"), edit("s.yaml", "time: t", "time: {0}"))),
    Situation("torn last line", table(TABLE + "4.0"), CONVERT, r"(src/p1.csv):(\d+):", _remove_line),
    Situation("Latin-1", table(TABLE.replace("t,a", "t,a,Größe").replace("\n", ",0\n").replace("Größe,0", "Größe").encode("latin-1")), CONVERT, r"State `(encoding)` in the data spec: `([\w-]+)`", edit("s.yaml", "time: t", "time: t, {0}: {1}")),
    Situation("stamps in milliseconds", table(stamps(*(20 * i for i in range(200))), ("time: t", "time: t, rate_hz: 50")), CONVERT, "`(time_unit: ms)`", edit("s.yaml", "time: t", "time: t, {0}")),
    Situation("stamps that jitter", table(stamps(*(f"{0.02 * i + i % 5 * 0.003:.4f}" for i in range(200)))), CONVERT, r"`(rate_hz)` \(about ([\d.]+)\)", edit("s.yaml", "time: t", "time: t, {0}: {1}")),
    Situation("stamps that jitter, put on a grid", table(stamps(*(f"{0.02 * i + i % 5 * 0.003:.4f}" for i in range(200)))), CONVERT, r"about ([\d.]+).*`(resample_hz)`", edit("s.yaml", "time: t", "time: t, {1}: {0}")),
    Situation("dates of a doubtful order", table(stamps(*(f"01/02/2024 00:00:{i / 50:06.3f}" for i in range(200)))), CONVERT, 'State `(time_format: "[^`]+")`', edit("s.yaml", "time: t", "time: t, {0}")),
    Situation("counter that wraps", table(stamps(*((20_000 * i + 2**32 - 1_000_000) % 2**32 for i in range(200))), ("time: t", "time: t, time_unit: us")), CONVERT, r"`(wraps: \d+)`", edit("s.yaml", "time: t", "time: t, {0}")),
    Situation("batches under one stamp", table(stamps(*(f"{i // 20 * 0.4:.3f}" for i in range(200)))), CONVERT, r"`(batches: last)`", edit("s.yaml", "time: t", "time: t, rate_hz: 50, {0}")),
    Situation("misspelled unit", table(spec=("time: t", "time: t, time_unit: sec")), CONVERT, r"expected '(\w+)'", edit("s.yaml", "time_unit: sec", "time_unit: {0}")),
    Situation("conversion that is there", {**table(), "out/mine.h5": "x"}, CONVERT, "(--overwrite)", add("{0}")),
    Situation("one table without groups for several", {**table(spec=('records: "/*"\n', "")), "src/p2.csv": TABLE}, CONVERT, "Set `(records: [^`]+)`", edit("s.yaml", "signal:", "{0}\nsignal:")),
    Situation("format that the name does not tell", {"src/p1.xyz": TABLE, "s.yaml": SPEC.replace("*.csv", "*.xyz")}, CONVERT, "State `(format)`", edit("s.yaml", "time: t", "time: t, {0}: csv")),
    Situation("several arrays", {"src/p1.npz": b"", "s.yaml": SPEC.replace("*.csv", "*.npz").replace("columns: [a], time: t", "rate_hz: 50")}, CONVERT, r"got '(\w+), (\w+)'; expected `(key)`", edit("s.yaml", "rate_hz: 50", "rate_hz: 50, {2}: {0}")),
    Situation("misspelled key of a spec", table(spec=("rate_hz: {", "rate: {")), CONVERT, MEANT, edit("s.yaml", "rate: {", "{0}: {{")),
    Situation("time without a rate", table(spec=(", rate_hz: {attribute: rate_hz}", "")), CONVERT, r"needs `(rate_hz)`, a number or (\{attribute: )name\}", edit("s.yaml", "axes: [time]", "axes: [time], {0}: {1}rate_hz}}")),
    Situation("misspelled dataset", recorded("path: displacement", "path: displacment"), CHECK_DATA, r"Did you mean '(?:person_000/)?([^']+)'", edit("s.yaml", "displacment")),
    Situation("misspelled attribute", recorded("attribute: subject", "attribute: subjct"), CHECK_DATA, MEANT, edit("s.yaml", "subjct")),
    Situation("times of events as labels", recorded("events: true, reduce: beat_rate_bpm, ", ""), CHECK_DATA, "`(events: true)`", edit("s.yaml", "path: beats", "path: beats, {0}"), ((r"`(reduce)` that the adapter declares", edit("s.yaml", "path: beats", "path: beats, {0}: beat_rate_bpm")),)),
    Situation("misspelled reduction", recorded("beat_rate_bpm", "beat_rate"), CHECK_DATA, MEANT, edit("s.yaml", "beat_rate")),
    Situation("no such file", recorded("vital_signs.h5", "vitals.h5"), CHECK_DATA, MEANT, edit("s.yaml", "vitals.h5")),
    Situation("window of another axis", recorded("{axis: time, seconds", "{axis: tme, seconds"), CHECK_DATA, "along the axis `(time)`", edit("s.yaml", "tme")),
    Situation("window longer than the recordings", recorded("seconds: 10", "seconds: 40"), CHECK_DATA, "`(pad: true)`", edit("s.yaml", "axis: time", "axis: time, {0}")),
    Situation("split of groups that are not there", recipe("[p000]", "[pat]"), f"{CHECK} --data", r"expected one of (\w+),", edit("r.yaml", "[pat]", "[{0}]")),
    Situation("misspelled group", recipe("[p000]", "[p00]"), f"{CHECK} --data", MEANT, edit("r.yaml", "[p00]", "[{0}]")),
    Situation("patch that does not divide", recipe("patch_s: 1.0", "patch_s: 3.0"), CHECK, r"patches that do: \[.*?(20),", edit("r.yaml", "patch_s: 3.0", "patch_s: 2.0")),
    Situation("batch larger than the data", recipe("batch_size: 4", "batch_size: 400"), "pretrain r.yaml --device cpu", r"at most (\d+) samples.*`(--set) (training.batch_size=)\.\.\.`", add("{1}", "{2}{0}")),
    Situation("sweep without a key", {"r.yaml": RECIPE + "task: regression\ninit: {recipe: CORPUS/tiny.yaml}\n"}, "sweep r.yaml --seeds 1 --dry-run", r"e\.g\. (mask_ratio=[\d.,]+\d)", add("--sweep", "{0}")),
    Situation("misspelled key of a sweep", {"r.yaml": RECIPE + "task: regression\ninit: {recipe: CORPUS/tiny.yaml}\n"}, "sweep r.yaml --seeds 1 --dry-run --sweep mask_ration=0.5", MEANT, instead("mask_ration=0.5", "{0}=0.5")),
    Situation("study without a pretraining", {"r.yaml": RECIPE + "task: regression\n"}, "study r.yaml --seeds 1 --dry-run", r"`(init: \{recipe: )PRETRAINING.yaml\}`", lambda p, m: p.edit("r.yaml", "task:", f"{m[1]}{p.corpus}/tiny.yaml}}\ntask:")),
    Situation("misspelled choice", {}, "reconstruct CORPUS/runs/tiny pictures --count 1 --statistics neighbors", MEANT, instead("neighbors")),
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("advice") / "corpus"
    build_corpus(folder)
    return folder


@pytest.fixture
def person(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", None)
    return Person(tmp_path, corpus)


def arrange(person: Person, situation: Situation) -> None:
    """Write the files of a situation."""
    person.command = situation.command.replace("CORPUS", str(person.corpus)).split()
    for name, content in situation.files.items():
        path = person.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            shutil.copytree(person.corpus / str(content), path)
        elif name.endswith(".npz"):
            np.savez(path, a=np.arange(200.0), b=np.arange(200.0))
        else:
            path.write_bytes(
                content if isinstance(content, bytes) else content.replace("CORPUS", str(person.corpus)).encode()
            )
    if "k.pth" in person.command:
        weights = torch.load(person.corpus / "weights" / "w.pth", weights_only=True)
        torch.save({"model": weights, "ema": weights}, person.folder / "k.pth")


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_following_the_advice_leads_to_a_command_that_passes(person: Person, situation: Situation) -> None:
    arrange(person, situation)
    for advice, mend in ((situation.advice, situation.mend), *situation.then):
        code, text = person.run()
        assert code == 2, text
        match = re.search(advice, text, re.DOTALL)
        assert match is not None, text
        mend(person, match)
    code, text = person.run()
    assert code == 0, text


def test_the_situations_are_many_and_different() -> None:
    assert len(SITUATIONS) >= 30
    assert len({situation.name for situation in SITUATIONS}) == len(SITUATIONS)
