"""Regression by value, with a spread, and over bins: each from its definition, then as a person runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapter import Front
from maekit.core import GridPatchifier, TransformerConfig
from maekit.core.autoencoder import Encoder
from maekit.errors import UserError
from maekit.metrics.calibration import calibration
from maekit.runs.evaluate import predictions
from maekit.runs.train import finetune
from maekit.tasks.bins import Bins
from maekit.tasks.readout import Heteroscedastic
from maekit.tasks.regression import Regression

CUT = GridPatchifier((1, 40), (10,), ("time",))
WAYS: list[dict[str, Any]] = [{}, {"spread": "gaussian"}, {"spread": "laplace"}, {"bins": 50}]


def regressor(mean: float = 75.0, std: float = 10.0, **options: Any) -> Regression:
    torch.manual_seed(0)
    return Regression(Front(CUT), Encoder(CUT, TransformerConfig(16, 1, 2)), mean=mean, std=std, **options)


def noisy(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Level tells the label, roughness how far the label is off."""
    rng = np.random.default_rng(seed)
    level, rough = rng.uniform(-2, 2, count), rng.uniform(0.02, 1, count)
    ripple = np.where(np.arange(40) % 2, 1.0, -1.0)
    signal = level[:, None] + rough[:, None] * ripple
    label = 75 + 5 * level + 6 * rough * rng.standard_normal(count)
    return {
        "signal": torch.from_numpy(signal[:, None].astype(np.float32)),
        "label": torch.from_numpy(label),
        "index": torch.arange(count),
    }


def trained(steps: int, **options: Any) -> Regression:
    task = regressor(**options)
    optimizer = torch.optim.Adam(task.parameters(), 5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        task(noisy(128, step)).loss.backward()
        optimizer.step()
    return task.eval()


@settings(max_examples=50, deadline=None)
@given(label=st.floats(-2.5, 2.5), count=st.integers(20, 100), width=st.floats(0.5, 2))
def test_a_label_over_bins_keeps_its_mean_and_spread(label: float, count: int, width: float) -> None:
    """The normal distribution's own, and that of a number rounded to a bin (Sheppard): w^2 / 12."""
    step = 10 / count
    bins = Bins(torch.linspace(-5, 5, count + 1), max(width * step, 0.05))
    target = bins.target(torch.tensor([label]))
    assert target.sum() == pytest.approx(1, abs=1e-5)
    logits = target.clamp(min=1e-30).log()
    assert bins.value(logits).item() == pytest.approx(label, abs=0.03 * step)
    assert bins.std(logits).item() ** 2 == pytest.approx(bins.smoothing.item() ** 2 + step**2 / 12, rel=0.1)
    # Among all distributions that very one has the least loss.
    others = logits + torch.randn(20, count)
    least = bins.loss(logits, torch.tensor([label]))
    assert (bins.loss(others, torch.full((20,), label)) >= least - 1e-5).all()


def test_labels_beyond_the_bins_count_as_on_the_edge() -> None:
    bins = Bins(torch.linspace(0, 1, 11), 0.05)
    assert torch.equal(bins.target(torch.tensor([-3.0, 40.0])), bins.target(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("spread", ["gaussian", "laplace"])
def test_likelihoods_are_torchs(spread: Any) -> None:
    output, label = torch.randn(100, 2), torch.randn(100)
    readout = Heteroscedastic(spread)
    std = readout.std(output)
    theirs: torch.distributions.Distribution = torch.distributions.Normal(output[:, 0], std)
    if spread == "laplace":
        theirs = torch.distributions.Laplace(output[:, 0], std / 2**0.5)
    assert torch.allclose(readout.loss(output, label), -theirs.log_prob(label), atol=1e-5)
    assert torch.isfinite(readout.loss(1e4 * output, label)).all()


@pytest.mark.parametrize("options", WAYS[1:], ids=str)
def test_uncertainty_finds_the_uncertain_ones(options: dict[str, Any]) -> None:
    task, batch = trained(250, **options), noisy(2000, seed=10**6)
    rows = task.eval_step(batch)
    found = task.compute_metrics(rows)
    unlabelled = {name: value for name, value in batch.items() if name != "label"}
    estimate = task.eval_step(unlabelled)
    assert set(estimate) < set(rows), "labels add rows and change none"
    assert all(torch.equal(value, rows[name]) for name, value in estimate.items())
    values, share = task.values, estimate["log_probability"].double().exp().numpy()
    assert values is not None
    assert np.allclose(share.sum(1), 1, atol=1e-5)
    mean = share @ values
    inside = (mean > values[20]) & (mean < values[-20])  # a distribution is cut where its values end
    assert np.abs(mean - estimate["output"].numpy())[inside].mean() < 0.3
    spread = np.sqrt((share * (values - mean[:, None]) ** 2).sum(1))
    assert np.allclose(spread[inside], estimate["uncertainty"].numpy()[inside], rtol=0.1, atol=0.3)
    assert found["mae"] < 3.5, "3.0 is the best there is: 6 rough / 2 * 0.8, and rough 0.5 on average"
    assert found["mae_certain_half"] < 0.7 * found["mae"]
    assert found["mae_certain_half"] < found["aurc"] + 0.3 < found["mae"]
    assert 0.7 < found["error_in_std"] < 1.3
    assert found["loss"] == pytest.approx(task(batch).loss.item(), abs=1e-4)


def test_a_value_alone_has_no_uncertainty() -> None:
    task = regressor()
    assert task.values is None
    assert list(task.predictions(torch.zeros(5, 1))) == ["output"]
    assert "uncertainty" not in task.eval_step(noisy(5))
    assert "aurc" not in task.compute_metrics(task.eval_step(noisy(5)))


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_the_unit_of_the_label_does_not_matter(options: dict[str, Any]) -> None:
    """Beats a minute or hertz: the same losses, predictions and uncertainties."""
    one, other = regressor(**options).eval(), regressor(75 / 60, 10 / 60, **options).eval()
    batch = noisy(20)
    scaled = batch | {"label": batch["label"] / 60}
    assert one(batch).loss.item() == pytest.approx(other(scaled).loss.item(), rel=1e-4)
    theirs = other.predictions(other.output(scaled))
    for name, value in one.predictions(one.output(batch)).items():
        assert torch.allclose(value, theirs[name] * (1 if name == "log_probability" else 60), rtol=1e-4, atol=1e-4)
    assert one.values is None or np.allclose(one.values, 60 * other.values, rtol=1e-5)  # type: ignore[operator]


def test_calibration_of_what_is_known() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(0.1, 5, 4000)
    error = std * rng.standard_normal(4000)
    found = calibration(error, std)
    mae = np.abs(error).mean()
    assert found["error_in_std"] == pytest.approx(1, abs=0.05)
    assert found["mae_certain_half"] == pytest.approx(np.abs(error)[np.argsort(std)[:2000]].mean())
    assert found["aurc"] < 0.6 * mae
    nothing = calibration(np.sort(error), np.ones(4000))
    assert nothing["aurc"] == pytest.approx(mae)
    assert nothing["mae_certain_half"] == pytest.approx(mae)
    assert calibration(error, std / 2)["error_in_std"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 50, "spread": "laplace"}, "for a value by itself"),
        ({"bin_range": (40, 160)}, "without `bins`"),
        ({"bins": 50, "bin_range": (160, 40)}, "bins=50 over 160 to 40.*a range that rises"),
        ({"bins": 1}, "at least 2 bins"),
        ({"bins": 10, "bin_smoothing": 0.0}, "smoothing above 0"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        regressor(**options)


def test_bins_as_a_person_runs_them(tiny: Path, tmp_path: Path) -> None:
    """The bins travel with the run, whatever the training labels are where it is opened."""
    task = "task={name: regression, bins: 24, bin_smoothing: 4, spread: null}"
    run = finetune(tiny, "random", runs=tmp_path, overrides=[task]).folder
    metrics, rows = predictions(run)
    assert (rows["uncertainty"] > 0).all()
    assert metrics["aurc"] > 0
    moved = ["data.split={validation: [p000, p002, p003], test: [p001]}"]
    _, again = predictions(run, overrides=moved)
    assert np.array_equal(rows["output"], again["output"])
    with pytest.raises(UserError, match=r"--set task.*`bin_range` and `bin_smoothing` are of no effect"):
        finetune(tiny, "random", runs=tmp_path, overrides=["task={name: regression, bin_range: [40, 160]}", "name=b"])
