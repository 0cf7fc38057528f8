"""Objects without training a network: detections in the units of the axes, whatever a map is stored in, and their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blobs import DETECTION, write

from maekit.adapters.radar.map_detectors import RANGE_AZIMUTH, looks_of
from maekit.adapters.radar.range_azimuth import RangeAzimuthAdapter
from maekit.adapters.radar.range_doppler import RangeDopplerAdapter
from maekit.build.experiment import Experiment, build_experiment
from maekit.build.parts import label_kind_of
from maekit.config.load import load_recipe
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UserError
from maekit.metrics.average_precision import match, precision_and_recall
from maekit.metrics.plane import Plane
from maekit.metrics.similarity import LocationSimilarity
from maekit.tasks.label_kinds import object_baselines
from maekit.tasks.label_kinds.objects import ObjectLabels

RANGE = Axis("range", 64, "m", 0.5)
AZIMUTH = Axis("azimuth", 33, "deg", 0.05, -0.8, "sine")
DOPPLER = Axis("doppler", 32, "m/s", 0.25, -4.0)
NAME = "CFAR, clusters"
PLACES = ((20, 8), (45, 24))


def snow(shape: tuple[int, ...], looks: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(looks, 1 / looks, shape)


def scene(columns: int, seed: int = 0) -> np.ndarray:
    """Noise of power 1, and the same target at two ranges, its power falling with the fourth power of the range."""
    power = snow((1, RANGE.length, columns), 16, seed)
    for row, column in PLACES:
        power[0, row - 1 : row + 2, column - 2 : column + 3] = 1e8 / (0.5 * row) ** 4 / 2
        power[0, row, column] *= 2
    return power


def sample(signal: np.ndarray, valid: np.ndarray | None = None) -> Sample:
    return Sample(signal, valid, None, "drive", "somewhere")


def adapter(axes: tuple[Axis, ...] = (RANGE, AZIMUTH), *, channels: int = 1, **options: Any) -> RangeDopplerAdapter:
    names = {axis.name for axis in axes}
    kind = RangeAzimuthAdapter if "azimuth" in names else RangeDopplerAdapter
    info = SignalInfo(tuple("abcdef"[:channels]), axes, complex=options.get("scale") == "complex")
    options.setdefault("patch", tuple(axis.length for axis in axes))
    return kind(info, **options)


@pytest.mark.parametrize("looks", [1.0, 4.0, 16.0, 64.0])
def test_looks_are_told_from_the_noise(looks: float) -> None:
    chart = snow((128, 64), looks)
    assert looks_of(10 * np.log10(chart) - 150) == pytest.approx(looks, rel=0.12)
    chart[60:63] *= 1e5  # targets hardly count
    assert looks_of(10 * np.log10(chart)) == pytest.approx(looks, rel=0.25)
    assert looks_of(np.zeros((8, 8))) == 1000


def test_a_target_is_told_in_the_units_of_the_axes() -> None:
    one = adapter()
    detector = one.detectors()[NAME]
    assert detector.features == ("power_times_range4", "range_extent", "azimuth_extent", "across", "cells")
    found = detector.find(sample(10 * np.log10(scene(33))))
    assert found.shape == (2, 8)
    found = found[np.argsort(found[:, 0])]
    sines = np.array([-0.8 + 0.05 * 8, -0.8 + 0.05 * 24])
    np.testing.assert_allclose(found[:, 0], [10.0, 22.5], atol=1e-3)
    np.testing.assert_allclose(found[:, 1], np.rad2deg(np.arcsin(sines)), atol=0.01)
    np.testing.assert_allclose(found[:, 3], 80.0, atol=0.01)  # 10 log10 of 1e8, at either range
    np.testing.assert_allclose(found[:, 4], 1.5, atol=1e-3)
    edges = np.rad2deg(np.arcsin(np.stack([sines - 0.125, sines + 0.125])))
    np.testing.assert_allclose(found[:, 5], edges[1] - edges[0], rtol=0.01)
    np.testing.assert_allclose(found[:, 6], found[:, 0] * np.deg2rad(found[:, 5]), rtol=1e-6)
    np.testing.assert_allclose(found[:, 7], np.log(15))
    assert found[0, 2] > found[1, 2] > 10


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        ({"scale": "power", "floor_db": -100.0}, lambda power: power),
        ({"scale": "magnitude", "floor_db": -100.0}, np.sqrt),
        ({"scale": "complex", "floor_db": -100.0}, lambda power: np.sqrt(power) * np.exp(1j * np.arange(33))),
        ({"scale": "log10"}, lambda power: 0.5 * np.log10(power)),
        ({"scale": "level", "level_range_db": (-30.0, 70.0)}, lambda power: (10 * np.log10(power) + 30) * 2.55),
    ],
)
def test_what_is_found_does_not_depend_on_how_a_map_is_stored(options: dict[str, Any], stored: Any) -> None:
    power = scene(33)
    in_db = adapter().detectors()[NAME].find(sample(10 * np.log10(power)))
    found = adapter(**options).detectors()[NAME].find(sample(stored(power)))
    np.testing.assert_allclose(found, in_db, rtol=1e-3, atol=1e-3)


def test_axes_may_stand_the_other_way_round() -> None:
    chart = 10 * np.log10(scene(33))
    found = adapter().detectors()[NAME].find(sample(chart))
    turned = adapter((AZIMUTH, RANGE)).detectors()[NAME]
    assert turned.features[1:3] == ("azimuth_extent", "range_extent")
    other = turned.find(sample(chart.swapaxes(1, 2)))
    np.testing.assert_allclose(other[:, [1, 0, 2, 3, 5, 4, 6, 7]], found, rtol=1e-5)


def test_velocities() -> None:
    detector = adapter((RANGE, DOPPLER)).detectors()[NAME]
    assert detector.features == ("power_times_range4", "range_extent", "doppler_extent", "cells")
    found = detector.find(sample(10 * np.log10(scene(32))))
    found = found[np.argsort(found[:, 0])]
    np.testing.assert_allclose(found[:, 1], [-4 + 0.25 * 8, -4 + 0.25 * 24], atol=1e-3)
    np.testing.assert_allclose(found[:, 5], 1.25, atol=1e-3)


def test_clips_channels_and_what_was_not_measured() -> None:
    power = scene(33)
    plain = adapter().detectors()[NAME].find(sample(10 * np.log10(power)))
    clip = np.stack([10 * np.log10(snow(power.shape[1:], 16, 3)), 10 * np.log10(power[0])])[None]
    frames = adapter((Axis("frame", 2), RANGE, AZIMUTH)).detectors()[NAME]
    np.testing.assert_allclose(frames.find(sample(clip)), plain, rtol=1e-6)
    twice = np.concatenate([power * 0.5, power * 1.5])
    both = adapter(channels=2).detectors()[NAME].find(sample(10 * np.log10(twice)))
    np.testing.assert_allclose(both, plain, rtol=1e-4)
    valid = np.ones((64, 33), dtype=bool)
    valid[16:26, 4:14] = False
    (left,) = adapter().detectors()[NAME].find(sample(10 * np.log10(power), valid))
    assert left[0] == pytest.approx(22.5, abs=1e-3)
    assert adapter().detectors()[NAME].find(sample(10 * np.log10(snow(power.shape, 16)))).shape == (0, 8)


def test_of_levels_the_last_frames_measured_cells_above_zero_are_clustered() -> None:
    clips = adapter((Axis("frame", 2, ""), RANGE, AZIMUTH), scale="level").detectors()["cells above 0, clusters"]
    levels = np.zeros((1, 2, 64, 33), dtype=np.float32)
    levels[0, 0, 40:46, 20:23] = 9
    levels[0, 1, 10:16, 14:17] = 1
    levels[0, 1, 30:36, 14:17] = 1
    valid = np.ones((2, 64, 33), dtype=bool)
    valid[1, 30:36] = False
    (found,) = clips.find(Sample(levels, valid, None, "", ""))
    plane = adapter().plane()
    assert plane is not None
    np.testing.assert_allclose(plane.cells(torch.from_numpy(found[None, :2]))[0], [12.5, 15], atol=1e-3)


def test_no_detector_without_powers_or_places() -> None:
    assert not adapter((RANGE, Axis("doppler", 32, "m/s", 1.0)), scale="level").detectors()
    assert not adapter((RANGE, Axis("azimuth", 33, "deg"))).detectors()
    assert not adapter((RANGE, Axis("elevation", 32, "deg", 1.0))).detectors()
    assert set(RANGE_AZIMUTH["guard"]) == {"range", "azimuth"}


def test_detections_are_given_objects_as_average_precision_gives_them() -> None:
    plane = Plane(("range", "azimuth"), (torch.linspace(1, 32, 32), torch.linspace(-50, 50, 33)), 1, torch.pi / 180)
    alike = LocationSimilarity(plane, (0.005, 0.03))
    true = np.array([[10.0, 0, 0], [20.0, 0, 1]])
    # Two on the first object: the surer one is given it. 3 m off at 20 m: near enough for class 1, not for class 0.
    found = np.array([[10.1, 0, 5.0], [10.0, 0, 9.0], [23.0, 0, 1.0], [12.0, 0, 2.0]])
    assert object_baselines.assign(found, true, alike).tolist() == [-1, 0, 1, -1]
    assert object_baselines.assign(found[:0], true, alike).tolist() == []
    assert object_baselines.assign(found, true[:0], alike).tolist() == [-1] * 4
    swapped = np.column_stack([true[:, :2], 1 - true[:, 2]])
    assert object_baselines.assign(found, swapped, alike).tolist() == [-1, 0, -1, -1]


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return build_experiment(load_recipe(write(tmp_path_factory.mktemp("blobs")), [DETECTION]), fit=False)


def kind_of(experiment: Experiment) -> ObjectLabels:
    kind = label_kind_of(experiment)
    assert isinstance(kind, ObjectLabels)
    return kind


def measured(detections: list[Any], experiment: Experiment) -> dict[str, float]:
    kind = kind_of(experiment)
    true = kind.truth(experiment, experiment.split["test"])
    group = np.zeros(len(true), dtype=np.int64)
    return precision_and_recall(match(detections, true, group, 1, 2, kind.similarity), np.ones(1), ["person", "car"])


def test_spots_are_found_and_told_apart_by_their_size(blobs: Experiment) -> None:
    """Persons are one cell 10 dB above noise, cars 5 by 3."""
    kind, detector = kind_of(blobs), blobs.adapter.detectors()[NAME]
    plain = object_baselines.detect(kind, blobs, detector, "test")
    assert len(plain) == len(blobs.split["test"])
    train = np.concatenate(kind.truth(blobs, blobs.split["train"]))
    usual = float(np.bincount(train[:, -1].astype(int)).argmax())
    assert {float(kind) for rows in plain for kind in rows[:, 2]} == {usual}
    alone = measured(plain, blobs)
    classified = object_baselines.detect_and_classify(kind, blobs, detector, "test")
    scores = np.concatenate(classified)[:, 3]
    assert ((scores >= object_baselines.MIN_PROBABILITY) & (scores <= 1)).all()
    both = measured(classified, blobs)
    assert min(alone["ap_person"], alone["ap_car"]) == 0
    assert both["ap_person"] > 0.8
    assert both["ap_car"] > 0.7
    assert both["ap"] > alone["ap"] + 0.3


def test_where_the_centre_lies_is_learned(blobs: Experiment) -> None:
    """Of cars alone: their detections are moved 1 m nearer, and then come out where they were."""
    kind, detector = kind_of(blobs), blobs.adapter.detectors()[NAME]

    def nearer(one: Sample) -> np.ndarray:
        rows = detector.find(one)
        rows[:, 0] -= rows[:, 3 + detector.features.index("range_extent")] > 3
        return rows

    moved = type(detector)(detector.features, nearer)
    found = [object_baselines.detect_and_classify(kind, blobs, one, "test") for one in (detector, moved)]
    before, after = (np.concatenate(rows)[np.concatenate(rows)[:, 2] == 1] for rows in found)
    far, sure = before[before[:, 0] > 12], after[after[:, 3] > 0.9]
    sure = sure[sure[:, 0] > 12]  # nearer, 1 m is too much for the likeness
    assert len(sure) > 10
    assert np.abs(sure[:, None, :2] - far[:, :2]).max(-1).min(1).max() < 0.05


def test_boxes_are_those_of_the_detector(blobs: Experiment) -> None:
    experiment = build_experiment(load_recipe(blobs.loaded.path, ["task={name: detection, boxes: true}"]), fit=False)
    kind, detector = kind_of(experiment), experiment.adapter.detectors()[NAME]
    found = object_baselines.detect_and_classify(kind, experiment, detector, "test")
    assert found[0].shape[1] == 6
    assert measured(found, experiment)["ap50"] > 0.6
    assert object_baselines.detect(kind, experiment, detector, "test")[0].shape[1] == 6


def test_few_labels_leave_nothing_to_tell_apart(blobs: Experiment) -> None:
    features = np.random.default_rng(0).standard_normal((6, 3))
    assert object_baselines._classifier(features, np.full(6, -1))(features) == {}
    assert object_baselines._classifier(features, np.full(6, 1))(features)[1].tolist() == [1.0] * 6
    assert object_baselines._classifier(features[:0], np.zeros(0, dtype=int))(features) == {}
    several = object_baselines._classifier(features, np.array([-1, 0, 1, -1, 0, 1]))(features[:0])
    assert {kind: len(values) for kind, values in several.items()} == {0: 0, 1: 0}


def test_what_cannot_be_is_said(blobs: Experiment) -> None:
    detector = blobs.adapter.detectors()[NAME]
    bare = type(detector)(("power",), detector.find)
    boxes = build_experiment(load_recipe(blobs.loaded.path, ["task={name: detection, boxes: true}"]), fit=False)
    with pytest.raises(UserError, match="does not give boxes"):
        object_baselines.detect(kind_of(boxes), boxes, bare, "test")
    unlabelled = build_experiment(load_recipe(blobs.loaded.path, []), fit=False)
    with pytest.raises(UserError, match=r"a task without labels.*detection"):
        label_kind_of(unlabelled)


def test_on_a_drive_of_a_simulated_street(tmp_path: Path) -> None:
    """Most objects are found near to where they are; the kappa are for the classes that they have."""
    spec = RangeAzimuthAdapter.simulate(tmp_path, drives=3, frames=8, image=None, clutter="mean", receivers=16)
    recipe = tmp_path / "street.yaml"
    recipe.write_text(
        f"name: street\nadapter: {{name: range_azimuth, patch: [8, 4]}}\ndata: {{spec: {spec}, root: {tmp_path}, "
        "split: {test: [drive002]}}\nschedule: {epochs: 1}\ntask: {name: detection, kappa: [0.005, 0.01, 0.03]}\n"
    )
    experiment = build_experiment(load_recipe(recipe), fit=False)
    kind = kind_of(experiment)
    found = object_baselines.detect(kind, experiment, experiment.adapter.detectors()[NAME], "test")
    true = kind.truth(experiment, experiment.split["test"])
    hits = [
        (object_baselines.assign(np.column_stack([rows[:, :2], rows[:, 3]]), ours, kind.similarity) >= 0).sum()
        for rows, ours in zip(found, true, strict=True)
    ]
    assert sum(hits) > 0.5 * sum(map(len, true))
