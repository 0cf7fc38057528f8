"""CFAR: the rate of false alarms is the stated one, also at edges; targets are seen, and seen beside one another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.adapters.radar.cfar import ca_factor, cfar, os_factor
from maekit.adapters.radar.range_doppler_map import range_doppler_map


def exponential(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).exponential(1.0, shape))


@pytest.mark.parametrize("kind", ["ca", "os"])
@pytest.mark.parametrize(
    ("shape", "guard", "train"),
    [((400, 40, 40), (1, 2), (2, 3)), ((400, 1500), (2,), (8,)), ((400, 30, 40), (2, 1), (6, 0))],
)
def test_false_alarms_come_at_the_stated_rate(
    kind: str, shape: tuple[int, ...], guard: tuple[int, ...], train: tuple[int, ...]
) -> None:
    """Of independent cells of exponential power; inside, at edges and in corners, where the window is cut."""
    rate = 0.01
    detected = cfar(exponential(*shape), guard=guard, train=train, false_alarm=rate, kind=kind).detected.numpy()  # type: ignore[arg-type]
    inside = np.zeros(shape[1:], dtype=bool)
    inside[tuple(slice(g + t, -(g + t)) if g + t else slice(None) for g, t in zip(guard, train, strict=True))] = True
    outermost = np.zeros(shape[1:], dtype=bool)
    outermost[0], outermost[-1] = True, True
    for cells in (inside, ~inside, outermost):
        tried = detected[:, cells].size
        if tried > 10_000:  # at the ends of one axis are too few to say
            # Neighbouring cells share training cells, so that rates spread more than independent trials would.
            assert detected[:, cells].mean() == pytest.approx(rate, abs=6 * math.sqrt(rate / tried))


@pytest.mark.parametrize("looks", [1, 3, 16])
@pytest.mark.parametrize("kind", ["ca", "os"])
def test_means_of_several_looks_keep_the_rate(kind: str, looks: int) -> None:
    power = exponential(looks, 300, 40, 40, seed=looks).mean(0)
    options: dict[str, Any] = {"guard": (1, 1), "train": (1, 2), "false_alarm": 0.01, "kind": kind}
    rate = float(cfar(power, **options, looks=float(looks)).detected.double().mean())
    assert rate == pytest.approx(0.01, rel=0.06)
    if looks == 16:
        assert not cfar(power, **options).detected.any()  # one look too few: everything weak is missed


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    guard=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    train=st.tuples(st.integers(0, 3), st.integers(1, 3)),
    kind=st.sampled_from(["ca", "os"]),
)
def test_thresholds_are_those_of_a_plain_loop(
    seed: int, rows: int, columns: int, guard: tuple[int, int], train: tuple[int, int], kind: str
) -> None:
    chart = exponential(2, rows, columns, seed=seed)
    found = cfar(chart, guard=guard, train=train, false_alarm=0.05, kind=kind)  # type: ignore[arg-type]
    whole = np.prod([2 * (g + t) + 1 for g, t in zip(guard, train, strict=True)]) - np.prod([2 * g + 1 for g in guard])
    for one, threshold in zip(chart.numpy(), found.threshold.numpy(), strict=True):
        for row in range(rows):
            for column in range(columns):
                cells = [
                    one[r, c]
                    for r in range(max(0, row - guard[0] - train[0]), min(rows, row + guard[0] + train[0] + 1))
                    for c in range(max(0, column - guard[1] - train[1]), min(columns, column + guard[1] + train[1] + 1))
                    if abs(r - row) > guard[0] or abs(c - column) > guard[1]
                ]
                n = len(cells)
                assert n <= whole
                if not n:
                    assert threshold[row, column] == np.inf
                elif kind == "ca":
                    assert threshold[row, column] == pytest.approx(ca_factor(n, 0.05) * np.mean(cells))
                else:
                    k = max(1, round(0.75 * n))
                    assert threshold[row, column] == pytest.approx(os_factor(n, k, 0.05) * sorted(cells)[k - 1])
    assert torch.equal(found.detected, chart > found.threshold)


def test_factors_fulfil_their_formulas() -> None:
    for cells, rate in ((1, 0.1), (16, 1e-4), (200, 1e-8)):
        assert (1 + ca_factor(cells, rate) / cells) ** -cells == pytest.approx(rate)
        for rank in (1, (cells + 1) // 2, cells):
            alpha = os_factor(cells, rank, rate)
            assert math.prod((cells - i) / (cells - i + alpha) for i in range(rank)) == pytest.approx(rate)
    for looks in (0.999999, 1.000001):  # the integral, beside the product
        for cells, rank, rate in ((1, 1, 0.1), (16, 12, 1e-6), (300, 225, 1e-4), (300, 300, 1e-9)):
            assert os_factor(cells, rank, rate, looks) == pytest.approx(os_factor(cells, rank, rate), rel=1e-4)
    assert os_factor(20, 15, 1e-3) == pytest.approx(
        6.857, abs=0.005
    )  # Richards, Fundamentals of Radar Signal Processing
    assert ca_factor(10**6, 1e-4) == pytest.approx(-math.log(1e-4), rel=1e-4)  # many cells: the level is known


def test_a_second_target_masks_with_means_and_not_with_ranks() -> None:
    """Three targets of 20 dB, four cells apart: the outer two are in the training cells of the middle one."""
    line = exponential(2000, 64, seed=1)
    line[:, 26] = line[:, 30] = line[:, 34] = 100.0
    found = {kind: cfar(line, guard=(1,), train=(8,), false_alarm=1e-4, kind=kind).detected for kind in ("ca", "os")}  # type: ignore[arg-type]
    assert found["ca"][:, 30].double().mean() < 0.01
    assert found["os"][:, [26, 30, 34]].double().mean() > 0.99


@pytest.mark.parametrize("kind", ["ca", "os"])
def test_a_fluctuating_target_is_seen_as_often_as_theory_says(kind: str) -> None:
    """Swerling 1 at 15 dB: P of an exponential of mean 1 + S over the threshold is the formula with alpha / (1 + S)."""
    strength, rate, cells = 10**1.5, 1e-3, 16
    line = exponential(40_000, 19, seed=2)
    line[:, 9] *= 1 + strength
    seen = cfar(line, guard=(1,), train=(8,), false_alarm=rate, kind=kind).detected[:, 9].double().mean()  # type: ignore[arg-type]
    if kind == "ca":
        expected = (1 + ca_factor(cells, rate) / cells / (1 + strength)) ** -cells
    else:
        alpha = os_factor(cells, 12, rate) / (1 + strength)
        expected = math.prod((cells - i) / (cells - i + alpha) for i in range(12))
    assert float(seen) == pytest.approx(expected, abs=0.01)
    line[:, 9] = 1e4
    assert cfar(line, guard=(1,), train=(8,), false_alarm=rate, kind=kind).detected[:, 9].all()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["ca", "os"])
def test_thresholds_follow_the_level_also_beside_something_strong(kind: str) -> None:
    """In single precision, 120 dB above the noise: the guard cells keep it out, and no rounding brings it in."""
    chart = exponential(32, 32, seed=3).float() * 1e-12
    quiet = cfar(chart, guard=(1, 1), train=(3, 3), kind=kind).threshold  # type: ignore[arg-type]
    assert torch.allclose(cfar(chart * 1e6, guard=(1, 1), train=(3, 3), kind=kind).threshold, quiet * 1e6, rtol=1e-5)  # type: ignore[arg-type]
    chart[16, 16] = 1.0
    loud = cfar(chart, guard=(1, 1), train=(3, 3), kind=kind)  # type: ignore[arg-type]
    assert loud.detected[16, 16]
    assert torch.allclose(loud.threshold[15:18, 15:18], quiet[15:18, 15:18], rtol=1e-5)


@pytest.mark.parametrize(("window", "lowest", "highest"), [("none", 0.8, 1.2), ("hann", 1.5, 3.0)])
def test_windowed_bins_are_correlated_and_give_more_false_alarms(window: str, lowest: float, highest: float) -> None:
    """What the docstring says of the assumption: with Hann windows the rate is about twice the stated one."""
    rng = np.random.default_rng(4)
    cubes = torch.from_numpy(rng.standard_normal((100, 64, 64)) + 1j * rng.standard_normal((100, 64, 64)))
    watts = 10 ** (range_doppler_map(cubes, window=window) / 10)  # type: ignore[arg-type]
    rate = float(cfar(watts, guard=(1, 1), train=(2, 2), false_alarm=1e-3).detected.double().mean())
    assert lowest < rate / 1e-3 < highest


def test_nonsense_is_refused() -> None:
    chart = exponential(8, 8)
    for wrong, said in (
        ({"kind": "go"}, "kind 'go'"),
        ({"guard": (1,)}, "one entry for each"),
        ({"train": (0, 0)}, "some to train on"),
        ({"guard": (-1, 1)}, "none below 0"),
        ({"false_alarm": 0.0}, "between 0 and 1"),
        ({"kind": "os", "rank": 500}, "rank 500"),
        ({"looks": 0.0}, "looks"),
    ):
        options = {"guard": (1, 1), "train": (2, 2), **wrong}
        with pytest.raises(ValueError, match=said):
            cfar(chart, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="decibels"):
        cfar(chart - 5, guard=(1, 1), train=(2, 2))
