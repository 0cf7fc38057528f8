"""Augmentations: distributed as those of torchvision and timm, repeatable, and never in evaluation."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from maekit.adapters.image.augment import area_crop, rand_augment, seeded
from maekit.adapters.image.image import IMAGENET_MEAN, ImageAdapter
from maekit.data.sample import Axis, Sample, SignalInfo

INFO = SignalInfo(("red", "green", "blue"), (Axis("height", 0, "px"), Axis("width", 0, "px")))


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.ascontiguousarray(np.asarray(coarse).transpose(2, 0, 1))


def drawn(count: int, **options: Any) -> np.ndarray:
    """(count, 3, size, size) training samples in [0, 1]."""
    adapter = ImageAdapter(INFO, size=32, patch=8, **options)
    sample = Sample(picture(), None, None, "g", "here")
    draws = [adapter.training_sample(sample, np.random.default_rng((1, i)))[0] for i in range(count)]
    return np.stack(draws).astype(np.float64) / 255


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {}),
        ({"randaugment": "rand-m9-mstd0.5-inc1"}, {"auto_augment": "rand-m9-mstd0.5-inc1"}),
        ({"color_jitter": 0.4}, {"color_jitter": 0.4}),
    ],
)
def test_training_samples_are_distributed_as_timms(
    options: dict[str, Any], theirs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
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
    with seeded(0):
        expected = np.stack([transform(whole).numpy() for _ in range(1200)]).astype(np.float64)
    expected += np.array(IMAGENET_MEAN)[:, None, None]
    found = drawn(1200, **options)

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


@pytest.mark.parametrize("crop", ["random", "area", "fixed", "none"])
def test_drawn_from_the_samples_generator_alone(crop: str) -> None:
    options = {"crop": crop, "color_jitter": 0.4, "randaugment": "rand-m9-mstd0.5-inc1"}
    before = (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())
    once = drawn(6, **options)
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    assert torch.equal(torch.get_rng_state(), before[2])
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    assert (drawn(6, **options) == once).all()
    assert not (once[0] == once[1]).all()


def test_fixed_crops_are_cut_out_of_the_resized_picture() -> None:
    adapter = ImageAdapter(INFO, size=32, patch=8, crop="fixed", flip=False)
    sample = Sample(picture(), None, None, "g", "here")
    whole = adapter._covering(torch.from_numpy(picture())).numpy()
    assert whole.shape == (3, 36, 48), "32 / 0.875, rounded down"
    windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 32, 32))[0]
    for i in range(5):
        x, _ = adapter.training_sample(sample, np.random.default_rng(i))
        assert (windows == x).all((2, 3, 4)).any()
    centre, _ = ImageAdapter(INFO, size=32, patch=8, crop="none", flip=False).training_sample(
        sample, np.random.default_rng(0)
    )
    assert (centre == adapter.prepare(sample)[0]).all()


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
    adapter = ImageAdapter(INFO, size=32, patch=8, erasing=0.25)
    x = torch.zeros(600, 3, 32, 32, dtype=torch.uint8)
    front = adapter.make_front()
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"randaugment": "rnd-m9"}, "rand-m9-mstd0.5-inc1"),
        ({"randaugment": "rand-q9"}, "rand-m9-mstd0.5-inc1"),
        ({"crop": "centre"}, "random, area, fixed, none"),
        ({"erasing": 2.0}, "share from 0 to 1"),
        ({"color_jitter": 0.4, "full_scale": 1.0}, "three bytes"),
        ({"scale": (0.5, 0.2)}, "lowest <= highest"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageAdapter(INFO, size=32, patch=8, **options)
