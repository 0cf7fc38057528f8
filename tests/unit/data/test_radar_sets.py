"""Public radar sets in the folders they are published in: what is drawn into a map is where its mark says afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import radar_layouts
import yaml
from typer.testing import CliRunner

from maekit.adapters.radar.public_sets import BOXES, polar_objects, power_map
from maekit.adapters.radar.range_doppler import RangeDopplerAdapter
from maekit.cli.main import app
from maekit.config.data_spec import DataSpec, find_spec, load_spec
from maekit.data.convert.convert import convert
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.sample import Axis
from maekit.errors import UserError

SETS = ("cruw", "radarcity", "carrada", "raddet")
TARGETS = radar_layouts.TARGETS


def made(name: str, folder: Path) -> dict[str, Any]:
    return getattr(radar_layouts, name)(folder / name)  # type: ignore[no-any-return]


def converted(name: str, folder: Path, spec: DataSpec | None = None, **options: Any) -> Path:
    return convert(
        spec or load_spec(name),
        folder / name,
        folder / "out",
        transformations={"range_doppler": RangeDopplerAdapter.transformations},
        **options,
    )


def changed(name: str, folder: Path, **rules: Any) -> DataSpec:
    """A copy of a shipped spec with other rules of conversion."""
    text = yaml.safe_load(find_spec(name).read_text())
    text["convert"] |= rules
    (folder / "copy.yaml").write_text(yaml.safe_dump(text))
    return load_spec(folder / "copy.yaml")


def nearest_bin(axis: Axis, value: float) -> int:
    return int(np.abs(axis.points() - value).argmin())


def column(objects: Any, row: Any, name: str) -> float:
    return float(row[[str(one) for one in objects.attrs["columns"]].index(name)])


@pytest.mark.parametrize("name", SETS)
def test_a_target_is_where_its_mark_says(name: str, tmp_path: Path) -> None:
    expected = made(name, tmp_path)
    done = CliRunner().invoke(
        app, ["data", "convert", name, "--from", str(tmp_path / name), "--to", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    spec = load_spec(name)
    source = HDF5Windows(spec, tmp_path / "out", auxiliary=list(spec.auxiliary))
    axes = {axis.name: axis for axis in source.info.axes}
    near = expected["tolerance"]
    seen = 0
    with h5py.File(tmp_path / f"out/{name}.h5") as file:
        for record in file.values():
            if "objects" not in record:
                assert name == "cruw"
                assert "image" not in record
                continue
            for at, frame in enumerate(record["frame"][()]):
                rows = record["objects"][at]
                rows = rows[np.isfinite(rows).all(-1)]
                if name == "cruw" and frame == 1:
                    assert not len(rows)  # a line is a mark, and there is none
                    continue
                assert len(rows) == 1
                distance, azimuth, doppler, kind = TARGETS[int(frame)]
                where = {one: column(record["objects"], rows[0], one) for one in record["objects"].attrs["columns"]}
                assert where["range"] == pytest.approx(distance, abs=near[0])
                assert where["azimuth"] == pytest.approx(azimuth, abs=near[1])
                assert where["class"] == kind
                values = record["range_azimuth"][at]
                assert values.dtype == np.float32
                peak = np.unravel_index(values.argmax(), values.shape)
                assert peak == (
                    nearest_bin(axes["range"], where["range"]),
                    nearest_bin(axes["azimuth"], where["azimuth"]),
                )
                assert np.median(values) <= expected["floor"]
                if "peak" in expected:
                    assert values.max() == pytest.approx(expected["peak"], rel=1e-5)
                if "range_doppler" in record:
                    assert where["doppler"] == pytest.approx(doppler, abs=0.22)
                    slow = source.auxiliary["range_doppler"].axes
                    peak = np.unravel_index(record["range_doppler"][at].argmax(), record["range_doppler"].shape[1:])
                    assert peak == (nearest_bin(slow[0], where["range"]), nearest_bin(slow[1], where["doppler"]))
                if "sizes" in expected:
                    sizes = [where[f"{axis}_extent"] for axis in ("range", "azimuth", "doppler")]
                    assert sizes == pytest.approx(expected["sizes"], rel=1e-5)
                seen += 1
    assert seen == {"cruw": 4, "radarcity": 6, "carrada": 5, "raddet": 3}[name]


@pytest.mark.parametrize("name", SETS)
def test_the_shipped_spec_opens_what_was_converted(name: str, tmp_path: Path) -> None:
    made(name, tmp_path)
    spec = load_spec(name)
    converted(name, tmp_path)
    source = HDF5Windows(spec, tmp_path / "out", auxiliary=list(spec.auxiliary))
    assert source.objects == tuple(spec.label.objects or ())  # type: ignore[union-attr]
    assert source.classes == tuple(spec.label.classes or ())  # type: ignore[union-attr]
    sample = next(source[i] for i in range(len(source)) if "image" in source[i].auxiliary)
    assert isinstance(sample.label, np.ndarray)
    assert np.isfinite(sample.label).all(-1).sum() == 1
    image = sample.auxiliary["image"].signal
    assert image.shape[0] == 3
    groups = set(source.groups.tolist())
    held = [*getattr(spec.split, "validation", []), *getattr(spec.split, "test", [])]
    assert groups & set(held) or name == "raddet"
    if name == "raddet":
        assert groups == {"0"}
    if name == "radarcity":
        assert groups == {"train_Arcisstrasse1", "test_Arcisstrasse1"}
        assert sample.auxiliary["depth"].signal.shape == (2, 48, 64)


def test_pictures_stay_with_their_frame_and_their_side(tmp_path: Path) -> None:
    made("raddet", tmp_path)
    with h5py.File(converted("raddet", tmp_path)) as file:
        assert list(file) == ["test_part1", "train_part1"]
        train = file["train_part1"]
        assert train["frame"][()].tolist() == [0, 2]
        assert train["block"][()].tolist() == [0, 0]
        assert train["image"].shape == (2, 30, 40, 3)  # the left one of two 80 x 60, half as large
        assert train["image"][:, 5, 5, 1].tolist() == pytest.approx([0, 80], abs=3)
        assert not (train["image"][:, :, :, 0] > 150).any()
    made("radarcity", tmp_path)
    with h5py.File(converted("radarcity", tmp_path)) as file:
        image = file["train_Arcisstrasse1/image"][()]
        assert image.shape == (3, 12, 16, 3)
        assert (image[:, :, 8:, 0] == 200).all()
        assert [image[i, 0, 0, 0] for i in range(3)] == [0, 40, 80]
        assert file["test_Arcisstrasse1"].attrs["frame_rate_hz"] == 15
        assert file["train_Arcisstrasse1/depth"].shape == (48, 64, 2)


def test_a_cube_is_never_kept_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("raddet", tmp_path)
    opened: list[str] = []
    load = np.load

    def counted(file: Any, **options: Any) -> Any:
        opened.append(Path(file).name)
        return load(file, **options)

    monkeypatch.setattr(np, "load", counted)
    result = converted("raddet", tmp_path)
    assert sorted(name for name in opened if name.endswith(".npy")) == ["000000.npy", "000001.npy", "000002.npy"]
    assert result.stat().st_size < 2 << 20


def break_cruw_text(folder: Path) -> None:
    (folder / "annotations/train/2019_04_09_BMS1001.txt").write_text("0 5.0 0.1 pedestrian\n1 4.0 car\n")


def break_cruw_class(folder: Path) -> None:
    (folder / "annotations/train/2019_04_09_BMS1001.txt").write_text("0 5.0 0.1 pedestrain\n")


def cut(pattern: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = sorted(folder.glob(pattern))[-1]
        path.write_bytes(path.read_bytes()[:-50])

    return spoil


def without(pattern: str) -> Callable[[Path], None]:
    return lambda folder: sorted(folder.glob(pattern))[-1].unlink()


def of_another_shape(pattern: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = sorted(folder.glob(pattern))[-1]
        np.save(path, np.load(path)[:-1])

    return spoil


BAD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a line cut short": ("cruw", break_cruw_text, r"BMS1001.txt: a line that is no object.*1 4.0 car \(line 2\)"),
    "an unknown class": ("cruw", break_cruw_class, "an unknown class; got 'pedestrain'.*Did you mean 'pedestrian'"),
    "a torn map": ("cruw", cut("sequences/train/*/RADAR_RA_H/*.npy"), r"000002_0192.npy: cannot be read as NPY"),
    "a missing picture": (
        "cruw",
        without("sequences/train/*/IMAGES_0/*.jpg"),
        r"frames without 'image'.*1 frames \(2\)",
    ),
    "a missing chirp": ("cruw", without("sequences/train/*/RADAR_RA_H/*_0192.npy"), "fewer files.*got 3; expected 4"),
    "a torn picture": ("radarcity", cut("train/*/IMAGES_0/*.png"), "000002.png: cannot be read as a picture"),
    "another shape": (
        "radarcity",
        of_another_shape("train/*/RADAR_RA_H/*.npy"),
        r"another shape.*\(223, 221\).*\(224, 221\)",
    ),
    "a missing map": ("carrada", without("*/annotations/box/range_doppler_light.json"), "expected two files"),
    "a torn JSON": (
        "carrada",
        cut("*/annotations/box/range_angle_light.json"),
        "range_angle_light.json: cannot be read as JSON",
    ),
    "a missing mark": ("raddet", without("train/gt/part1/*.pickle"), r"train_part1: frames without 'objects'.*2"),
    "a torn pickle": ("raddet", cut("train/gt/part1/*.pickle"), "000002.pickle: cannot be read as a pickle"),
    "a torn cube": ("raddet", cut("test/RAD/part1/*.npy"), "000001.npy: cannot be read as NPY"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_damaged_or_missing_is_said_and_nothing_half_written_stays(case: str, tmp_path: Path) -> None:
    name, spoil, message = BAD[case]
    made(name, tmp_path)
    spoil(tmp_path / name)
    with pytest.raises(UserError, match=message):
        converted(name, tmp_path)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", SETS)
def test_another_folder_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / name / "somewhere").mkdir(parents=True)
    (tmp_path / name / "somewhere/x.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"no source file matches.*Is this the right folder"):
        converted(name, tmp_path)
    assert not (tmp_path / "out").exists()


def test_frames_that_a_stream_lacks_may_be_left_out_but_not_silently(tmp_path: Path) -> None:
    made("carrada", tmp_path)
    (tmp_path / "carrada/2019-09-16-12-52-12/camera_images/000002.jpg").unlink()
    lines: list[str] = []
    with h5py.File(converted("carrada", tmp_path, tell=lines.append)) as file:
        assert file["2019-09-16-12-52-12/frame"][()].tolist() == [0, 1]
        assert file["2020-02-28-13-14-35/frame"][()].tolist() == [1, 2]  # nobody looked at frame 0
        assert all(len(data) == 2 for data in file["2019-09-16-12-52-12"].values())
    assert "2019-09-16-12-52-12: left out 1 frames (2), without image" in lines
    assert "2020-02-28-13-14-35: left out 1 frames (0), without objects" in lines
    with pytest.raises(UserError, match=r"frames without 'objects'.*1 frames \(0\)"):
        converted("carrada", tmp_path, changed("carrada", tmp_path, frames="all"), overwrite=True)


def test_boxes_that_disagree_are_left_out(tmp_path: Path) -> None:
    made("carrada", tmp_path)
    path = tmp_path / "carrada/2019-09-16-12-52-12/annotations/box/range_doppler_light.json"
    path.write_text(path.read_text().replace('"labels": [3]', '"labels": [1]'))
    lines: list[str] = []
    with h5py.File(converted("carrada", tmp_path, tell=lines.append)) as file:
        assert file["2019-09-16-12-52-12/frame"][()].tolist() == [0, 2]
    assert any("1 frames left out, for which the two files of boxes disagree" in line for line in lines)


def test_rows_of_one_file_become_recordings(real_points: Path, tmp_path: Path) -> None:
    """Cells in lists, cut by offsets, told apart by sequence: counted into maps, and their clusters as objects."""
    spec = load_spec("radar_range_azimuth_points")
    convert(spec, real_points, tmp_path, transformations={"range_doppler": RangeDopplerAdapter.transformations})
    source = HDF5Windows(spec, tmp_path, auxiliary=["range_doppler"])
    assert len(source) == 4
    assert source.groups.tolist() == ["0", "0", "0", "7"]
    with h5py.File(tmp_path / "radar_range_azimuth_points.h5") as file:
        assert list(file) == ["ra_0_1", "ra_7_0"]
        first = file["ra_0_1"]
        assert first["frame"][()].tolist() == [1, 3, 4]
        counts = first["range_azimuth"][()]
        assert counts.sum((1, 2)).tolist() == [3, 0, 1]  # a frame without cells stays
        assert first["range_doppler"][()].sum() == 4
        assert counts[0, 84, 48] == 2
        assert counts[0, 90, 10] == 1  # no cluster's, and in the map all the same
        objects = first["objects"][0]
        assert np.isnan(first["objects"][1]).all()
        assert list(first["objects"].attrs["columns"]) == list(BOXES)
        assert objects[0, :3] == pytest.approx([100 * 0.037667, 30.0, 0.5 * (64 + 66) * 0.03042445], rel=1e-4)
        assert objects[0, 4] == pytest.approx(0.037667)
        assert objects[0, 6] == pytest.approx(3 * 0.03042445, rel=1e-4)
    rows = np.load(real_points / "ra_points.npz")
    np.savez(real_points / "ra_points.npz", **{**rows, "frame": rows["frame"][:3]})
    with pytest.raises(UserError, match=r"ra_points.npz:frame: not one entry a row; got 3; expected 4"):
        convert(
            spec,
            real_points,
            tmp_path,
            transformations={"range_doppler": RangeDopplerAdapter.transformations},
            overwrite=True,
        )


@pytest.fixture
def real_points(tmp_path: Path) -> Path:
    """The layout of the real lists of cells: four frames of two recordings."""

    def cell(distance: int, sine: int, speed: int, cluster: int) -> list[float]:
        return [distance * 0.037667, float(np.arccos(sine / 32)), speed * 0.03042445, cluster]

    points = [
        cell(100, 16, 64, 0),
        cell(100, 16, 66, 0),
        cell(106, -22, 10, -1),
        cell(50, 0, -20, 0),
        cell(60, 3, 5, 2),
    ]
    folder = tmp_path / "points"
    folder.mkdir()
    np.savez(
        folder / "ra_points.npz",
        points=np.array(points, dtype=np.float32),
        offsets=np.array([0, 3, 3, 4, 5]),
        sequence=np.array([0, 0, 0, 7], dtype=np.int16),
        subsequence=np.array([1, 1, 1, 0], dtype=np.int16),
        frame=np.array([1, 3, 4, 1], dtype=np.int16),
    )
    return folder


def test_the_real_cells(real_data: Path, tmp_path: Path) -> None:
    """Objects of the real lists lie where their cells are, and their velocity says how their range changes."""
    with np.load(real_data / "radar_range_azimuth_points/ra_points.npz") as lists:
        part = int(np.flatnonzero(lists["sequence"] == lists["sequence"][0])[-1]) + 1
        small = {name: lists[name][:part] for name in ("sequence", "subsequence", "frame")}
        offsets = lists["offsets"][: part + 1]
        small |= {"offsets": offsets, "points": lists["points"][: offsets[-1]]}
    np.savez(tmp_path / "ra_points.npz", **small)
    spec = load_spec("radar_range_azimuth_points")
    result = convert(
        spec, tmp_path, tmp_path / "out", transformations={"range_doppler": RangeDopplerAdapter.transformations}
    )
    axes = HDF5Windows(spec, tmp_path / "out").info.axes
    steps, speeds = [], []
    with h5py.File(result) as file:
        for record in file.values():
            maps, table, number = record["range_azimuth"][()], record["objects"][()], record["frame"][()]
            assert maps.sum() == record["range_doppler"][()].sum()
            for at, rows in enumerate(table):
                for row in rows[np.isfinite(rows).all(-1)]:
                    inside = (np.abs(axes[0].points() - row[0]) <= row[4])[:, None] & (
                        np.abs(axes[1].points() - row[1]) <= row[5]
                    )
                    assert maps[at][inside].sum() >= 30  # no cluster was smaller
                    before = (
                        table[at - 1][np.isfinite(table[at - 1]).all(-1)]
                        if at and number[at] == number[at - 1] + 1
                        else []
                    )
                    for other in before:
                        if abs(other[0] - row[0]) < 0.3 and abs(other[1] - row[1]) < 8:
                            steps.append((row[0] - other[0]) * 15)
                            speeds.append((row[2] + other[2]) / 2)
    assert len(steps) > 200
    assert np.corrcoef(steps, speeds)[0, 1] > 0.5


def test_duplicates_of_the_real_maps_are_in_one_group(real_data: Path, tmp_path: Path) -> None:
    spec = load_spec("radar_range_doppler_maps")
    convert(spec, real_data / "radar_range_doppler_maps", tmp_path)
    source = HDF5Windows(spec, tmp_path)
    assert len(source) == 238
    assert source.labels is not None
    same: dict[bytes, set[str]] = {}
    for i in range(len(source)):
        same.setdefault(source[i].signal.tobytes(), set()).add(str(source.groups[i]))
    assert len(same) == 228
    assert all(len(groups) == 1 for groups in same.values())
    assert (np.asarray(source.labels, dtype=np.int64) > 0).sum() == 175


def test_power_is_averaged_where_it_is_said_to_be() -> None:
    values = np.zeros((2, 3, 4, 2), dtype=np.float32)
    values[0, 1, 2] = (3, 4)
    made_of, _, _ = power_map(values, pairs=True, over=[0], flip=[1])
    assert made_of[1, 1] == pytest.approx(10 * np.log10(12.5))
    assert np.delete(made_of.ravel(), 5) == pytest.approx(-120)
    for wrong, options in ((values, {}), (values[..., 0], {"pairs": True}), (values.astype(complex), {"over": [4]})):
        with pytest.raises(ValueError, match=r"expected|over"):
            power_map(wrong, **options)  # type: ignore[arg-type]


def test_lines_of_several_files_are_one_table() -> None:
    found, _, _ = polar_objects([[], [["3", "1.5", "90", "b"]]], classes=["a", "b"], angle="deg")
    assert found == {3: [(1.5, 90.0, 1)]}
    assert polar_objects([], classes=["a"])[0] == {}


def test_rules_that_do_not_go_together_are_said(tmp_path: Path) -> None:
    for rules, message in (
        ({"derived": {"x": {"adapter": "heart_rate", "function": "r_peaks", "source": "objects"}}}, "no `derived`"),
        ({"attributes": {"x": "y"}}, "named groups of `record`"),
        ({"record": "x", "blocks": 5}, "go with frames"),
    ):
        with pytest.raises(UserError, match=message):
            changed("raddet", tmp_path, **rules)
    shutil.rmtree(tmp_path)
