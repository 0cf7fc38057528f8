"""When augmentations run, what they may change, and how recipes name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blobs import PICTURE, write

from maekit import plugins
from maekit.adapter import Adapter, Augmentations, BatchAugmentation, SampleAugmentation, SignalAugmentation
from maekit.build.experiment import build_experiment
from maekit.config.load import load_recipe
from maekit.core import GridPatchifier
from maekit.core.joint import PRIMARY
from maekit.data import loading
from maekit.data.loading import Samples
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.data.sampler import Key
from maekit.errors import UserError
from maekit.runs.train import pretrain
from maekit.testing import check_augmentation

INFO = SignalInfo(("t",), (Axis("time", 12),))


class Line(Adapter):
    """Twelve values; notes what it prepares."""

    def __init__(self) -> None:
        super().__init__(INFO, GridPatchifier((1, 12), (6,), ("time",)))
        self.prepared: list[str] = []

    def prepare(self, sample: Sample) -> tuple[Any, Any]:
        self.prepared.append(sample.location)
        return super().prepare(sample)

    def draw(self, axes: Any, x: Any, *, title: str = "") -> None: ...


class AddInPlace(SignalAugmentation):
    def __call__(self, signal: Any, valid: Any, rng: Any) -> tuple[Any, Any]:
        signal += 1
        return signal, valid


class Halve(SampleAugmentation):
    """The label with the signal, without saying so."""

    def __call__(self, sample: Sample, rng: Any) -> Sample:
        label = sample.label / 2 if isinstance(sample.label, float) else sample.label
        return replace(sample, signal=np.asarray(sample.signal, dtype=np.float32) / 2, label=label)


class Ready(SampleAugmentation):
    def __call__(self, sample: Sample, rng: Any) -> Sample:
        return replace(sample, signal=np.full((1, 12), 5, dtype=np.float32), prepared=True)


class Dropout(BatchAugmentation):
    def __call__(self, x: Any, rng: Any) -> Any:
        return x * torch.from_numpy(rng.random(x.shape) < 0.5).to(x)


class Source:
    info = SignalInfo(("",), (Axis("time", 12),))

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.zeros((1, 12)), None, 2.5, "g", str(index))


def samples(adapter: Line, *augmentations: Any) -> Samples:
    by_stage = Augmentations.by_stage(augmentations) if augmentations else None
    return Samples(Source(), [0, 1], adapter, patches=2, augmentations=by_stage)  # type: ignore[arg-type]


@pytest.mark.parametrize("room", [None, 0])
def test_what_is_prepared_is_kept_and_not_spoilt(room: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared once, where there is room, however often it is read; an augmentation may work in place."""
    if room is not None:
        monkeypatch.setattr(loading, "MOST_KEPT", room)
    adapter = Line()
    varied = samples(adapter, AddInPlace())
    for epoch in range(3):
        for position in range(2):
            assert (varied[Key(epoch, position)]["signal"] == 1).all()
    assert len(adapter.prepared) == (6 if room == 0 else 2)


def test_stages_run_in_their_order_whatever_the_list_says() -> None:
    adapter = Line()
    item = samples(adapter, AddInPlace(), Ready(), Halve())[Key(0, 0)]
    assert (item["signal"] == 3.5).all(), "5 at first, then halved, then prepared as it is, then 1 added"
    assert item["label"] == 1.25
    assert not adapter.prepared
    assert item["signal"].dtype == np.float32


def test_batches_are_varied_in_training_alone_and_repeatably() -> None:
    front = Line().make_front()
    front.set_augmentations([Dropout()])
    x = torch.ones(2, 1, 12)
    assert torch.equal(front.eval()(x)[0], x)
    torch.manual_seed(3)
    once = front.train()(x)[0]
    torch.manual_seed(3)
    assert torch.equal(front(x)[0], once)
    assert 0 < once.mean() < 1


class GlobalNoise(SignalAugmentation):
    def __call__(self, signal: Any, valid: Any, rng: Any) -> tuple[Any, Any]:
        return signal + np.random.default_rng().standard_normal(), valid


class Shorter(SignalAugmentation):
    def __call__(self, signal: Any, valid: Any, rng: Any) -> tuple[Any, Any]:
        return signal[:, :6], valid


class Infinite(SignalAugmentation):
    def __call__(self, signal: Any, valid: Any, rng: Any) -> tuple[Any, Any]:
        return signal + np.inf, valid


class Careless(SampleAugmentation):
    def __call__(self, sample: Sample, rng: Any) -> Sample:
        sample.signal[0] += 1  # type: ignore[operator]
        return replace(sample)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (GlobalNoise, "something beside its generator"),
        (Shorter, "shape"),
        (Infinite, "not finite"),
        (Halve, "without declaring"),
        (Careless, "something beside|alters the sample"),
    ],
)
def test_the_conformance_check_finds_what_is_wrong(kind: type[Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_augmentation(kind(), Line(), Source()[0])


def test_the_conformance_check_passes_what_is_right() -> None:
    for augmentation in (AddInPlace(), Ready(), Dropout()):
        check_augmentation(augmentation, Line(), Source()[0])


def test_a_recipe_lists_them_by_name(tiny: Path, tmp_path: Path) -> None:
    assert {"gain", "noise", "mirror", "crop", "time_shift"} <= set(plugins.names("augmentations"))
    experiment = build_experiment(load_recipe(tiny, ["augment=[polarity, {name: noise, snr_db: 10}]"]))
    assert [type(each).__name__ for each in experiment.augmentations[PRIMARY].of_signal] == ["Polarity", "Noise"]
    run = pretrain(tiny, runs=tmp_path, overrides=["augment=[polarity]", "schedule.epochs=1"]).folder
    assert [choice.name for choice in load_recipe(run / "recipe.yaml").recipe.augment] == ["polarity"]
    with pytest.raises(UserError, match="differ in augment"):
        pretrain(tiny, runs=tmp_path, overrides=["augment=[{name: gain, db: 1}]", "schedule.epochs=1"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment=[nois]", "no augmentation of this name.*Did you mean 'noise'"),
        ("augment=[{name: gain, decibels: 3}]", "gain has no option decibels"),
        ("augment=[gain]", "gain: give one of db"),
        ("augment=[{name: mirror, axis: azimuth}]", "mirror: axis 'azimuth', expected one of time"),
        ("augment=[crop]", "crop: it is for the adapter image"),
        ("augment=gain", "list"),
        ("adapter.sign_flip=true", r"augmentation now.*augment: \[polarity\]"),
        ("adapter.gain_jitter=0.2", r"augmentation now.*\{name: gain, share: 0.2\}"),
        ("adapter.time_stretch=0.2", r"augmentation now.*time_stretch"),
    ],
)
def test_mistakes_are_answered_with_the_name_and_the_place(tiny: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        build_experiment(load_recipe(tiny, [override]))
    assert override.partition("=")[0] in str(error.value)


def test_those_of_an_auxiliary_signal_stand_inside_its_choice(tmp_path: Path) -> None:
    recipe = write(tmp_path, frames=6)
    varied = PICTURE.replace("}", ", augment: [{name: noise, snr_db: 3}]}")
    experiment = build_experiment(load_recipe(recipe, [f"auxiliary={{picture: {varied}}}"]))
    train, plain = (experiment.some_samples("train", augment=augment)[Key(0, 0)] for augment in (True, False))
    assert np.array_equal(train["signal"], plain["signal"])
    assert not np.array_equal(train["picture.signal"], plain["picture.signal"])
    assert 0 <= train["picture.signal"].min() <= train["picture.signal"].max() <= 1
    wrong = PICTURE.replace("}", ", augment: 3}")
    with pytest.raises(UserError, match=r"a list such as"):
        build_experiment(load_recipe(recipe, [f"auxiliary={{picture: {wrong}}}"]))
