"""A variation that changes the label: what was read plays faster or slower, and its rate goes with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.augment.time_stretch import TimeStretch
from maekit.adapters.heart import beats
from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.adapters.spectrogram.spectrogram import SpectrogramAdapter
from maekit.build.experiment import build_experiment
from maekit.config.load import load_recipe
from maekit.core.joint import PRIMARY
from maekit.data.loading import collate
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.data.sampler import Key
from maekit.testing import check_adapter

STRETCH = ["augment=[{name: time_stretch, share: 0.2}]"]


def adapter(seconds: float, rate_hz: float | None = 50.0, **options: Any) -> HeartRateAdapter:
    info = SignalInfo(("x",), (Axis("time", round(seconds * 50)),), "mm", False, rate_hz)
    return HeartRateAdapter(info, window_s=10.0, rate_hz=50.0, patch_s=0.2, **options)


def stretch(made: HeartRateAdapter) -> TimeStretch:
    return TimeStretch(made, share=0.2)


def tone(seconds: float, bpm: float, rate_hz: float = 50.0) -> Sample:
    x = np.sin(2 * np.pi * bpm / 60 * np.arange(round(seconds * rate_hz)) / rate_hz)[None]
    return Sample(x, None, float(bpm), "g", "file:/record@0", rate_hz)


@settings(max_examples=40, deadline=None)
@given(bpm=st.floats(60, 90), rate_hz=st.sampled_from([50.0, 100.0, 30.0]), seed=st.integers(0, 10**6))
def test_label_and_spectral_peak_move_together(bpm: float, rate_hz: float, seed: int) -> None:
    made, rng = adapter(12, None), np.random.default_rng(seed)
    varied = stretch(made)(tone(12.1, bpm, rate_hz), rng)
    x, valid = made.prepare(varied)
    assert x.shape == (1, 500)
    assert valid is None or valid.all(), "the window read is long enough"
    assert varied.label is not None
    assert 0.79 < varied.label / bpm < 1.21
    assert beats.spectral_peak_bpm(x[0], 50.0, difference=False) == pytest.approx(varied.label, abs=1.5)


def test_nothing_aliases_when_it_plays_faster() -> None:
    """24 Hz at 1.2 times the speed would be 28.8 Hz, beyond the half of 50 Hz."""
    made = adapter(12)
    levels = {}
    for seed in range(40):
        varied = stretch(made)(tone(12, 24 * 60), np.random.default_rng(seed))
        assert varied.rate_hz is not None
        x, _ = made.prepare(varied)
        levels[round(varied.rate_hz / 50, 2)] = float(np.abs(x[0, 50:-50]).max())
    assert levels[max(levels)] < 0.1
    assert levels[min(levels)] > 0.8
    assert max(levels) > 1.17


def test_what_is_missing_does_not_tell_the_label() -> None:
    """Of a window no longer than the sample some is missing, anywhere, and as much at every speed."""
    made, shares, firsts, labels = adapter(10), [], [], []
    for seed in range(200):
        varied = stretch(made)(tone(10, 75), np.random.default_rng(seed))
        x, valid = made.prepare(varied)
        assert valid is not None
        assert np.isfinite(x).all()
        shares.append(valid.mean())
        firsts.append(int(valid.argmax()))
        labels.append(varied.label)
    assert np.ptp(shares) < 0.01
    assert np.mean(shares) == pytest.approx(1 / 1.2, abs=0.01)
    assert min(firsts) < 5
    assert max(firsts) > 75
    assert abs(np.corrcoef(firsts, np.array(labels, float))[0, 1]) < 0.2


def test_what_was_not_measured_stays_so() -> None:
    made, gap = adapter(12), np.ones(600, dtype=bool)
    gap[250:300] = False
    holed = replace(tone(12, 75), valid=gap, signal=np.where(gap, 1.0, np.nan)[None])
    for seed in range(10):
        varied = stretch(made)(holed, np.random.default_rng(seed))
        x, valid = made.prepare(varied)
        assert valid is not None
        assert varied.rate_hz is not None
        assert (~valid).sum() == pytest.approx(50 / varied.rate_hz * 50, abs=3)
        assert np.allclose(x, 1, atol=0.05)


def test_classes_and_samples_without_a_label_keep_what_they_have() -> None:
    made, rng = adapter(12), np.random.default_rng(0)
    assert stretch(made)(replace(tone(12, 75), label=None), rng).label is None
    assert stretch(made)(replace(tone(12, 75), label=3), rng).label == 3
    with pytest.raises(ValueError, match=r"share 0.8, expected 0 to 0.5"):
        TimeStretch(made, share=0.8)
    with pytest.raises(ValueError, match="resamples"):
        TimeStretch(SpectrogramAdapter(replace(made.info, rate_hz=50.0), n_fft=64, patch=(8, 2)), share=0.1)


def test_only_training_batches_are_varied_and_each_is_repeatable(tiny: Path) -> None:
    experiment = build_experiment(load_recipe(tiny, [*STRETCH, "task=regression"]))
    check_adapter(experiment.adapter, experiment.source, experiment.augmentations[PRIMARY].of_sample)
    train, plain = experiment.some_samples("train", augment=True), experiment.some_samples("train")
    keys = [[Key(epoch, i) for i in range(12)] for epoch in (0, 1)]
    first, again, later = (collate([train[key] for key in keys[epoch]]) for epoch in (0, 0, 1))
    truth = collate([plain[key] for key in keys[0]])
    assert torch.equal(truth["label"], torch.tensor(experiment.labels[truth["index"].numpy()], dtype=torch.float32))
    assert torch.equal(first["label"], again["label"])
    assert torch.equal(first["signal"], again["signal"])
    assert not torch.equal(first["label"], later["label"])
    ratio = first["label"] / truth["label"]
    assert ((ratio > 0.79) & (ratio < 1.21)).all()
    assert (ratio != 1).sum() > 8
    unlabelled = build_experiment(load_recipe(tiny, STRETCH)).some_samples("train", augment=True)
    assert "label" not in unlabelled[Key(0, 0)]
