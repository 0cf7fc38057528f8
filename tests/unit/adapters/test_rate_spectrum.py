"""Spectra over the logarithm of the rate, tokens that look at harmonics, and patches that speak for a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapter import Front
from maekit.adapters.augment.gain import Gain
from maekit.adapters.augment.time_stretch import TimeStretch
from maekit.adapters.heart.harmonic_cnn import HarmonicCNN
from maekit.adapters.heart.rate_spectrum import RateSpectrumAdapter
from maekit.config.data_spec import load_spec
from maekit.core import GridPatchifier
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UserError
from maekit.runs.evaluate import predictions
from maekit.runs.train import finetune, pretrain
from maekit.tasks.bins import Bins
from maekit.tasks.regression import Regression
from maekit.testing import check_adapter

RATE_HZ, SECONDS = 50.0, 10
TIME = np.arange(int(RATE_HZ * SECONDS)) / RATE_HZ
INFO = SignalInfo(("chest",), (Axis("time", len(TIME), "s", 1 / RATE_HZ),), "mm", False, RATE_HZ)


def spectra(x: Any, valid: Any = None, **options: Any) -> tuple[np.ndarray, torch.Tensor | None]:
    adapter = RateSpectrumAdapter(INFO, **options)
    signal, measured = adapter.prepare(Sample(np.atleast_2d(x), valid, None, "g", "f:/r@0", RATE_HZ))
    found, patches = adapter.make_front()(
        torch.from_numpy(signal)[None], None if measured is None else torch.from_numpy(measured)[None]
    )
    return found[0].numpy(), patches


def beating(bpm: float) -> np.ndarray:
    """A beat with its harmonics."""
    return np.sum([np.cos(2 * np.pi * order * bpm / 60 * TIME + order) / order for order in (1, 2, 3)], axis=0)


@settings(max_examples=25, deadline=None)
@given(bpm=st.floats(50, 120))
def test_the_peak_is_where_the_patch_says(bpm: float) -> None:
    places = RateSpectrumAdapter(INFO).patch_values()
    found = places[spectra(beating(bpm))[0][0].argmax()]
    assert abs(np.log2(found / bpm)) < 1.5 / 36


@settings(max_examples=15, deadline=None)
@given(bpm=st.floats(55, 85), steps=st.integers(3, 12))
def test_another_rate_is_the_same_picture_moved(bpm: float, steps: int) -> None:
    one, two = (spectra(beating(rate))[0][0] for rate in (bpm, bpm * 2 ** (steps / 36)))
    peaks = slice(60, 110)  # from the first harmonic on, lines are as wide as the window makes them: not below
    similarity = [np.corrcoef(one[peaks], two[peaks.start + lag : peaks.stop + lag])[0, 1] for lag in range(16)]
    assert abs(int(np.argmax(similarity)) - steps) <= 1


def test_an_envelope_shows_a_beat_that_the_spectrum_does_not() -> None:
    """Bursts of 12 Hz at 66 a minute: no power at 66."""
    burst = np.exp(-((((TIME * 1.1) % 1) - 0.5) ** 2) / 0.02) * np.sin(2 * np.pi * 12 * TIME)
    found, _ = spectra(burst)
    places = RateSpectrumAdapter(INFO).patch_values()
    heart = (places > 45) & (places < 120)
    assert abs(places[heart][found[2][heart].argmax()] - 66) < 3
    assert found[2][heart].max() > found[0][heart].max() + 1


@pytest.mark.parametrize("gain", [1e-6, -1.0, 1e4])
def test_distance_does_not_matter(gain: float) -> None:
    x = beating(70) + 0.1 * np.random.default_rng(0).standard_normal(len(TIME))
    assert np.allclose(spectra(x)[0], spectra(gain * x)[0], atol=1e-2)


def test_what_was_not_measured_does_not_count() -> None:
    valid = np.ones(len(TIME), bool)
    valid[200:300] = False
    x = beating(70)
    lost = np.where(valid, x, np.nan)
    other = np.where(valid, x, 1e6)
    (one, measured), (two, _) = spectra(lost, valid), spectra(other, valid)
    assert np.isfinite(one).all()
    assert np.allclose(one, two, atol=1e-3)
    assert measured is not None
    assert measured.all()
    # Nor does what a bridge put there: the front itself leaves it out.
    front, mask = RateSpectrumAdapter(INFO).make_front(), torch.from_numpy(valid)[None]
    signals = (torch.from_numpy(np.where(valid, x, filling)).float()[None, None] for filling in (0.0, 5.0))
    zero, five = (front(signal, mask)[0] for signal in signals)
    assert torch.allclose(zero, five, atol=1e-3)
    mostly = np.zeros(len(TIME), bool)
    mostly[:200] = True
    _, measured = spectra(np.where(mostly, x, np.nan), mostly)
    assert measured is not None
    assert not measured.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"highest_hz": 30.0}, "0.45 to 30 Hz must rise, between 0 and 25 Hz"),
        ({"envelopes_hz": ((8.0, 3.0),)}, "8 to 3 Hz must rise"),
        ({"bins_per_octave": 0}, "expected 1 or more"),
    ],
)
def test_spectra_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateSpectrumAdapter(INFO, **options)


def test_a_tap_brings_what_lies_so_far_away() -> None:
    patchifier = GridPatchifier((1, 40), (1,), ("rate",))
    torch.manual_seed(0)
    encoder = HarmonicCNN(patchifier, width=8, depth=1, kernel=1, offsets=(-7, 0, 12)).eval()
    x = torch.randn(1, 1, 40)
    moved = x.clone()
    moved[0, 0, 20] += 3
    change = (encoder(x) - encoder(moved))[0, 1:].abs().sum(-1)
    assert set(torch.where(change > 1e-6)[0].tolist()) == {20 + 7, 20, 20 - 12}


def test_what_stands_behind_the_blocks_is_tuned_like_a_head() -> None:
    patchifier = GridPatchifier((1, 40), (1,), ("rate",))
    task = Regression(
        Front(patchifier),
        HarmonicCNN(patchifier, width=8, depth=2, kernel=1),
        mean=70.0,
        std=9.0,
        tune="partial",
        tuned_blocks=0,
    )
    comb = [name for name, _ in task.named_parameters() if name.startswith("encoder.harmonic")]
    assert comb
    assert all(task.depth_of(name) is None and task.get_parameter(name).requires_grad for name in comb)
    assert not any(p.requires_grad for p in task.encoder.blocks.parameters())


@pytest.mark.parametrize("bpm", [45.0, 72.0, 130.0])
def test_a_patch_speaks_for_its_own_value(bpm: float) -> None:
    """Of the patches inside the range; what those outside of it say does not count."""
    adapter = RateSpectrumAdapter(INFO)
    places = adapter.patch_values()
    task = Regression(
        adapter.make_front(),
        HarmonicCNN(adapter.patchifier, width=8, depth=1, kernel=1),
        mean=70.0,
        std=9.0,
        bins="patches",
        bin_range=(40, 140),
        bin_value="median",
        patch_values=places,
    )
    nearest = int(np.abs(places - bpm).argmin())
    output = torch.zeros(1, len(places))
    output[0, nearest] = 20
    output[0, 0] = output[0, -1] = 40
    value = (task.readout.value(output) * task.label_std + task.label_mean).item()
    assert value == pytest.approx(places[nearest], rel=2e-3)


def test_a_comb_needs_one_axis() -> None:
    with pytest.raises(ValueError, match="one axis"):
        HarmonicCNN(GridPatchifier((1, 4, 4), (1, 1)), width=8, depth=1, kernel=1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=5, max_size=5))
def test_the_median_has_half_on_either_side(logits: list[float]) -> None:
    edges = torch.tensor([0.0, 1.0, 3.0, 4.0, 8.0, 9.0])
    bins = Bins(edges, 0.1, median=True)
    output = torch.tensor([logits])
    found = bins.value(output).item()
    share = output.softmax(1)[0]
    inside = ((found - edges[:-1]) / edges.diff()).clamp(0, 1)
    assert (share * inside).sum().item() == pytest.approx(0.5, abs=1e-4)


def test_the_median_does_not_lie_between_two_candidates() -> None:
    logits = torch.tensor([[4.0, 0.0, 0.0, 0.0, 3.0]])
    edges = torch.linspace(0, 5, 6)
    assert Bins(edges, 0.1, median=True).value(logits).item() < 1
    assert Bins(edges, 0.1).value(logits).item() > 1.3


RECIPE = """
name: spectrum
adapter: {name: rate_spectrum, rate_hz: 25, difference: true, highest_hz: 9, envelopes_hz: [[3, 8]]}
data:
  spec: simulated_vital_signs
  root: ROOT
  window: {axis: time, seconds: 10, hop_seconds: 5}
  split: {validation: [p000], test: [p001]}
model:
  backbone: {name: harmonic_cnn, width: 8, depth: 1, kernel: 5, offsets: [0, 36]}
  decoder: {width: 8, depth: 1, heads: 2}
  masking: {name: span, length: 6}
  mask_ratio: 0.5
  target: raw
schedule: {epochs: 1, warmup_epochs: 0}
training: {batch_size: 4}
"""
TASK = "task={name: regression, bins: patches, bin_range: [40, 140], bin_value: median}"


@pytest.fixture
def written(tmp_path: Path, cohort: Path) -> Path:
    path = tmp_path / "spectrum.yaml"
    path.write_text(RECIPE.replace("ROOT", str(cohort)))
    return path


def test_pretrained_and_tuned_as_a_person_would(written: Path, tmp_path: Path) -> None:
    """Each patch speaks for its rate: what comes out lies in the range, and the spread is known."""
    base = pretrain(written, runs=tmp_path).folder
    run = finetune(written, str(base), runs=tmp_path, overrides=[TASK, "name=tuned"]).folder
    _, rows = predictions(run)
    assert ((rows["output"] > 38) & (rows["output"] < 143)).all()
    assert (rows["uncertainty"] > 0).all()
    frozen = TASK.replace("median", "median, tune: frozen")
    _, rows = predictions(finetune(written, str(base), runs=tmp_path, overrides=[frozen, "name=f"]).folder)
    assert np.isfinite(rows["output"]).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([TASK.replace("[40, 140]", "[2, 9]")], "bin_range 2 to 9 holds 0 patches of 27 to"),
        ([TASK, "adapter={name: heart_rate, patch_s: 0.4}"], "patches stand for values of the label"),
        ([TASK, "adapter.patch_s=0.4"], "patch_s"),
    ],
)
def test_patches_that_speak_for_nothing(written: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        finetune(written, "random", runs=tmp_path, overrides=overrides)


def test_it_keeps_an_adapters_promises(cohort: Path) -> None:
    spec = load_spec("simulated_vital_signs", cohort)
    source = HDF5Windows(spec, cohort, reducers=RateSpectrumAdapter.reducers)
    adapter = RateSpectrumAdapter(source.info, difference=True)
    check_adapter(adapter, source, [TimeStretch(adapter, share=0.1), Gain(adapter, db=3)])
