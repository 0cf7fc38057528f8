"""Augmentations: distributed as those of torchvision and timm, repeatable, and never in evaluation."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from maekit.adapter import Augmentations
from maekit.adapters.augment.color_jitter import ColorJitter
from maekit.adapters.augment.crop import Crop, area_crop, random_crop
from maekit.adapters.augment.erasing import Erasing
from maekit.adapters.augment.flip import Flip
from maekit.adapters.augment.rand_augment import RandAugment, rand_augment
from maekit.adapters.augment.seeding import seeded
from maekit.adapters.image.image import IMAGENET_MEAN, ImageAdapter
from maekit.data.loading import prepared
from maekit.data.sample import Axis, Sample, SignalInfo

INFO = SignalInfo(("red", "green", "blue"), (Axis("height", 0, "px"), Axis("width", 0, "px")))


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.ascontiguousarray(np.asarray(coarse).transpose(2, 0, 1))


ADAPTER = ImageAdapter(INFO, size=32, patch=8)
SAMPLE = Sample(picture(), None, None, "g", "here")


def varied(augmentations: list[Any], seed: Any) -> np.ndarray:
    """One training sample, as the loader makes it."""
    stages, rng = Augmentations.by_stage(augmentations), np.random.default_rng(seed)
    return stages.vary_signal(*prepared(ADAPTER, stages.vary_sample(SAMPLE, rng)), rng)[0]


def drawn(count: int, *augmentations: Any) -> np.ndarray:
    """(count, 3, size, size) training samples in [0, 1]."""
    return np.stack([varied(list(augmentations), (1, i)) for i in range(count)]).astype(np.float64) / 255


@pytest.mark.parametrize(
    ("further", "theirs"),
    [
        ([], {}),
        ([RandAugment(ADAPTER)], {"auto_augment": "rand-m9-mstd0.5-inc1"}),
        ([ColorJitter(ADAPTER, strength=0.4)], {"color_jitter": 0.4}),
    ],
)
def test_training_samples_are_distributed_as_timms(
    further: list[Any], theirs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean and spread of every statistic that a crop, a flip or a colour can move, over 1,200 draws of each."""
    from timm.data import create_transform

    strict = ImageOps.posterize
    monkeypatch.setattr(ImageOps, "posterize", lambda image, bits: strict(image, max(bits, 1)))
    transform = create_transform(
        32,
        is_training=True,
        interpolation="bicubic",
        scale=(0.2, 1.0),
        mean=IMAGENET_MEAN,
        std=(1, 1, 1),
        **({"color_jitter": 0.0} | theirs),
    )
    whole = Image.fromarray(picture().transpose(1, 2, 0))
    with seeded(np.random.default_rng(0)):
        expected = np.stack([transform(whole).numpy() for _ in range(1200)]).astype(np.float64)
    expected += np.array(IMAGENET_MEAN)[:, None, None]
    found = drawn(1200, Crop(ADAPTER), Flip(ADAPTER), *further)

    def statistics(x: np.ndarray) -> np.ndarray:
        flat = [
            x.mean((2, 3)),
            x.std((2, 3)),
            x.std(1).mean((1, 2))[:, None],
            x[:, :, :8, :8].mean((2, 3)),
            np.abs(np.diff(x, axis=3)).mean((1, 2, 3))[:, None],
        ]
        return np.concatenate(flat, axis=1)

    a, b = statistics(found), statistics(expected)
    standard_error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b)) + 1e-3
    assert (np.abs(a.mean(0) - b.mean(0)) < 4 * standard_error).all()
    assert np.allclose(a.std(0), b.std(0), rtol=0.15, atol=2e-3)


def test_posterising_to_no_bits_does_not_stop_training() -> None:
    """timm's strongest posterising asks for 0 bits, which Pillow refuses from version 12 on."""
    transform = rand_augment("rand-m10-n1-inc1-p1", (0.5, 0.5, 0.5), (32, 32))
    transform.ops = [op for op in transform.ops if op.name.startswith("Posterize")]  # type: ignore[attr-defined]
    assert transform.ops  # type: ignore[attr-defined]
    assert transform(Image.fromarray(picture().transpose(1, 2, 0))).size == (80, 60)


def test_random_crops_are_torchvisions() -> None:
    from torchvision.transforms.v2 import RandomResizedCrop

    rng = np.random.default_rng(0)
    ours = np.array([random_crop(rng, 60, 80, (0.2, 1.0)) for _ in range(4000)])
    theirs_crop = RandomResizedCrop(32, scale=(0.2, 1.0))
    torch.manual_seed(0)
    picture = torch.zeros(3, 60, 80)
    theirs = np.array([list(theirs_crop.make_params([picture]).values())[:4] for _ in range(4000)])
    assert np.allclose(ours.mean(0), theirs.mean(0), rtol=0.05, atol=0.4)
    assert np.allclose(ours.std(0), theirs.std(0), rtol=0.06, atol=0.3)


def test_area_crops_follow_their_formula() -> None:
    """Area and ratio drawn once; sides that stick out are cut, so that wide pictures get fewer full areas."""
    rng = np.random.default_rng(0)
    boxes = np.array([area_crop(rng, 60, 80, (0.08, 1.0)) for _ in range(20_000)])
    draw = np.random.default_rng(1)
    area, ratio = 4800 * draw.uniform(0.08, 1, 20_000), np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3), 20_000))
    width, height = np.minimum(np.round(np.sqrt(area * ratio)), 80), np.minimum(np.round(np.sqrt(area / ratio)), 60)
    for mine, expected in ((boxes[:, 2], height), (boxes[:, 3], width)):
        assert mine.mean() == pytest.approx(expected.mean(), rel=0.02)
        assert mine.std() == pytest.approx(expected.std(), rel=0.04)
    assert (boxes[:, 0] + boxes[:, 2] <= 60).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 80).all()
    assert (boxes[:, 2] == 60).mean() == pytest.approx((height == 60).mean(), abs=0.02)


@pytest.mark.parametrize("kind", ["random", "area", "fixed"])
def test_drawn_from_the_samples_generator_alone(kind: Any) -> None:
    augmentations = [Crop(ADAPTER, kind=kind), Flip(ADAPTER), RandAugment(ADAPTER), ColorJitter(ADAPTER, strength=0.4)]
    before = (random.getstate(), np.random.get_state(legacy=False)["state"]["key"].copy(), torch.get_rng_state())
    once = drawn(6, *augmentations)
    assert random.getstate() == before[0]
    assert (np.random.get_state(legacy=False)["state"]["key"] == before[1]).all()
    assert torch.equal(torch.get_rng_state(), before[2])
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    assert (drawn(6, *augmentations) == once).all()
    assert not (once[0] == once[1]).all()


def test_fixed_crops_are_cut_out_of_the_resized_picture() -> None:
    whole = ADAPTER.resized(torch.from_numpy(picture())).numpy()
    assert whole.shape == (3, 36, 48), "32 / 0.875, rounded down"
    windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 32, 32))[0]
    for i in range(5):
        assert (windows == varied([Crop(ADAPTER, kind="fixed")], i)).all((2, 3, 4)).any()
    assert (varied([], 0) == ADAPTER.prepare(SAMPLE)[0]).all()


def test_half_of_the_pictures_are_flipped() -> None:
    plain = ADAPTER.prepare(SAMPLE)[0]
    flipped = [varied([Flip(ADAPTER)], i) for i in range(200)]
    assert all((x == plain).all() or (x == plain[..., ::-1]).all() for x in flipped)
    assert np.mean([(x == plain).all() for x in flipped]) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (300, 150), (224, 224), (100, 90)])
def test_evaluation_is_the_published_one(height: int, width: int) -> None:
    """Resize the shorter side to 256 (bicubic), cut out the centre: as torchvision does it on a Pillow picture."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    x = picture(height, width)
    published = Compose([Resize(256, interpolation=InterpolationMode.BICUBIC), CenterCrop(224)])
    expected = np.asarray(published(Image.fromarray(x.transpose(1, 2, 0)))).transpose(2, 0, 1)
    found, _ = ImageAdapter(INFO).prepare(Sample(x, None, None, "g", "here"))
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 2, "levels of 256 between two bicubic kernels on bytes"
    assert difference.mean() < 0.2


def test_erasing_takes_its_share_in_training_alone() -> None:
    x = torch.zeros(600, 3, 32, 32, dtype=torch.uint8)
    front = ADAPTER.make_front()
    front.set_augmentations([Erasing(ADAPTER, share=0.25)])
    plain = front.eval()(x)[0]
    torch.manual_seed(0)
    erased = front.train()(x)[0]
    touched = (erased != plain).any(1)
    assert touched.any((1, 2)).float().mean() == pytest.approx(0.25, abs=0.06)
    noise = erased[(erased != plain).all(1)[:, None].expand_as(erased)]
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)
    share = touched[touched.any((1, 2))].float().mean((1, 2))
    assert 0.015 < share.min() < 0.1
    assert share.max() < 0.36
    torch.manual_seed(0)
    assert torch.equal(front(x)[0], erased)


FRACTIONS = ImageAdapter(INFO, size=32, patch=8, full_scale=1.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandAugment(ADAPTER, config="rnd-m9"), "rand-m9-mstd0.5-inc1"),
        (lambda: RandAugment(ADAPTER, config="rand-q9"), "rand-m9-mstd0.5-inc1"),
        (lambda: Crop(ADAPTER, kind="centre"), "random, area, fixed"),  # type: ignore[arg-type]
        (lambda: Erasing(ADAPTER, share=2.0), "share from 0 to 1"),
        (lambda: ColorJitter(FRACTIONS, strength=0.4), "three bytes"),
        (lambda: Crop(ADAPTER, scale=(0.5, 0.2)), "lowest <= highest"),
    ],
)
def test_options_that_cannot_be(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
