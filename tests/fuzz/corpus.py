"""The sound files that are mutated: small ones of every format, recipes, specs, and runs that were trained for a moment."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat, wavfile

from maekit.adapters.simulate.vital_signs import simulate_vital_signs
from maekit.config.data_spec import shipped_specs
from maekit.config.load import load_recipe
from maekit.config.shipped import shipped_recipes
from maekit.interop.weight_export import export_weights
from maekit.runs.train import finetune, pretrain

SIGNAL = """\
name: NAME
adapter: {name: heart_rate, patch_s: 1.0, rate_hz: 10, difference: true}
data:
  spec: simulated_vital_signs
  root: ROOT
  window: {axis: time, seconds: 10, hop_seconds: 5}
  split: {validation: [p000], test: [p001]}
model:
  encoder: {width: 16, depth: 2, heads: 2, drop_path: 0.1}
  decoder: {width: 8, depth: 1, heads: 2}
  mask_ratio: 0.5
schedule: {epochs: EPOCHS, warmup_epochs: 1}
training: {batch_size: 4, log_every_steps: 1, save_every_steps: 3}
"""
PICTURES = """\
name: pictures
adapter: {name: image, size: 16, patch: 8}
data: {spec: ROOT/pictures.yaml, root: ROOT/pictures}
model:
  encoder: {width: 16, depth: 1, heads: 2}
  decoder: {width: 8, depth: 1, heads: 2}
schedule: {epochs: 1}
training: {batch_size: 4}
"""
STREAM_SPEC = """\
name: mine
files: "*.h5"
records: "/*"
signal: {path: x, axes: AXES, rate_hz: {attribute: rate_hz}}
window: {axis: time, length: 20}
convert:
  record: "(?P<record>[a-z0-9]+)[.]"
  streams: {x: {files: "*", STREAM}}
"""
STREAMS = {
    "plain.csv": "columns: [a], time: t",
    "two.csv": "columns: [a, b], time: t, time_unit: ms, resample_hz: 25",
    "semicolon.csv": 'columns: [a], rate_hz: 50, decimal: ","',
    "unnamed.txt": "columns: [1], time: 0",
    "blanks.txt": 'columns: [1], rate_hz: 50, delimiter: " "',
    "comments.csv": "columns: [a], rate_hz: 50",
    "dates.csv": "columns: [a], time: t, rate_hz: 50",
    "packed.csv.gz": "columns: [a], time: t",
    "people.csv": "columns: [a], time: t, by: [who]",
    "x.npy": "rate_hz: 50",
    "x.npz": "key: a, time: t, time_unit: ms",
    "x.mat": "key: a, time: t",
    "x.wav": "rate_hz: 50",
    "x.json": "rate_hz: 50",
    "x.pkl": "rate_hz: 50",
    "x.zip": 'member: "*.csv", columns: [a], time: t',
    "x.h5": "key: x, rate_hz: 50",
    "x.hea": "rate_hz: 50",
    "raw.dat": "format: int16, rate_hz: 50",
}
"""Files of every format that conversion reads, each with a stream that reads it."""

_RAMP = np.arange(120)
_LABELLED = """\
name: labelled
files: "*.h5"
records: "/*"
signal: {path: x, axes: [time, channel], channels: [a, b], rate_hz: {attribute: rate_hz}}
valid: {path: valid}
group: {attribute: subject}
label: {path: y, classes: [rest, walk], missing: [-1]}
window: {axis: time, seconds: 1, hop_seconds: 0.5}
missing_budget: 0.2
split: {folds: 3}
convert:
  record: "(?P<subject>[a-z]+)(?P<record>[0-9]+)[.]csv"
  streams:
    x: {files: "*.csv", columns: [a, b], time: t, missing: [-9999]}
    y: {files: "*.csv", columns: [y], time: t, optional: true}
  derived: {beats: {adapter: heart_rate, function: r_peaks, source: x}}
"""


def table_of(separator: str = ",", factor: float = 0.02, head: str = "t,a\n", decimal: str = ".") -> bytes:
    """A text table of two columns."""
    rows = (f"{i * factor:.4f}{separator}{np.sin(i / 5):.5f}\n" for i in _RAMP)
    return (head + "".join(rows).replace(".", decimal)).encode()


def _write_sources(folder: Path) -> None:
    """One file of every format in STREAMS."""
    folder.mkdir()
    values, times = np.sin(_RAMP / 5), _RAMP / 50
    texts = {
        "plain.csv": table_of(),
        "two.csv": ("t;a;b\n" + "".join(f"{i * 20 + i % 3};{i};{-i}\n" for i in _RAMP)).encode(),
        "semicolon.csv": table_of(";", head="t;a\n", decimal=","),
        "unnamed.txt": table_of("\t", head=""),
        "blanks.txt": table_of("   ", head=""),
        "comments.csv": table_of(head="# device: x\n# rate: 50 Hz\nt,a\ns,mV\n"),
        "dates.csv": ("t,a\n" + "".join(f"2024-01-01T00:00:{i / 50:09.6f},{i}\n" for i in _RAMP)).encode(),
        "packed.csv.gz": gzip.compress(table_of()),
        "people.csv": ("who,t,a\n" + "".join(f"p{i // 60},{i % 60 / 50},{i}\n" for i in _RAMP)).encode(),
        "x.json": json.dumps({"data": [[1.0, 2.0], [3, None]], "rate": 50, "names": ["a"]}).encode(),
        "x.pkl": pickle.dumps({"data": values, "names": ["a", "b"], "n": 3}),
        "x.hea": b"x 1 50 120\nx.dat 16 200/mV 16 0 0 0 0 ECG\n",
        "raw.dat": (values * 1000).astype("<i2").tobytes(),
    }
    for name, content in texts.items():
        (folder / name).write_bytes(content)
    np.save(folder / "x.npy", values)
    np.savez(folder / "x.npz", a=values, t=_RAMP * 20)
    savemat(folder / "x.mat", {"a": values[:, None], "t": times[None]})
    wavfile.write(folder / "x.wav", 50, (values * 1000).astype(np.int16))
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for name in ("p1.csv", "deep/p2.csv", "read.me"):
            archive.writestr(name, table_of())
    _write_small_hdf5(folder / "x.h5")


def _write_small_hdf5(file: Path) -> None:
    import h5py

    with h5py.File(file, "w") as opened:
        opened["x"] = np.sin(_RAMP / 5)


def _write_specs(folder: Path) -> None:
    folder.mkdir()
    for name, path in shipped_specs().items():
        shutil.copy(path, folder / f"{name}.yaml")
    (folder / "labelled.yaml").write_text(_LABELLED)
    for name, stream in STREAMS.items():
        axes = "[time, channel]" if name == "two.csv" else "[time]"
        (folder / f"of_{name.replace('.', '_')}.yaml").write_text(
            STREAM_SPEC.replace("STREAM", stream, 1).replace("AXES", axes)
        )
    (folder / "unzip.yaml").write_text('name: mine\nkind: image_folder\nconvert: {unzip: "*.zip"}\n')


def _write_recipes(folder: Path, root: Path) -> None:
    """Shipped recipes with all keys written out; those of the large ImageNet models, which take seconds to make, are left out."""
    folder.mkdir()
    for name in shipped_recipes():
        if "imagenet" not in name:
            (folder / f"{name.replace('/', '__')}.yaml").write_text(load_recipe(name).yaml())
    for path in root.glob("*.yaml"):
        if path.name != "pictures.yaml":
            shutil.copy(path, folder / path.name)


def _write_pictures(root: Path) -> None:
    rng = np.random.default_rng(0)
    for i, name in enumerate(
        f"{side}/{kind}/{n}" for side in ("train", "test") for kind in ("cat", "dog") for n in range(3)
    ):
        path = root / "pictures" / f"{name}.{('png', 'jpg')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    (root / "pictures.yaml").write_text("name: pictures\nkind: image_folder\nsplit: {train: [train], test: [test]}\n")


def build(root: Path) -> None:
    """Make all seeds in a new folder."""
    torch.manual_seed(0)
    (root / "cohort").mkdir(parents=True)
    simulate_vital_signs(root / "cohort", people=4, seconds=30, seed=1)
    signal = SIGNAL.replace("ROOT", str(root / "cohort"))
    (root / "tiny.yaml").write_text(signal.replace("NAME", "tiny").replace("EPOCHS", "2"))
    (root / "tuned.yaml").write_text(signal.replace("NAME", "tuned").replace("EPOCHS", "1") + "task: regression\n")
    _write_pictures(root)
    (root / "image.yaml").write_text(PICTURES.replace("ROOT", str(root)))
    _write_sources(root / "sources")
    _write_specs(root / "specs")
    _write_recipes(root / "recipes", root)
    pretrain(root / "tiny.yaml", runs=root / "runs", device="cpu")
    finetune(root / "tuned.yaml", root / "runs" / "tiny", runs=root / "runs", device="cpu")
    pretrain(root / "image.yaml", runs=root / "runs", device="cpu")
    (root / "weights").mkdir()
    export_weights(root / "runs" / "pictures", root / "weights" / "w.pth", "official")
    weights = torch.load(root / "weights" / "w.pth", weights_only=True)
    save_file(weights.get("model", weights), root / "weights" / "w.safetensors")
    torch.save(weights.get("model", weights), root / "weights" / "w.pth")
    old = root / "weights" / "old.pth"
    torch.save(weights.get("model", weights), old, _use_new_zipfile_serialization=False)
