"""A study of detection: every method, on spots."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import DETECTION, RECIPE, write

from maekit.config.data_spec import load_spec
from maekit.data.random_source import RandomSource
from maekit.errors import UserError
from maekit.metrics.average_precision import match, precision_and_recall
from maekit.metrics.plane import Plane
from maekit.metrics.similarity import LocationSimilarity
from maekit.runs.probe import probe_table
from maekit.studies.figures import curves
from maekit.studies.results import Study
from maekit.studies.study import study

PLANE = Plane(("range", "azimuth"), (torch.arange(1.0, 33.0), torch.arange(-56.25, 60.0, 7.5)), 1, torch.pi / 180)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    folder = tmp_path_factory.mktemp("study")
    write(folder, frames=16, drives=6)
    text = (folder / "blobs.yaml").read_text().replace("test: [drive3]", "test: [drive3, drive4, drive5]")
    (folder / "blobs.yaml").write_text(text)
    task = DETECTION.partition("=")[2]
    labelled = folder / "detect.yaml"
    labelled.write_text(f"extends: recipe.yaml\nname: detect\ntask: {task}\ninit: {{recipe: recipe.yaml}}\n")
    assert "name: blobs" in RECIPE
    return study(labelled, seeds=2, runs=folder / "runs"), folder / "runs/detect"


def test_every_method_is_there_with_its_kind(measured: tuple[Study, Path]) -> None:
    found, _ = measured
    methods = {method.name: method.kind for method in found.points[0].methods}
    assert {
        "pretrained, fine-tuned",
        "from scratch, fine-tuned",
        "pretrained, linear probe",
        "random weights, linear probe",
    } <= set(methods)
    assert methods["constant (where objects were in training)"] == "no learning"
    detectors = [name for name, kind in methods.items() if "clusters" in name and kind == "no learning"]
    shallow = [name for name, kind in methods.items() if "logistic regression" in name and kind == "linear"]
    assert len(detectors) == len(shallow) == 1
    assert found.metrics[:2] == ["ap", "ar"]
    assert "ap_car" in found.metrics
    pairs = {(one.one, one.other) for one in found.points[0].differences}
    assert ("pretrained, fine-tuned", "from scratch, fine-tuned") in pairs


def test_metrics_are_of_all_frames_and_of_each_drive(measured: tuple[Study, Path]) -> None:
    """Against the result itself, put together anew: all frames, and those of each drive alone."""
    found, folder = measured
    assert found.points[0].samples == 3 * 16
    similarity = LocationSimilarity(PLANE, [0.02, 0.02])
    for seed in (0, 1):
        result = json.loads(next((folder / f"jobs/seed{seed}_fold0").glob("learned_baselines-*.json")).read_text())
        name = next(iter(result["methods"]))
        method = found.points[0].method(name)
        assert method is not None
        said, true = (
            [np.array(rows, dtype=float) for rows in part] for part in (result["methods"][name], result["label"])
        )
        group = np.array(result["group"])
        matched = match(said, true, group, 3, 2, similarity)
        assert method.per_seed[seed]["ap"] == pytest.approx(precision_and_recall(matched, np.ones(3))["ap"])
        assert method.per_seed[seed]["ap"] > 0.2
        assert set(method.groups) == set(result["groups"]) == {"drive3", "drive4", "drive5"}
        for number, drive in enumerate(result["groups"]):
            mine = group == number
            only = match(
                [one for one, kept in zip(said, mine, strict=True) if kept],
                [one for one, kept in zip(true, mine, strict=True) if kept],
                np.zeros(mine.sum(), dtype=int),
                1,
                2,
                similarity,
            )
            # Detectors learn nothing that a seed decides.
            assert method.groups[drive]["ap"] == pytest.approx(precision_and_recall(only, np.ones(1))["ap"])
        low, high = method.intervals["ap"] or (0, 0)
        assert (
            min(g["ap"] for g in method.groups.values()) - 1e-9
            <= low
            < high
            <= max(g["ap"] for g in method.groups.values()) + 0.05
        )


def test_results_hold_detections_and_the_page_is_written(measured: tuple[Study, Path]) -> None:
    _, folder = measured
    result = json.loads(next((folder / "jobs").rglob("scratch-*.json")).read_text())
    assert len(result["label"]) == len(result["index"]) == len(result["methods"]["from scratch, fine-tuned"])
    assert any(len(rows) for rows in result["label"])
    page = (folder / "study.html").read_text()
    assert "ap_car" in page
    assert "logistic regression" in page
    before = {path: path.stat().st_mtime_ns for path in (folder / "jobs").rglob("*.json")}
    study(folder.parents[1] / "detect.yaml", seeds=2, runs=folder.parent)
    assert {path: path.stat().st_mtime_ns for path in (folder / "jobs").rglob("*.json")} == before


def test_a_swept_key_draws_precision_and_recall(measured: tuple[Study, Path]) -> None:
    found, _ = measured
    swept = replace(found, points=[replace(found.points[0], values={"label_fraction": share}) for share in (0.1, 1)])
    (picture,) = curves(swept)
    assert len(picture.panels) == 2
    assert all("label_fraction" in panel for panel in picture.panels)


def test_a_probe_of_pooled_features_is_refused(measured: tuple[Study, Path]) -> None:
    _, folder = measured
    with pytest.raises(UserError, match="reads every patch"):
        probe_table(folder.parents[1] / "detect.yaml", "random")


def test_random_samples_stand_in_for_maps_with_objects() -> None:
    source = RandomSource(
        load_spec("simulated_street"), None, samples=3, lengths={"range": 16, "azimuth": 8}, labels=True
    )
    assert source.objects == ("range", "azimuth", "class", "length")
    assert source.info.axes[1].spacing == "sine"
    assert np.isnan(np.asarray(source[0].label)).all()
