"""`data check` looks at values: each kind of damage is named with its recording, and sound data is not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from maekit.config.data_spec import DataSpec
from maekit.data.check.check import check
from maekit.data.check.duplicates import Sketch, same_signals
from maekit.data.check.labels import label_problems
from maekit.data.check.problems import Problem, by_severity

ROWS, RATE = 3000, 50


def noise(seed: int, rows: int = ROWS) -> Any:
    return np.random.default_rng(seed).normal(size=rows).cumsum().astype(np.float32)


def run(folder: Path, change: Callable[[h5py.File], None] | None = None, **more: Any) -> list[Problem]:
    """Problems of four sound recordings, of which the last is changed."""
    for number in range(4):
        with h5py.File(folder / f"p{number}.h5", "w") as file:
            file["x"] = noise(number)
            file["y"] = float(number)
            file["t"] = np.arange(ROWS) / RATE
            if number == 3 and change is not None:
                change(file)
    spec = {
        "name": "s",
        "files": "*.h5",
        "signal": {"path": "x", "axes": ["time"], "rate_hz": RATE},
        "group": {"file": ".+"},
        "label": {"path": "y"},
        "window": {"seconds": 10},
        "split": {"validation": ["p3"]},
        **more,
    }
    problems: list[Problem] = []
    list(check(DataSpec.model_validate(spec), folder, {}, problems))
    return problems


def replace(file: h5py.File, values: Any, name: str = "x") -> None:
    del file[name]
    file[name] = values


def transient(file: h5py.File) -> None:
    values = noise(3)
    values[:100] += 50 * np.ptp(values) * np.exp(-np.arange(100) / 20)
    replace(file, values)


def clip(file: h5py.File) -> None:
    values = noise(3)
    replace(file, np.minimum(values, np.quantile(values, 0.9)))


CHANGES: dict[str, tuple[Callable[[h5py.File], None], str, str]] = {
    "copy": (lambda file: replace(file, noise(0)), "error", "same signal on two sides"),
    "cut copy": (lambda file: replace(file, noise(0)[700:2500]), "error", "same signal on two sides"),
    "copy in another unit": (
        lambda file: replace(file, noise(0)[300:2700] * 1000 + 7),
        "warning",
        "same signal on another scale on two sides",
    ),
    "copy of 16 bits": (
        lambda file: replace(file, np.round(noise(0) * 200).astype(np.int16)),
        "warning",
        "same signal on another scale on two sides",
    ),
    "copy of another type": (lambda file: replace(file, noise(0).astype(">f8")), "error", "same signal on two sides"),
    "constant": (lambda file: replace(file, np.full(ROWS, 7, np.float32)), "error", "constant recordings"),
    "clipped": (clip, "warning", "clipped values"),
    "start": (transient, "error", "first samples far off"),
    "rate": (lambda file: replace(file, np.arange(ROWS) / 25, "t"), "error", "another rate"),
    "back": (lambda file: replace(file, np.arange(ROWS)[::-1] / RATE, "t"), "error", "go back"),
    "gap": (lambda file: replace(file, (np.arange(ROWS) + 99 * (np.arange(ROWS) > 9)) / RATE, "t"), "warning", "gaps in"),
    "lost": (lambda file: file.update({"frame": np.delete(np.arange(ROWS + 5), np.arange(9, 14))}), "warning", "row numbers"),
    "type": (lambda file: replace(file, (noise(3) * 3e4).astype(np.int32)), "error", "of different scales"),
    "axes": (lambda file: replace(file, np.zeros((5, 5))), "error", "a dataset of 2 axes"),
}  # fmt: skip


def test_sound_recordings_have_no_problem(tmp_path: Path) -> None:
    assert run(tmp_path) == []


@pytest.mark.parametrize("name", CHANGES)
def test_each_kind_is_found_in_the_recording_that_has_it(name: str, tmp_path: Path) -> None:
    change, severity, text = CHANGES[name]
    problems = [problem for problem in run(tmp_path, change) if text in problem.text]
    assert [problem.severity for problem in problems] == [severity], problems
    assert "p3" in problems[0].location


def test_copies_of_one_person_are_a_note_and_equal_labels_an_error(tmp_path: Path) -> None:
    problems = run(tmp_path, lambda file: replace(file, noise(0)), split=None)
    assert [problem.severity for problem in problems] == ["note"]
    for path in tmp_path.glob("*.h5"):
        with h5py.File(path, "a") as file:
            replace(file, 70.0, "y")
    found: list[Problem] = []
    spec = DataSpec.model_validate(
        {
            "name": "s",
            "files": "*.h5",
            "signal": {"path": "x", "axes": ["time"], "rate_hz": RATE},
            "label": {"path": "y"},
            "window": {"seconds": 10},
        }
    )
    lines = list(check(spec, tmp_path, {}, found))
    assert any("labels that are all equal" in problem.text for problem in found)
    assert lines[-2].startswith("error"), "worst first"
    assert lines[-1].startswith("note")


def test_two_groups_with_one_signal_are_parted_by_some_fold(tmp_path: Path) -> None:
    problems = run(tmp_path, lambda file: replace(file, noise(0)), split={"folds": 4})
    assert [problem.severity for problem in problems] == ["error"]


def test_a_clean_sine_is_neither_clipped_nor_constant(tmp_path: Path) -> None:
    sine = np.round(127 * np.sin(np.arange(ROWS) / 7.3)).astype(np.float32)
    assert not [problem for problem in run(tmp_path, lambda file: replace(file, sine)) if "clipped" in problem.text]


def test_what_takes_no_part_in_the_split_is_no_error(tmp_path: Path) -> None:
    problems = run(tmp_path, CHANGES["constant"][0], split={"folds": 3, "exclude": ["p3"]})
    assert [problem.severity for problem in problems] == ["warning"]


def test_a_start_within_the_range_of_other_recordings_decides_no_statistics(tmp_path: Path) -> None:
    quiet = noise(3) * 0.001
    quiet[:100] += 1
    problems = run(tmp_path, lambda file: replace(file, quiet))
    assert [problem.severity for problem in problems if "first samples" in problem.text] == ["warning"]


def test_a_sound_of_few_levels_is_not_clipped(tmp_path: Path) -> None:
    coarse = np.round(noise(3) / np.ptp(noise(3)) * 30).clip(-11, 11) * 256
    sine = np.round(9 * np.sin(np.arange(ROWS) / 7.3) + np.random.default_rng(0).normal(size=ROWS)) * 256
    assert [problem for problem in run(tmp_path, lambda file: replace(file, coarse)) if "clipped" in problem.text]
    ends = sine.copy()
    ends[ends == ends.max()], ends[ends == ends.min()] = 0, 0
    ends[:12], ends[-12:] = ends.max() + 256, ends.min() - 256  # 0.4 % at each end, too few to be clipped
    for sound in (sine, ends):
        assert not [one for one in run(tmp_path, partial(replace, values=sound)) if "clipped" in one.text]


def test_labels_that_cannot_be_or_that_hardly_change() -> None:
    def found(values: Any, unit: str) -> list[tuple[str, str]]:
        problems = label_problems(np.asarray(values, np.float64), unit, {"bpm": (20, 320)})
        return [(problem.severity, problem.text.split(" (")[0].split(",")[0]) for problem in problems]

    stuck = [5.859] * 95 + [48.0] * 5
    assert found(stuck, "bpm") == [
        ("error", "labels beyond what is possible"),
        ("warning", "labels that are nearly all equal"),
    ]
    assert found(stuck, "") == [("warning", "labels that are nearly all equal")]
    assert found([*range(50, 250), 5], "bpm") == [("warning", "labels beyond what is possible")]
    assert found(range(50, 150), "bpm") == []


def test_short_copies_of_maps_are_found() -> None:
    def sketch(seed: int) -> Any:
        hashes = Sketch()
        hashes.add(np.random.default_rng(seed).normal(size=(10, 64)).astype(np.float32), np.ones(10, bool))
        return hashes.hashes

    assert same_signals([sketch(0), sketch(1), sketch(0)]) == [(0, 2)]


def test_pictures_on_two_sides(tmp_path: Path) -> None:
    for number, side in enumerate(("train", "train", "val")):
        folder = tmp_path / side / "cat"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number % 2).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    problems: list[Problem] = []
    list(check(DataSpec(name="p", kind="image_folder"), tmp_path, {}, problems))
    assert [(problem.severity, problem.location) for problem in problems] == [
        ("error", "train/cat/0.png and val/cat/2.png")
    ]


def test_problems_of_one_kind_share_a_line() -> None:
    lines = by_severity([Problem("note", "b", "x"), *(Problem("error", "a", f"r{i}") for i in range(10))])
    assert lines == ["error a: r0, r1, r2, r3, r4, r5, r6, r7 and 2 more.", "note b: x."]


@pytest.mark.parametrize(("middle", "size"), [(32768, 2**16), (0, -(2**16)), (2**23, 2**24)])
def test_integers_with_the_wrong_sign_are_named(middle: int, size: int, tmp_path: Path) -> None:
    values = middle + (1000 * np.sin(np.arange(ROWS) / 9)).round()
    read = (
        np.where(values >= size / 2, values - size, values) if size > 0 else np.where(values < 0, values - size, values)
    )
    found = run(tmp_path, lambda file: replace(file, read.astype(np.float32)))
    assert any("sign was mistaken" in problem.text and "p3" in problem.location for problem in found)
    whole = (np.linspace(-1, 1, ROWS) * 32_000).astype(np.float32)
    assert not any("sign" in problem.text for problem in run(tmp_path, lambda file: replace(file, whole)))


def test_a_code_among_labels_is_named_although_windows_are_means(tmp_path: Path) -> None:
    labels = np.repeat(60.0 + np.arange(ROWS // RATE), RATE)
    labels[labels % 9 == 0] = 0

    def change(file: h5py.File) -> None:
        replace(file, labels, "y")

    found = run(tmp_path, change)
    assert any(problem.hint == "Write `missing: [0]` under `label` if so." for problem in found)


@pytest.mark.parametrize("value", [-8388608.0, 3.4028235e38, 12345.678])
def test_the_number_of_a_hint_is_exact(value: float, tmp_path: Path) -> None:
    values = noise(3)
    values[::40] = value
    hint = next(p.hint for p in run(tmp_path, lambda file: replace(file, values)) if "`missing: [" in p.hint)
    found = float(hint.partition("[")[2].partition("]")[0])
    assert np.float32(found) == np.float32(value)
    signal = {"path": "x", "axes": ["time"], "rate_hz": RATE, "missing": [found]}
    assert not any("missing: [" in p.hint for p in run(tmp_path, lambda file: replace(file, values), signal=signal))
