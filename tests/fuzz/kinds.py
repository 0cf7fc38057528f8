"""What is mutated, and the commands that read it. Each kind writes one input and returns command lines."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from fuzz import formats
from fuzz.corpus import STREAMS
from fuzz.mutations import NUMBERS, WORDS, mutate_encoded, mutate_json, mutate_yaml, strange_value
from fuzz.mutations import mutate_bytes as mutate_any

Command = list[str]
Mutation = Callable[[random.Random, bytes, bytes], bytes]

_BY_SUFFIX: dict[str, Mutation] = {
    ".yaml": mutate_yaml,
    ".csv": mutate_encoded,
    ".txt": mutate_encoded,
    ".jsonl": mutate_encoded,
    ".gz": formats.mutate_gzip,
    ".npy": formats.mutate_npy,
    ".npz": formats.mutate_npz,
    ".mat": formats.mutate_mat,
    ".wav": formats.mutate_wav,
    ".json": mutate_json,
    ".pkl": formats.mutate_pickle,
    ".zip": formats.mutate_zip,
    ".h5": formats.mutate_hdf5,
    ".hea": formats.mutate_wfdb_header,
    ".png": formats.mutate_picture,
    ".jpg": formats.mutate_picture,
    ".pth": formats.mutate_pth,
    ".safetensors": formats.mutate_safetensors,
}


def mutated(rng: random.Random, path: Path, other: Path | None = None) -> bytes:
    """The content of a file, changed as fits its format; `other` is spliced in."""
    mutate = _BY_SUFFIX.get(path.suffix, mutate_any)
    donor = path if other is None or _BY_SUFFIX.get(other.suffix) is not mutate else other
    content = path.read_bytes()
    try:
        return mutate(rng, content, donor.read_bytes())
    except Exception:  # what was drawn cannot be written in this format, as its library says in some way
        return mutate_any(rng, content)


def _pick(rng: random.Random, folder: Path, pattern: str = "*") -> Path:
    return rng.choice(sorted(path for path in folder.rglob(pattern) if path.is_file()))


def recipe(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    seed = _pick(rng, corpus / "recipes")
    (job / "input" / "r.yaml").write_bytes(mutated(rng, seed, _pick(rng, corpus / "recipes")))
    verb = rng.choice(("check", "check", "check", "show"))
    return [["recipe", verb, "input/r.yaml"]]


def settings(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    """Values of `--set` and `--axis`, of recipes and of simulations."""
    keys = (
        *(
            "adapter.rate_hz",
            "adapter.patch_s",
            "data.window",
            "data.split",
            "data.window.seconds",
            "model.encoder.width",
        ),
        *(
            "model.mask_ratio",
            "model.masking",
            "model.target",
            "optimizer.base_lr",
            "schedule.epochs",
            "training.batch_size",
        ),
        *(
            "training.precision",
            "seed",
            "name",
            "task",
            "model.encoder.heads",
            "augment",
            "objectives",
            "model.decoder.depth",
        ),
    )
    plausible = (
        "2",
        "8",
        "0.25",
        "10",
        "16",
        "random",
        "block",
        "{seconds: 5}",
        "{axis: time, length: 64}",
        "regression",
        "[]",
        "64",
        "float32",
    )
    strange = (*NUMBERS, *WORDS, repr(strange_value(rng)))
    values = [rng.choice(plausible if rng.random() < 0.5 else strange).replace("\x00", "") for _ in range(3)]
    if rng.random() < 0.1:
        key = rng.choice(("people", "seconds", "rate_hz", "noise", "x"))
        # Not any number: to simulate a day takes minutes, and is no hang.
        value = rng.choice(("-1", "nan", "0", "1e-9", "1e300", "x", "[]", ""))
        simulated = ["data", "simulate", "heart_rate", "--to", "target", "--set", "people=1", "--set", "seconds=3"]
        return [[*simulated, "--set", f"{key}={value}"]]
    chosen = rng.sample(keys, rng.choice((1, 1, 2)))
    if rng.random() < 0.2:
        chosen[0] = rng.choice(
            (
                f"{chosen[0]}.x",
                chosen[0].upper(),
                "",
                ".",
                "a.b.c",
                "model.encoder[0]",
                rng.choice(WORDS).replace("\x00", ""),
            )
        )
    overrides = [part for key, value in zip(chosen, values, strict=False) for part in ("--set", f"{key}={value}")]
    return [["recipe", "check", str(corpus / rng.choice(("tiny.yaml", "tuned.yaml", "image.yaml"))), *overrides]]


def data_spec(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    near = rng.random() < 0.5  # the spec of the recordings that are there
    seed = corpus / "specs" / "simulated_vital_signs.yaml" if near else _pick(rng, corpus / "specs")
    (job / "input" / "s.yaml").write_bytes(mutated(rng, seed, _pick(rng, corpus / "specs")))
    return [["data", "check", "input/s.yaml", "--root", str(corpus / rng.choice(("cohort", "cohort", "pictures")))]]


def conversion(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    name = rng.choice(sorted(STREAMS))
    spec = corpus / "specs" / f"of_{name.replace('.', '_')}.yaml"
    if rng.random() < 0.2:
        name, spec = "plain.csv", corpus / "specs" / "labelled.yaml"
    shutil.copy(corpus / "sources" / name, job / "input" / ("ab1.csv" if spec.stem == "labelled" else name))
    (job / "s.yaml").write_bytes(mutated(rng, spec, _pick(rng, corpus / "specs")))
    return [["data", "convert", "s.yaml", "--from", "input", "--to", "target", *_overwrite(rng)]]


def _overwrite(rng: random.Random) -> list[str]:
    return ["--overwrite"] if rng.random() < 0.3 else []


def _converted(rng: random.Random, corpus: Path, job: Path, names: list[str]) -> list[Command]:
    """A mutated source file, inspected and converted by the spec that reads the sound one."""
    name = rng.choice(names)
    content = mutated(rng, corpus / "sources" / name, corpus / "sources" / rng.choice(names))
    (job / "input" / name).write_bytes(content)
    if name == "x.hea":
        (job / "input" / "x.dat").write_bytes(b"\x01\x02" * 120)
    spec = corpus / "specs" / f"of_{name.replace('.', '_')}.yaml"
    if name == "x.hea":  # of the input folder only the header is a record
        (job / "s.yaml").write_text(spec.read_text().replace('files: "*"', 'files: "*.hea"'))
        spec = job / "s.yaml"
    convert = ["data", "convert", str(spec), "--from", "input", "--to", "target", *_overwrite(rng)]
    return [["data", "inspect", f"input/{name}"], convert]


def table(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    return _converted(rng, corpus, job, [name for name in STREAMS if name.endswith((".csv", ".txt", ".csv.gz"))])


def array(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    return _converted(
        rng, corpus, job, [name for name in STREAMS if not name.endswith((".csv", ".txt", ".csv.gz", ".zip"))]
    )


def archive(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    if rng.random() < 0.5:
        return _converted(rng, corpus, job, ["x.zip"])
    (job / "input" / "x.zip").write_bytes(mutated(rng, corpus / "sources" / "x.zip"))
    return [
        ["data", "convert", str(corpus / "specs" / "unzip.yaml"), "--from", "input", "--to", "target", *_overwrite(rng)]
    ]


def hdf5(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    (job / "input" / "vital_signs.h5").write_bytes(mutated(rng, corpus / "cohort" / "vital_signs.h5"))
    check = ["data", "check", "simulated_vital_signs", "--root", "input"]
    return [rng.choice((["data", "inspect", "input/vital_signs.h5"], check))]


def windows(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    """A mutated recording whose windows are read: by a recipe, by a trained run, or along the recording."""
    (job / "input" / "vital_signs.h5").write_bytes(mutated(rng, corpus / "cohort" / "vital_signs.h5"))
    root = ["--set", f"data.root={job / 'input'}"]
    predict = [
        "predict",
        str(corpus / "runs" / "tuned"),
        "input/vital_signs.h5",
        "--record",
        "person_001",
        "--to",
        "target/out.csv",
    ]
    return [
        rng.choice((
            ["recipe", "check", str(corpus / "tiny.yaml"), "--data", *root],
            ["evaluate", str(corpus / "runs" / "tuned"), *root],
            predict,
        ))
    ]  # fmt: skip


def run(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    """One file of a run folder is changed; the run is then evaluated, resumed, reported or exported."""
    name = rng.choice(("tiny", "tuned"))
    folder = job / "target" / "runs" / name
    shutil.copytree(corpus / "runs" / name, folder)
    chosen = _pick(rng, folder)
    action = rng.random()
    if action < 0.8:
        chosen.write_bytes(mutated(rng, chosen, _pick(rng, folder)))
    else:
        chosen.unlink()
        if action > 0.9:
            chosen.mkdir()
    verb = "pretrain" if name == "tiny" else "finetune"
    start = ["--from", str(corpus / "runs" / "tiny")] if name == "tuned" else []
    resume = [verb, str(corpus / f"{name}.yaml"), *start, "--runs", "target/runs", "--device", "cpu"]
    relative = f"target/runs/{name}"
    return [
        rng.choice((
            ["evaluate", relative, "--device", "cpu"],
            ["evaluate", relative, "--device", "cpu"],
            resume,
            ["report", relative, "--device", "cpu"],
            ["embed", relative, "target/features.h5"],
            ["export", relative, "--to", "target/w.safetensors", "--format", "safetensors"],
        ))
    ]  # fmt: skip


def weights(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    seed = _pick(rng, corpus / "weights")
    file = f"input/{seed.name}"
    (job / file).write_bytes(mutated(rng, seed))
    partial = ["--partial"] if rng.random() < 0.3 else []
    return [
        ["import", file, "--recipe", str(corpus / "image.yaml"), "--to", "target/run", "--layout", "official", *partial]
    ]


def picture(rng: random.Random, corpus: Path, job: Path) -> list[Command]:
    root = job / "input" / "pictures"
    shutil.copytree(corpus / "pictures", root)
    chosen = _pick(rng, root)
    content = mutated(rng, chosen, _pick(rng, root))
    if rng.random() < 0.3:
        chosen.unlink()
        chosen = chosen.with_name(
            rng.choice(("A.PNG", "x.jfif", "x.gif", "x.txt", "x.tif", "no ending", "x.jpeg.png", "ü\u202e.png"))
        )
    chosen.write_bytes(content)
    spec = str(corpus / "pictures.yaml")
    return [
        rng.choice((
            ["data", "check", spec, "--root", "input/pictures"],
            ["data", "inspect", f"input/{chosen.relative_to(job / 'input')}"],
            ["data", "pack", spec, "--root", "input/pictures", "--to", "target/pack", "--form", rng.choice(("files", "uint8")), "--size", "16", "--workers", "1"],
            ["evaluate", str(corpus / "runs" / "pictures"), "--set", f"data.root={root}", "--device", "cpu"],
        ))
    ]  # fmt: skip


Kind = Callable[[random.Random, Path, Path], list[Command]]
KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (recipe, settings, data_spec, conversion, table, array, archive, hdf5, windows, run, weights, picture)
}
