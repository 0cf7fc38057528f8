"""Samples that cannot be read, within a budget: left out, listed, replaced by the next readable one, and never counted twice."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from maekit.adapter import Augmentations
from maekit.adapters.augment.crop import Crop
from maekit.adapters.augment.flip import Flip
from maekit.adapters.image.image import ImageAdapter
from maekit.build.experiment import build_experiment
from maekit.config.data_spec import DataSpec
from maekit.config.load import load_recipe
from maekit.data.images.folder import ImageFolderSource
from maekit.data.loading import Samples, loader
from maekit.data.sampler import BatchSampler
from maekit.data.skipped import Skipped
from maekit.errors import UnreadableError, UserError
from maekit.runs import probe
from maekit.runs.embed import embed
from maekit.runs.evaluate import evaluate, predictions
from maekit.runs.train import pretrain

SPEC = DataSpec(name="p", kind="image_folder")
RNG = np.random.default_rng(0)

RECIPE = """\
name: {name}
adapter: {{name: image, size: 16, patch: 8, crop_ratio: 1.0}}
data: {{spec: {spec}, root: {root}, bad_samples: {allowed}}}
model:
  encoder: {{width: 16, depth: 1, heads: 2}}
  decoder: {{width: 8, depth: 1, heads: 2}}
schedule: {{epochs: 2}}
training: {{batch_size: 8, log_every_steps: 1, save_every_steps: 1, workers: {workers}}}
"""
TORN = ("train/cat/3.png", "train/dog/7.png", "test/cat/1.png")


def make(root: Path, names: list[str], size: int = 24) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size)).save(root / name)
    return root


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training and 8 test pictures, of which two and one cannot be read."""
    root = tmp_path_factory.mktemp("torn")
    make(
        root,
        [f"{s}/{c}/{i}.png" for s, n in (("train", 8), ("test", 4)) for c in ("cat", "dog") for i in range(n)],
        size=16,
    )
    for name in TORN:
        (root / name).write_bytes((root / name).read_bytes()[:60])
    return root


def recipe(tmp_path: Path, torn: Path, allowed: float, *, workers: int = 0, name: str = "r") -> Path:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: torn\nkind: image_folder\nsplit: {train: [train], test: [test]}\n")
    path = tmp_path / f"{name}.yaml"
    path.write_text(RECIPE.format(name=name, spec=spec, root=torn, allowed=allowed, workers=workers))
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_without_a_budget_the_first_stops_the_run_in_one_paragraph(tmp_path: Path, torn: Path, workers: int) -> None:
    with pytest.raises(UnreadableError) as caught:
        pretrain(recipe(tmp_path, torn, 0, workers=workers), runs=tmp_path / "runs", device="cpu")
    text = str(caught.value)
    assert text.startswith(str(torn / "train"))
    assert "Traceback" not in text
    assert text.count("Remove or replace the file.") == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_within_the_budget_they_are_left_out_and_listed(
    tmp_path: Path, torn: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    run = pretrain(recipe(tmp_path, torn, 2, workers=workers), runs=tmp_path / "runs", device="cpu").folder
    listed = (run / "bad_samples.txt").read_text().splitlines()
    assert sorted(line.split(": ")[0] for line in listed) == [str(torn / name) for name in TORN[:2]]
    assert "2 samples could not be read" in caplog.text
    assert "bad_samples.txt" in caplog.text
    with pytest.raises(
        UserError,
        match=r"too many samples that cannot be read; got 3; expected at most data.bad_samples, which allows 2",
    ):
        evaluate(run, device="cpu")


def test_a_raised_budget_goes_on_with_the_run(tmp_path: Path, torn: Path) -> None:
    path = recipe(tmp_path, torn, 1)
    with pytest.raises(UserError, match="too many"):
        pretrain(path, runs=tmp_path / "runs", device="cpu")
    pretrain(path, overrides=["data.bad_samples=0.1"], runs=tmp_path / "runs", device="cpu")
    assert len((tmp_path / "runs/r/bad_samples.txt").read_text().splitlines()) == 2


def test_who_stands_in_depends_on_nothing_but_the_order(torn: Path) -> None:
    """The same samples in a step for any number of processes, workers, and after a restart."""
    source = ImageFolderSource(SPEC, torn)
    adapter = ImageAdapter(source.info, size=16, patch=8)
    varied = Augmentations.by_stage([Crop(adapter), Flip(adapter)])
    train = np.flatnonzero(source.groups == "train")

    def epoch(
        world_size: int = 1, gradient_accumulation_steps: int = 1, workers: int = 0, first: int = 0
    ) -> list[list[Any]]:
        """(index, content) of the samples of every step of epoch 1."""
        steps: list[list[Any]] = [[] for _ in range(4 - first)]
        for rank in range(world_size):
            samples = Samples(source, train, adapter, patches=4, seed=5, augmentations=varied, skipped=Skipped(3))
            sampler = BatchSampler(
                16, 4, seed=5, gradient_accumulation_steps=gradient_accumulation_steps, rank=rank, world_size=world_size
            )
            sampler.start_at(1, first)
            for i, batch in enumerate(loader(samples, sampler, workers=workers)):
                pairs = zip(batch["index"].tolist(), batch["signal"], strict=True)
                steps[i // gradient_accumulation_steps] += [(index, x.numpy().tobytes()) for index, x in pairs]
        return [sorted(step) for step in steps]

    whole = epoch()
    assert sum(map(len, whole)) == 16
    assert len({index for step in whole for index, _ in step}) == 14
    assert epoch(world_size=2) == whole
    assert epoch(world_size=2, gradient_accumulation_steps=2) == whole
    assert epoch(workers=2) == whole
    assert epoch(first=2) == whole[2:]


def test_a_stand_in_is_not_counted_in_evaluation_and_embeddings(tmp_path: Path, torn: Path) -> None:
    run = pretrain(recipe(tmp_path, torn, 3), runs=tmp_path / "runs", device="cpu").folder
    _, rows = predictions(run, device="cpu")
    assert len(rows["index"]) == len(set(rows["index"].tolist())) == 7
    embed(run, tmp_path / "features.h5", device="cpu")
    with h5py.File(tmp_path / "features.h5") as file:
        for side, count in (("train", 14), ("test", 7)):
            assert len(file[side]["features"]) == len(file[side]["location"]) == count
            assert not {location.decode() for location in file[side]["location"]} & {str(torn / name) for name in TORN}
    labelled = recipe(tmp_path, torn, 3, name="c")
    labelled.write_text(labelled.read_text() + "task: classification\n")
    experiment = build_experiment(load_recipe(labelled), labels=True)
    features, indices = probe.raw(experiment, "train")
    assert len(features) == len(indices) == 14
    readable = [i for i in experiment.split["train"] if not str(experiment.source.path(int(i))).endswith(TORN)]  # type: ignore[attr-defined]
    assert indices.tolist() == readable


def test_a_list_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    skipped = Skipped(2, tmp_path / "file/bad_samples.txt")
    with pytest.raises(UserError, match="cannot be written"):
        skipped.note(UnreadableError("torn", location="a.jpg"))


def test_the_list_keeps_any_name_and_is_shared(tmp_path: Path) -> None:
    one, other = (Skipped(3, tmp_path / "run/bad.txt") for _ in range(2))
    for name in ("a\u2028b.jpg", "new\nline.jpg", "\udcff.jpg"):
        for _ in range(2):
            one.note(UnreadableError("torn", location=name))
            other.note(UnreadableError("torn", location=name))
    assert len(one.names()) == 3
    with pytest.raises(UserError, match="got 4"):
        other.note(UnreadableError("torn", location="d.jpg"))
    memory = Skipped(1)
    memory.note(UnreadableError("torn", location="a.jpg"))
    memory.note(UnreadableError("torn", location="a.jpg"))
    with pytest.raises(UserError, match=r"got 2.*b\.jpg: torn"):
        memory.note(UnreadableError("torn", location="b.jpg"))


def test_errors_pass_a_pipe_word_for_word() -> None:
    error = UnreadableError("torn", location="a.jpg", value=3, expected="whole", hint="Mend it.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is UnreadableError
    assert str(again) == str(error)
    assert (again.problem, again.location, again.expected, again.hint) == ("torn", "a.jpg", "whole", "Mend it.")


def test_every_sample_unreadable(tmp_path: Path, torn: Path) -> None:
    root = Path(shutil.copytree(torn, tmp_path / "root"))
    for path in root.glob("train/*/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        pretrain(recipe(tmp_path, root, 100), runs=tmp_path / "runs", device="cpu")
