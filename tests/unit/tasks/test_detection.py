"""Detection: confidence maps, peaks, suppression, likeness, average precision, and the task trained on spots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blobs import DETECTION, PICTURE, write
from hypothesis import given, settings
from hypothesis import strategies as st

from maekit.core.autoencoder import Encoder, MaskedAutoencoder
from maekit.core.masking import RandomMasking
from maekit.core.patchify import GridPatchifier
from maekit.core.targets.pixels import PatchNormTarget
from maekit.core.transformer import TransformerConfig
from maekit.errors import UserError
from maekit.metrics.average_precision import RECALLS, THRESHOLDS, match, precision_and_recall
from maekit.metrics.plane import Plane
from maekit.metrics.similarity import LocationSimilarity, Overlap
from maekit.runs.evaluate import evaluate, predictions
from maekit.runs.train import finetune
from maekit.tasks.confidence import confidence, peaks, sigma_in_cells, suppress
from maekit.tasks.detection import Detection
from maekit.tasks.mix import overlaid
from maekit.tasks.pretraining import Pretraining

RANGE, AZIMUTH = torch.linspace(1, 32, 32), torch.rad2deg(torch.linspace(-0.8, 0.8, 33).asin())
PLANE = Plane(("range", "azimuth"), (RANGE, AZIMUTH), angle=1, radians=torch.pi / 180)
KAPPA = (0.005, 0.03)


def test_cells_and_coordinates_are_inverses_also_where_spacing_is_uneven() -> None:
    where = torch.tensor([[1.0, AZIMUTH[0]], [7.3, 11.0], [32.0, AZIMUTH[-1]], [33.5, 0.0]])
    torch.testing.assert_close(PLANE.at(PLANE.cells(where)), where)
    torch.testing.assert_close(PLANE.cells(torch.tensor([[5.0, 0.0]])), torch.tensor([[4.0, 16.0]]))


def test_places_are_right_and_ahead() -> None:
    torch.testing.assert_close(PLANE.location(torch.tensor([2.0, 90.0])), torch.tensor([2.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(PLANE.location(torch.tensor([2.0, -30.0])), torch.tensor([-1.0, 3.0**0.5]))
    speeds = Plane(("range", "speed"), (RANGE, AZIMUTH))
    with pytest.raises(ValueError, match="no distance and angle"):
        speeds.location(torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="rise"):
        Plane(("range", "azimuth"), (RANGE.flip(0), AZIMUTH))


def test_location_similarity_by_hand() -> None:
    """1 m apart at 10 m, kappa 0.005: exp(-1 / (2 * 100 * 0.005)) = exp(-1)."""
    alike = LocationSimilarity(PLANE, KAPPA)
    one, other = torch.tensor([10.0, 0.0]), torch.tensor([11.0, 0.0])
    assert alike(one, other, torch.tensor(0)).item() == pytest.approx(np.exp(-1.0))
    assert alike(one, other, torch.tensor(1)).item() == pytest.approx(np.exp(-1 / 6))
    assert alike(other, one, torch.tensor(0)).item() == pytest.approx(np.exp(-1 / 1.21))  # s is that of the first
    assert alike(one, torch.full((2,), torch.nan), torch.tensor(0)).item() == 0


def test_overlap_by_hand() -> None:
    one, other = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 2.0, 2.0])
    assert Overlap()(one, other, torch.tensor(0)).item() == pytest.approx(1 / 3)
    assert Overlap()(one, other + 5, torch.tensor(0)).item() == 0


def test_the_map_is_one_at_the_object_and_falls_off_by_its_width() -> None:
    centres = torch.tensor([[[4.2, 6.0], [torch.nan, torch.nan], [4.0, 9.0]]])
    found = confidence(centres, torch.tensor([[2.0, 1.0, 1.0]]), torch.tensor([[1, 0, 1]]), (8, 12), 2)
    assert found.shape == (1, 2, 8, 12)
    assert (found[0, 0] == 0).all()
    assert found[0, 1, 4, 6] == 1
    assert found[0, 1, 4, 9] == 1
    assert found[0, 1, 6, 6].item() == pytest.approx(np.exp(-4 / 8))
    assert found[0, 1, 4, 8].item() == pytest.approx(np.exp(-0.5))  # the larger of exp(-4/8) and exp(-1/2)
    nearer = sigma_in_cells(torch.tensor(2.0), torch.tensor([5.0, 20.0, 400.0]), 10.0, 0.5, 3.0)
    torch.testing.assert_close(nearer, torch.tensor([3.0, 20 * np.arctan(1 / 20), 0.5]).float())


def test_peaks_are_found_between_cells_and_in_order() -> None:
    row, column = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="ij")
    scores = torch.zeros(1, 2, 16, 12)
    scores[0, 1] = 0.9 * torch.exp(-((row - 5.3) ** 2 + (column - 7.8) ** 2) / 4)
    scores[0, 0] = 0.5 * torch.exp(-((row - 12) ** 2 + (column - 2) ** 2) / 4)
    where, kind, score = peaks(scores, 5, 0.1)
    assert kind.tolist() == [[1, 0, -1, -1, -1]]
    torch.testing.assert_close(where[0, :2], torch.tensor([[5.3, 7.8], [12.0, 2.0]]), atol=1e-3, rtol=0)
    assert where[0, 2:].isnan().all()
    assert score[0, 0] > 0.8
    assert score[0, 2] == 0


def test_suppression_keeps_the_better_of_two_alike_and_other_classes() -> None:
    found = torch.tensor([[[10.0, 0.0], [10.2, 0.0], [10.1, 0.0], [20.0, 0.0], [torch.nan, torch.nan]]])
    kind, score = torch.tensor([[0, 0, 1, 0, -1]]), torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.0]])
    kept = suppress(found, kind, score, LocationSimilarity(PLANE, KAPPA), 0.3)
    torch.testing.assert_close(kept, torch.tensor([[0.9, 0.0, 0.7, 0.6, 0.0]]))


def measured(detections: list[Any], objects: list[Any], classes: int = 2) -> dict[str, float]:
    group = np.zeros(len(objects), dtype=np.int64)
    found = match(
        [np.array(d, dtype=float).reshape(-1, 4) for d in detections],
        [np.array(o, dtype=float).reshape(-1, 3) for o in objects],
        group,
        1,
        classes,
        LocationSimilarity(PLANE, KAPPA),
    )
    return precision_and_recall(found, np.ones(1), ["person", "car"][:classes])


def test_average_precision_by_hand() -> None:
    right = [[10, 0, 0, 0.9]]
    assert measured([right], [[[10, 0, 0]]])["ap"] == pytest.approx(1)
    # 0.5 m off at 10 m: likeness exp(-0.25) = 0.779, so right at the thresholds 0.5 to 0.75, which are 6 of 9.
    assert measured([[[10.5, 0, 0, 0.9]]], [[[10, 0, 0]]])["ap"] == pytest.approx(6 / 9)
    # A false one that is surer: precision 1/2 at every recall up to 1.
    assert measured([[[20, 0, 0, 0.95], *right]], [[[10, 0, 0]]])["ap"] == pytest.approx(0.5)
    # Two on one object: the second is false, and comes after.
    assert measured([[*right, [10.01, 0, 0, 0.5]]], [[[10, 0, 0]]])["ap"] == pytest.approx(1)
    # One of two found: precision 1 for recalls to 0.5, which are 51 of 101; recall 0.5.
    half = measured([right], [[[10, 0, 0], [20, 0, 0]]])
    assert half["ap"] == pytest.approx(51 / 101)
    assert half["ar"] == pytest.approx(0.5)
    # A class right and one of three objects missed: over classes 0.5, counted by objects 1/4.
    both = measured([right], [[[10, 0, 0], [20, 0, 1], [21, 30, 1], [22, -30, 1]]])
    assert (both["ap"], both["ap_counted"], both["ap_car"]) == pytest.approx((0.5, 0.25, 0))
    # A class that does not occur does not count, and neither do detections of it.
    assert measured([[*right, [20, 0, 1, 0.9]]], [[[10, 0, 0]]])["ap"] == pytest.approx(1)
    assert measured([[]], [[[10, 0, 0]]])["ap"] == 0


def plainly(detections: list[Any], objects: list[Any]) -> float:
    """AP of class 0, written the plain way: for each threshold go through all detections, then through all recalls."""
    alike = LocationSimilarity(PLANE, KAPPA)
    everything = sorted(
        ((row[-1], i, row) for i, rows in enumerate(detections) for row in rows if row[2] == 0), key=lambda one: -one[0]
    )
    total = sum(1 for rows in objects for row in rows if row[2] == 0)
    if not total:
        return 0.0
    values = []
    for threshold in THRESHOLDS:
        taken: set[tuple[int, int]] = set()
        points, right = [], 0
        for number, (_, sample, row) in enumerate(everything, start=1):
            best, which = -1.0, None
            for j, true in enumerate(objects[sample]):
                if true[2] == 0 and (sample, j) not in taken:
                    value = alike(
                        torch.tensor(true[:2]).double(), torch.tensor(row[:2]).double(), torch.tensor(0)
                    ).item()
                    if value > best:
                        best, which = value, j
            if which is not None and best >= threshold:
                taken.add((sample, which))
                right += 1
            points.append((right / total, right / number))
        values.append(np.mean([max((p for r, p in points if r >= recall), default=0.0) for recall in RECALLS]))
    return float(np.mean(values))


ROW = st.tuples(st.floats(5, 9), st.sampled_from([-10.0, 0.0, 10.0]), st.just(0.0))
DETECTED = st.tuples(st.floats(5, 9), st.sampled_from([-10.0, 0.0, 10.0]), st.just(0.0), st.floats(0.05, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(DETECTED, max_size=5), st.lists(ROW, max_size=3)), min_size=1, max_size=4))
def test_average_precision_agrees_with_a_plain_implementation(samples: list[Any]) -> None:
    scores = [row[-1] for found, _ in samples for row in found]
    if len(set(scores)) < len(scores):
        return  # the order of equals is nobody's
    detections, objects = ([list(map(list, part)) for part in side] for side in zip(*samples, strict=True))
    assert measured(detections, objects, classes=1)["ap"] == pytest.approx(plainly(detections, objects), abs=1e-9)


def test_a_group_that_counts_twice_is_as_if_it_were_there_twice() -> None:
    detections = [np.array([[10, 0, 0, 0.9], [20, 0, 0, 0.8]]), np.array([[12.0, 0, 0, 0.7]])]
    objects = [np.array([[10.0, 0, 0]]), np.array([[12.1, 0, 0], [20, 0, 0]])]
    alike = LocationSimilarity(PLANE, KAPPA)
    once = match(detections, objects, np.array([0, 1]), 2, 1, alike)
    twice = match([*detections, detections[1]], [*objects, objects[1]], np.array([0, 1, 1]), 2, 1, alike)
    weighted, repeated = (precision_and_recall(once, np.array([1.0, 2.0])), precision_and_recall(twice, np.ones(2)))
    assert weighted == pytest.approx(repeated)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("blobs"))


def test_a_network_learns_to_find_spots(recipe: Path, tmp_path: Path) -> None:
    more = ["schedule.epochs=40", "optimizer.base_lr=1.6e-2", "optimizer.betas=[0.9, 0.99]", "name=found"]
    outcome = finetune(recipe, "random", overrides=[DETECTION, *more], runs=tmp_path)
    metrics, rows = predictions(outcome.folder, side="test")
    assert metrics["ap_car"] > 0.6
    assert metrics["ap50"] > 0.35
    found = rows["detections"]
    assert found.shape[2] == 4
    surest = found[np.isfinite(found[:, 0, 0]), 0]
    assert ((surest[:, 3] > 0.05) & (surest[:, 0] >= 0.5) & (surest[:, 0] <= 32.5)).all()


class Plain(torch.nn.Module):
    """A front that changes nothing."""

    def forward(self, x: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        return x, valid


def of_clips() -> Detection:
    """For clips of three maps, with convolutions that see the maps."""
    patchifier = GridPatchifier((1, 3, 16, 16), (1, 8, 8))
    encoder = Encoder(patchifier, TransformerConfig(width=8, depth=1, heads=1))
    plane = Plane(("range", "azimuth"), (RANGE[:16], AZIMUTH[:16]), angle=1, radians=torch.pi / 180)
    return Detection(
        Plain(),
        encoder,
        plane=plane,
        columns=["range", "azimuth"],
        classes=None,
        kappa=[0.1],
        lengths=[1.0],
        skip_channels=4,
    )


def test_cells_do_not_tie_in_half_precision() -> None:
    """Ties of neighbours would be several peaks of one object: bfloat16 has 128 numbers between 4 and 8."""
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        maps = of_clips().maps({"signal": torch.randn(1, 1, 3, 16, 16)})
    assert maps.dtype == torch.float32
    assert len(set(maps.flatten().tolist())) > 250


def test_detail_sees_cells_near_by_and_nothing_that_was_not_measured() -> None:
    """With the tokens silenced, what a cell changes lies around it, and unmeasured patches change nothing."""
    task = of_clips()
    with torch.no_grad():
        task.head.weight.zero_()
    clips = torch.randn(2, 1, 3, 16, 16)
    changed = clips.clone()
    changed[:, 0, 2, 3, 4] += 5
    with torch.no_grad():
        apart = (task.maps({"signal": changed}) - task.maps({"signal": clips})).abs().amax((0, 1))
    assert apart[3, 4] > 1e-4
    assert apart[:8, :9].max() == apart.max()
    torch.testing.assert_close(apart[8:], torch.zeros(8, 16))
    torch.testing.assert_close(apart[:, 9:], torch.zeros(16, 7))
    with torch.no_grad():
        backwards = task.maps({"signal": clips.flip(2)})
        assert (task.maps({"signal": clips}) - backwards).abs().max() > 1e-3, "what moves does so in an order"
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[:, 8] = False  # where the cell lies
    lost = clips.clone()
    lost[:, 0, 2, :8, :8] = torch.nan
    with torch.no_grad():
        torch.testing.assert_close(
            task.maps({"signal": lost, "valid": valid}), task.maps({"signal": clips, "valid": valid})
        )


def test_boxes_have_the_extents_of_their_objects(recipe: Path, tmp_path: Path) -> None:
    more = ["schedule.epochs=40", "optimizer.base_lr=1.6e-2", "optimizer.betas=[0.9, 0.99]", "name=boxes"]
    outcome = finetune(recipe, "random", overrides=["task={name: detection, boxes: true}", *more], runs=tmp_path)
    metrics, rows = predictions(outcome.folder, side="test")
    assert metrics["ap50"] > 0.3
    cars = rows["detections"][..., 4] == 1
    sure = rows["detections"][cars & (rows["detections"][..., 5] > 0.4)]
    assert np.median(sure[:, 2]) == pytest.approx(5, abs=0.7)  # range_extent of a car


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("{name: detection}", "kappa"),
        ("{name: detection, kappa: 0.1}", "kappa: expected a list"),
        ("{name: detection, kappa: [0.1], lengths: [1, 2]}", "for each of person, car"),
        ("{name: detection, kappa: [0.1, 0.1]}", "length"),
        ("{name: detection, kappa: [0.1, 0.1], lengths: [1, 1], sigma_min: 9}", "sigma_min"),
        ("{name: detection, kappa: [0.1, 0.1], lengths: [1, 1], skip_channels: -1}", "skip_channels=-1"),
        ("{name: detection, kappa: [0.1, 0.1], lengths: [1, 1], mix: 2}", "mix=2"),
        ("{name: regression}", "detection for objects"),
    ],
)
def test_options_that_do_not_fit_are_named(recipe: Path, tmp_path: Path, task: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        finetune(recipe, "random", overrides=[f"task={task}"], runs=tmp_path)


def test_an_overlay_goes_with_no_auxiliary_signal(recipe: Path, tmp_path: Path) -> None:
    overrides = [f"auxiliary={{picture: {PICTURE}}}", DETECTION.replace("}", ", mix: 0.5}")]
    with pytest.raises(UserError, match=r"mix=.* picture is read beside it"):
        finetune(recipe, "random", overrides=overrides, runs=tmp_path)


def test_a_sample_laid_over_another_has_the_objects_of_both() -> None:
    patchifier = GridPatchifier((1, 16, 16), (8, 8))
    encoder = Encoder(patchifier, TransformerConfig(width=8, depth=1, heads=1))
    plane = Plane(("range", "azimuth"), (RANGE[:16], AZIMUTH[:16]), angle=1, radians=torch.pi / 180)
    task = Detection(
        Plain(), encoder, plane=plane, columns=["range", "azimuth"], classes=None, kappa=[0.1], lengths=[1.0], mix=1.0
    )
    signal = torch.randn(3, 1, 16, 16)
    label = torch.tensor([[[2.0, 0.0]], [[torch.nan, torch.nan]], [[5.0, -9.0]]])
    valid = torch.ones(3, 4, dtype=torch.bool)
    valid[0, 2] = False
    batch = {"signal": signal, "label": label, "valid": valid}
    both = overlaid(batch, 1.0)
    torch.testing.assert_close(both["signal"], torch.maximum(signal, signal[[2, 0, 1]]))
    torch.testing.assert_close(both["label"], torch.cat([label, label[[2, 0, 1]]], 1), equal_nan=True)
    assert both["valid"].sum(1).tolist() == [3, 3, 4]
    alone, laid = (task.map_losses(task.maps(one), one["label"]).mean() for one in (batch, both))
    torch.testing.assert_close(task.train()(batch).loss, laid)
    task.mix = 0.0
    torch.testing.assert_close(task(batch).loss, alone)
    some = overlaid({"signal": torch.arange(1000.0)[:, None]}, 0.3)["signal"][:, 0] != torch.arange(1000.0)
    assert not some[1:].any()  # each has more than the one before it
    assert (
        0.2
        < (overlaid({"signal": -torch.arange(1000.0)[:, None]}, 0.3)["signal"][:, 0] != -torch.arange(1000.0))
        .float()
        .mean()
        < 0.4
    )


def test_an_overlay_is_for_training_alone_in_pretraining_too() -> None:
    patchifier = GridPatchifier((1, 16, 16), (8, 8))
    config = TransformerConfig(width=8, depth=1, heads=1)
    model = MaskedAutoencoder(
        patchifier,
        encoder=Encoder(patchifier, config),
        decoder=config,
        masking=RandomMasking(patchifier),
        mask_ratio=0.5,
        target=PatchNormTarget(patchifier),
    )
    task = Pretraining(Plain(), model, mix=1.0)
    batch = {"signal": torch.randn(3, 1, 16, 16), "noise": torch.rand(3, 4)}
    torch.testing.assert_close(task.train()(batch), Pretraining(Plain(), model)(overlaid(batch, 1.0)))
    torch.testing.assert_close(task.eval()(batch), Pretraining(Plain(), model)(batch))
    assert task.train()(batch) != task.eval()(batch)
    complexes = {"signal": torch.tensor([[1 + 0j], [-2j], [0.5 + 0j]])}
    torch.testing.assert_close(overlaid(complexes, 1.0)["signal"][:, 0], torch.tensor([1.5 + 0j, 1 - 2j, 0.5 - 2j]))


def test_a_finished_run_is_not_read_with_patches_of_another_shape(recipe: Path, tmp_path: Path) -> None:
    more = [DETECTION, "schedule.epochs=1", "schedule.warmup_epochs=0", "name=cut"]
    run = finetune(recipe, "random", overrides=more, runs=tmp_path).folder
    assert "ap" in evaluate(run, overrides=["adapter.floor_db=-90"])
    with pytest.raises(UserError, match="cut otherwise"):
        evaluate(run, overrides=["adapter.patch=[8, 2]"])
