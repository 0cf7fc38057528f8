"""Targets along an axis (band, derivative, log spectrum): by definition, with gaps, then through a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.build.experiment import build_experiment
from maekit.build.models import make_target
from maekit.build.tasks import TrainingPatches
from maekit.build.weights import read_weights
from maekit.config.load import load_recipe
from maekit.core import GridPatchifier, MaskedAutoencoder, RandomMasking, TransformerConfig
from maekit.core.targets.axis import AxisTarget
from maekit.core.targets.band import BandTarget, band_pass
from maekit.core.targets.base import Target
from maekit.core.targets.derivative import DerivativeTarget
from maekit.core.targets.log_spectrum import LogSpectrumTarget, power_spectrum
from maekit.errors import UserError
from maekit.runs.report import report
from maekit.runs.train import pretrain

RATE = 20.0
CUT = GridPatchifier((2, 400), (10,), ("time",), (RATE,))
"""Two channels, 20 s."""
MAP = GridPatchifier((1, 6, 400), (3, 10), ("place", "time"), (None, RATE))
QUICK = ["schedule.epochs=1", "schedule.warmup_epochs=0"]


def tone(hz: float, phase: float = 0.0) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hz * torch.arange(400) / RATE + phase)


def along_time(patchifier: GridPatchifier = CUT) -> list[Target]:
    return [
        BandTarget(patchifier, low=0.7, high=3.0, axis="time"),
        DerivativeTarget(patchifier, axis="time"),
        LogSpectrumTarget(patchifier, low=0.7, high=3.0, window=4.0, axis="time"),
    ]


def fitted(target: Target, patchifier: GridPatchifier = CUT) -> Target:
    target.fit([patchifier.patchify(torch.randn(1, *patchifier.sample_shape))[0] for _ in range(20)])
    return target


@settings(max_examples=30, deadline=None)
@given(inside=st.floats(0.9, 2.8), slow=st.floats(0.0, 0.4), fast=st.floats(3.5, 9.5), phase=st.floats(0, 6.3))
def test_band_pass_keeps_the_band_and_removes_the_rest(inside: float, slow: float, fast: float, phase: float) -> None:
    in_band, rest = tone(inside, phase), tone(slow, phase) + tone(fast, 1.0)
    found = band_pass(in_band + rest, 0.7 / RATE, 3 / RATE)
    # Away from the ends, where the odd reflection differs from how the tones would go on.
    middle = slice(80, -80)
    assert (found - in_band)[middle].abs().max() < 0.06
    assert ((in_band + rest - found) - rest)[middle].abs().max() < 0.06


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5))
def test_band_pass_is_linear_without_delay_and_removes_offset_and_slope(seed: int, shift: float) -> None:
    x, y = torch.randn(2, 400, generator=torch.Generator().manual_seed(seed))
    low, high = 0.7 / RATE, 3 / RATE
    band = band_pass(x, low, high)
    assert torch.allclose(band_pass(x.flip(0), low, high), band.flip(0), atol=1e-4)
    assert torch.allclose(band_pass(x + 2 * y, low, high), band + 2 * band_pass(y, low, high), atol=1e-4)
    drifted = x + shift * (1 + torch.arange(400) / 100)
    assert torch.allclose(band_pass(drifted, low, high), band, atol=0.02 * (1 + abs(shift)))


def test_low_zero_keeps_the_mean() -> None:
    assert torch.allclose(band_pass(torch.full((400,), 3.0), 0.0, 0.1), torch.full((400,), 3.0), atol=1e-4)


def test_the_derivative_of_a_ramp_is_its_slope() -> None:
    x = torch.stack([0.3 * torch.arange(400.0) + 7, -2.0 * torch.arange(400.0)])[None]
    found = CUT.unpatchify(DerivativeTarget(CUT)(CUT.patchify(x)))
    assert torch.allclose(found[0, 0], torch.tensor(0.3), atol=1e-4)
    assert torch.allclose(found[0, 1], torch.tensor(-2.0), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(points=st.integers(4, 101), seed=st.integers(0, 1000), tapered=st.booleans())
def test_parseval(points: int, seed: int, tapered: bool) -> None:
    x = torch.randn(3, points, generator=torch.Generator().manual_seed(seed)).double()
    taper = (torch.hann_window(points) if tapered else torch.ones(points)).double()
    expected = ((x * taper) ** 2).sum(-1) / (taper**2).sum()
    assert torch.allclose(power_spectrum(x, taper).sum(-1), expected)


def test_log_spectrum_is_that_of_the_window_around_the_patch() -> None:
    """1 Hz in the first half, 2.5 Hz in the second: bins of a window of 4 s are 0.25 Hz apart, from 0.75 to 3 Hz."""
    target = LogSpectrumTarget(CUT, low=0.7, high=3.0, window=4.0)
    assert target.dim == 2 * 10
    x = torch.where(torch.arange(400) < 200, tone(1.0), tone(2.5)).expand(1, 2, 400)
    spectra = target(CUT.patchify(x)).view(40, 10, 2)
    peaks = 0.75 + 0.25 * spectra.argmax(1)
    assert (peaks[:16] == 1.0).all()
    assert (peaks[-16:] == 2.5).all()
    # A tone of power 1/2 on a bin: two thirds of it there, a sixth on either side (Hann).
    assert spectra[5, 1, 0].exp().item() == pytest.approx(1 / 3, rel=0.02)
    shifted = target(
        CUT.patchify(torch.where(torch.arange(400) < 200, tone(1.0, 1.3), tone(2.5, 0.4)).expand(1, 2, 400))
    )
    assert torch.allclose(shifted[:, :16], target(CUT.patchify(x))[:, :16], atol=0.2), "independent of the phase"
    whole = LogSpectrumTarget(CUT, low=0.7, high=3.0, window=20.0)
    same = whole(CUT.patchify(torch.randn(2, 2, 400)))
    assert torch.equal(same, same[:, :1].expand_as(same))


@pytest.mark.parametrize("kind", range(3))
def test_among_several_axes_the_named_one_is_used(kind: int) -> None:
    """As for each line alone; for the log spectrum, the mean power of the lines that a patch covers."""
    x = torch.randn(2, 1, 6, 400)
    found = along_time(MAP)[kind](MAP.patchify(x))
    lines = GridPatchifier((1, 400), (10,), ("time",), (RATE,))
    each = [along_time(lines)[kind](lines.patchify(x[:, :, i])) for i in range(6)]
    if kind < 2:
        expected = MAP.patchify(torch.stack([lines.unpatchify(one) for one in each], dim=2))
    else:
        power = torch.stack([one.exp() for one in each], dim=1).view(2, 2, 3, 40, 10).mean(2)
        expected = power.log().reshape(2, 80, 10)
    assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("gap", [slice(12, 15), slice(0, 5), slice(36, 40)])
def test_gaps_do_not_influence_the_loss(kind: int, gap: slice) -> None:
    """In the loss mask targets equal those without the gap, and values inside the gap change nothing."""
    target, x = fitted(along_time()[kind]), torch.stack([tone(1.2) + 2 * tone(0.1, 0.5), tone(2.0)])[None]
    assert isinstance(target, AxisTarget)
    patches, valid = CUT.patchify(x), torch.ones(1, 40, dtype=torch.bool)
    valid[:, gap] = False
    known = target.loss_mask(valid)
    assert known is not None
    assert not known[:, gap].any()
    assert known.sum() > 40 - (gap.stop - gap.start) - 10
    truth = target(patches)
    holed = target(torch.where(valid[..., None], patches, 0.0), valid)
    near = (holed - truth).abs().mean(-1)[known].max()
    assert near < 0.15, "standard deviations of the target"
    if kind < 2:
        zeros = target(torch.where(valid[..., None], patches, 0.0))
        assert (zeros - truth).abs().mean(-1)[valid].max() > 3 * near

    torch.manual_seed(0)
    model = MaskedAutoencoder(
        CUT,
        encoder=TransformerConfig(16, 1, 2),
        decoder=TransformerConfig(16, 1, 2),
        masking=RandomMasking(CUT),
        mask_ratio=0.5,
        target=target,
    )
    noise = torch.rand(1, 40)
    spoiled = CUT.unpatchify(torch.where(valid[..., None], patches, torch.nan))
    first, second = model(x, valid=valid, noise=noise), model(spoiled, valid=valid, noise=noise)
    assert torch.equal(first.loss, second.loss)
    removed = first.mask & known
    assert torch.equal(model.loss_mask(first.mask, valid), removed)
    assert first.loss.item() == pytest.approx(((first.pred - holed) ** 2).mean(-1)[removed].mean().item(), rel=1e-4)
    first.loss.backward()
    gradients = [p.grad for p in model.encoder.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0


@pytest.mark.parametrize("kind", range(3))
def test_fitted_targets_have_unit_variance(kind: int) -> None:
    target = along_time()[kind]
    samples = [CUT.patchify(torch.randn(1, 2, 400) * 3 + tone(1.0))[0] for _ in range(30)]
    samples[0][7] = torch.nan
    target.fit(samples)
    values = torch.cat([target(sample[None])[0] for sample in samples[1:]])
    assert values.mean(0).abs().max() < 0.2
    assert values.std().item() == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match="measured without a gap for long enough along time"):
        along_time()[kind].fit([torch.full((40, 20), torch.nan)])
    with pytest.raises(ValueError, match="does not vary"):
        along_time()[kind].fit([torch.ones(40, 20)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BandTarget(CUT, low=0.7, high=3.0, axis="tim"), r"no axis 'tim'; this grid has \('time',\)"),
        (lambda: BandTarget(MAP, low=0.7, high=3.0), "name the axis.*place.*time"),
        (lambda: BandTarget(MAP, low=0.7, high=3.0, axis="place"), r"along place.*known: time \(20 points per unit\)"),
        (lambda: BandTarget(GridPatchifier((1, 40), (10,)), low=0.7, high=3.0), "known: none"),
        (lambda: BandTarget(CUT, low=3.0, high=0.7), "must rise, between 0 and 10"),
        (lambda: BandTarget(CUT, low=3.0, high=11.0), "must rise, between 0 and 10"),
        (
            lambda: LogSpectrumTarget(CUT, low=0.7, high=3.0, window=30.0),
            r"expected 0.5 \(a patch\) to 20 \(the time axis\)",
        ),
        (lambda: LogSpectrumTarget(CUT, low=1.1, high=1.2, window=2.0), "a frequency every 0.5, none of them from 1.1"),
        (lambda: GridPatchifier((1, 40), (10,), ("time",), (1.0, 2.0)), "rates .* has 2"),
    ],
)
def test_impossible_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_statistics_of_training_samples_travel_in_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    band = "model.target={name: band, low: 0.7, high: 3}"
    run = pretrain(tiny, runs=tmp_path, overrides=[*QUICK, band]).folder
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["loss_mean_patch"] > 0
    trained = read_weights(run)["model.target.std"]
    assert trained.shape == (10,)
    again = build_experiment(load_recipe(run / "recipe.yaml"))
    target = make_target(again)
    target.fit(TrainingPatches(again))
    assert isinstance(target, BandTarget)
    assert torch.equal(target.std, trained)
    assert len(list(TrainingPatches(again))) == len(list(TrainingPatches(again))) == 20
    assert "cannot be turned back" in report(run).read_text()


def test_mistakes_in_a_recipe_are_placed(tiny: Path, tmp_path: Path) -> None:
    cases = {
        "{name: band, low: 0.7, high: 3, axis: range}": r"no axis 'range'; this grid has \('time',\)",
        "{name: band, low: 0.7, high: 30}": "between 0 and 5",
        "{name: band, low: 0.7, hihg: 3}": "Did you mean 'high'",
        "{name: bnad, low: 0.7, high: 3}": "Did you mean 'band'",
    }
    for target, message in cases.items():
        with pytest.raises(UserError, match=message):
            pretrain(tiny, runs=tmp_path, overrides=[*QUICK, f"model.target={target}"])
