"""Simulated streets: the radar and the camera see the same world, and the labels say where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from maekit.adapters.radar.range_azimuth_map import range_azimuth_map
from maekit.adapters.radar.range_doppler_map import range_doppler_map
from maekit.adapters.simulate import street as street_module
from maekit.adapters.simulate.street import ARRAY_RADAR, COLUMNS, Echo, azimuth_sines, simulate_street
from maekit.adapters.simulate.street_camera import (
    BUILDING,
    FARTHEST_M,
    GROUND,
    SKY,
    SURFACES,
    Camera,
    look,
    semantic_depth,
)
from maekit.adapters.simulate.street_rendering import render
from maekit.adapters.simulate.street_traffic import Traveller, in_view, traffic
from maekit.adapters.simulate.street_world import Scatterers, Street, hidden
from maekit.config.data_spec import find_spec
from maekit.errors import UserError

Array = NDArray[Any]

AT = {name: location for location, name in enumerate(COLUMNS)}
STRONG = replace(ARRAY_RADAR, power_w=10.0)


@pytest.fixture
def street() -> Street:
    return Street(np.random.default_rng(3))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streets that give no echo."""
    nothing = Scatterers(np.empty((0, 2)), np.empty(0), np.empty(0, dtype=bool))
    monkeypatch.setattr(Street, "clutter", lambda self, rng, farthest_m: nothing)


@pytest.fixture
def open_country(street: Street, bare: None) -> Street:
    """Nothing stands there, and the radar hears nothing of it."""
    street.walls, street.facing = street.walls[:0], street.facing[:0]
    street.posts, street.wooden, street.crowns = street.posts[:0], street.wooden[:0], street.crowns[:0]
    return street


def walker(name: str, start: tuple[float, float], end: tuple[float, float], speed_mps: float) -> Traveller:
    """At its start at time zero."""
    return Traveller(name, np.array([start, end]), 0.0, speed_mps, np.random.default_rng(0))


def read(spec: Path) -> dict[str, dict[str, Array]]:
    with h5py.File(spec.parent / "street.h5") as file:
        return {name: {key: data[()] for key, data in record.items()} for name, record in file.items()}


def nearest_bin(step: dict[str, Any], value: float) -> int:
    """Of an axis of a data spec, from its `start`, `step` and `spacing` alone."""
    if step.get("spacing") == "sine":
        value = float(np.sin(np.deg2rad(value)))
    return round((value - step.get("start", 0.0)) / step["step"])


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("spec_name", "path", "axis"),
    [("simulated_street", "range_azimuth", "azimuth"), ("simulated_street_doppler", "range_doppler", "doppler")],
)
def test_maps_peak_where_objects_are(tmp_path: Path, spec_name: str, path: str, axis: str) -> None:
    """One at a time, on the bins of the data spec, half of its box and a bin around its centre."""
    simulate_street(tmp_path, drives=8, frames=12, users=1, image=None, radar=STRONG, seed=2)
    spec = yaml.safe_load((tmp_path / f"{spec_name}.yaml").read_text())
    steps = spec["signal"]["steps"]
    inside = []
    for record in read(tmp_path / "x.yaml").values():
        for power, objects in zip(record[path], record["objects"], strict=True):
            if np.isnan(objects[0, 0]):
                continue
            one = objects[0]
            row, column = np.unravel_index(power.argmax(), power.shape)
            half = one[AT[f"{axis}_extent"]] / 2
            low, high = (nearest_bin(steps[axis], one[AT[axis]] + sign * half) for sign in (-1, 1))
            near = nearest_bin(steps["range"], one[AT["range"]] - one[AT["range_extent"]] / 2)
            far = nearest_bin(steps["range"], one[AT["range"]] + one[AT["range_extent"]] / 2)
            inside.append(near - 1 <= row <= far + 1 and low - 1 <= column <= high + 1)
    assert len(inside) > 60
    assert np.mean(inside) > 0.9  # one outside of the field of view may be nearer, and louder


@pytest.mark.parametrize("away", [-1, 1])
@pytest.mark.parametrize("azimuth_deg", [-40.0, 25.0])
def test_a_cyclist_is_on_its_bins(open_country: Street, away: int, azimuth_deg: float) -> None:
    """Range, azimuth to the right, and receding above zero Doppler."""
    ahead = np.array([np.sin(np.deg2rad(azimuth_deg)), np.cos(np.deg2rad(azimuth_deg))])
    start = (15 - 10 * away) * ahead
    user = walker("cyclist", tuple(start), tuple(start + 20 * away * ahead), 5.0)
    rng = np.random.default_rng(1)
    cube = torch.from_numpy(Echo(open_country, [user], STRONG, 8, rng).cube(2.0, rng))
    sines = azimuth_sines(64)
    beams = range_azimuth_map(cube, sines=torch.from_numpy(sines).float())
    row, column = np.unravel_index(int(beams.argmax()), (128, 64))
    assert abs(row * STRONG.range_resolution_m - 15) < user.length_m / 2 + STRONG.range_resolution_m
    assert abs(column - np.interp(ahead[0], sines, np.arange(64))) <= 1.5
    power = range_doppler_map(cube, average_receivers=True)
    doppler = (int(power.amax(0).argmax()) - STRONG.chirps // 2) * STRONG.velocity_resolution_mps
    assert doppler == pytest.approx(5.0 * away, abs=1.5 + STRONG.velocity_resolution_mps)  # pedals: 1.5 m/s


def test_limbs_spread_over_doppler_and_a_car_over_range(open_country: Street) -> None:
    def cells(name: str, axis: int) -> int:
        rng = np.random.default_rng(1)
        user = walker(name, (0.5, 12.0), (0.5, 30.0), 1.5)
        power = sum(
            10 ** (range_doppler_map(torch.from_numpy(Echo(open_country, [user], STRONG, 2, rng).cube(t, rng)))[0] / 10)
            for t in np.arange(0.1, 3, 0.1)
        )
        profile = torch.as_tensor(power).amax(1 - axis)
        return int((profile > profile.max() / 300).sum())

    assert cells("pedestrian", 1) > cells("car", 1)
    assert cells("car", 0) >= cells("pedestrian", 0) + 8


def test_a_pedestrian_is_weaker_than_a_car_and_near_noise_far_away(open_country: Street) -> None:
    def over_noise(name: str, range_m: float) -> float:
        rng = np.random.default_rng(2)
        sines = torch.linspace(-0.8, 0.8, 33)
        user = walker(name, (0.0, range_m), (0.0, range_m + 50), 1.0)
        power = [
            10 ** (range_azimuth_map(torch.from_numpy(echo.cube(t, rng)), sines=sines) / 10)
            for t in np.arange(0, 1, 0.1)
            for echo in [Echo(open_country, [user], ARRAY_RADAR, 8, rng)]
        ]
        mean = torch.stack(power).mean(0)
        return float(10 * torch.log10(mean.max() / mean.median()))

    assert 2 < over_noise("pedestrian", 30) < 8
    assert over_noise("car", 15) > over_noise("pedestrian", 15) + 6


def test_a_building_silences_and_a_car_weakens(open_country: Street) -> None:
    def watts(*others: Traveller) -> float:
        rng = np.random.default_rng(4)
        echo = Echo(open_country, [walker("pedestrian", (0.0, 20.0), (0.0, 60.0), 1.0), *others], STRONG, 8, rng)
        power = range_doppler_map(torch.from_numpy(echo.cube(0.0, rng)), average_receivers=True)
        return float(10 ** (power[70:, :] / 10).max())

    alone = watts()
    behind = watts(walker("car", (0.0, 10.0), (40.0, 10.0), 0.1))
    assert 2 < alone / behind < 60
    open_country.walls = np.array([[(-5.0, 10.0), (5.0, 10.0)]])
    assert watts() < alone / 1e3
    assert not in_view(np.array([0.0, 20.0]), open_country, 30.0)
    assert in_view(np.array([0.0, 9.0]), open_country, 30.0)


def test_what_stands_before_what() -> None:
    wall = np.array([[(-1.0, 5.0), (1.0, 5.0)]])
    places = np.array([[(0, 6), (0, 4), (3, 6)], [(0, 5), (1.1, 6), (0, -6)]], dtype=float)
    assert hidden(places, wall).tolist() == [[True, False, False], [False, True, False]]


def test_clutter_comes_from_what_can_be_seen(street: Street) -> None:
    """A facade in front of every scatterer would be one that the picture does not show."""
    clutter = street.clutter(np.random.default_rng(0), 33.0)
    assert len(clutter.places) > 150
    assert not hidden(clutter.places, street.walls).any()
    distance = np.hypot(*clutter.places.T)
    rays = clutter.places / distance[:, None]
    first = street.crossings(rays).min(0)
    assert (distance <= 1.006 * first).all()
    assert np.isclose(distance, first).mean() > 0.2  # on facades
    assert distance.max() < 33


def test_the_camera_is_a_pinhole() -> None:
    camera = Camera(64, 128, field_deg=120.0, above_ground_m=1.6)
    assert camera.focal == pytest.approx(64 / np.sqrt(3))
    pixels = camera.project(np.array([(0, 9, 1.6), (np.tan(np.pi / 3), 1, 1.6), (-3, 6, 0)]))
    np.testing.assert_allclose(pixels, [(64, 32), (128, 32), (64 - camera.focal / 2, 32 + camera.focal * 1.6 / 6)])
    np.testing.assert_allclose(
        camera.finer(4).project(np.array([2.0, 5.0, 0.3])), 4 * camera.project(np.array([2, 5, 0.3]))
    )


@pytest.mark.parametrize(("name", "x", "y"), [("pedestrian", 2.0, 7.0), ("cyclist", -4.0, 8.0), ("car", 1.0, 12.0)])
def test_road_users_are_drawn_where_the_pinhole_puts_them(open_country: Street, name: str, x: float, y: float) -> None:
    camera = Camera(256, 512)
    view = look(open_country, camera)
    ahead = np.array([x, y]) / np.hypot(x, y)  # it goes away from the camera, so that it is seen from behind
    user = walker(name, (x, y), tuple(np.array([x, y]) + 50 * ahead), 1.0)
    there, empty = (
        np.asarray(render(view, camera, open_country.light, users, 1e-3)).astype(int) for users in ([user], [])
    )
    rows, columns = np.nonzero(np.abs(there - empty).sum(-1))
    (left, bottom), (right, _) = camera.project([(*corner, 0.0) for corner in user.footprint(0.0)[[3, 2]]])
    assert abs((columns.min() + columns.max() + 1) / 2 - camera.project(np.array([x, y, 0.0]))[0]) <= 2.5
    assert abs(rows.max() + 1 - bottom) <= 3
    head = camera.project(np.array([x, y, user.height_m]))[1]
    assert abs(rows.min() - head) <= 4
    if name == "car":
        assert (columns.min(), columns.max() + 1) == pytest.approx((left, right), abs=3)


def test_what_is_nearer_hides_what_is_farther(open_country: Street) -> None:
    open_country.walls, open_country.facing = np.array([[(-3.0, 6.0), (3.0, 6.0)]]), np.array([[0.0, -1.0]])
    camera = Camera(128, 256)
    view = look(open_country, camera)
    empty = np.asarray(render(view, camera, open_country.light, [], 0.0))
    behind = walker("pedestrian", (0.0, 9.0), (0.0, 60.0), 1.0)
    before = walker("pedestrian", (0.0, 4.0), (0.0, 5.0), 0.1)
    assert (np.asarray(render(view, camera, open_country.light, [behind], 0.1)) == empty).all()
    assert (np.asarray(render(view, camera, open_country.light, [before], 0.1)) != empty).any()


def test_near_road_users_are_painted_over_far_ones(open_country: Street) -> None:
    camera = Camera(128, 256)
    view = look(open_country, camera)
    car, behind = walker("car", (-1.0, 6.0), (9.0, 6.0), 1.0), walker("pedestrian", (0.0, 9.0), (0.0, 19.0), 1.0)
    alone, both, again = (
        np.asarray(render(view, camera, open_country.light, users, 0.5))
        for users in ([car], [car, behind], [behind, car])
    )
    assert (both == again).all()
    waist = int(camera.project(np.array([0.0, 6.0, 0.5]))[1])
    assert (both[waist:] == alone[waist:]).all()  # the legs are behind the car
    assert (both[:waist] != alone[:waist]).any()  # the head looks over it


def test_depth_of_a_wall_the_ground_and_the_sky(open_country: Street) -> None:
    open_country.walls, open_country.facing = np.array([[(-50.0, 10.0), (50.0, 10.0)]]), np.array([[0.0, -1.0]])
    open_country.wall_height_m, open_country.wall_building = np.array([5.0]), np.array([0])
    camera = Camera()
    view = look(open_country, camera)
    top, foot = (camera.project(np.array([0.0, 10.0, z]))[1] for z in (5.0, 0.0))
    rows = np.arange(64) + 0.5
    wall, ground = (rows > top) & (rows < foot), rows > foot
    assert (view.depth_m[wall] == 10).all()
    assert (view.surface[wall] == BUILDING).all()
    assert (view.surface[rows < top] == SKY).all()
    assert (view.depth_m[rows < top] == FARTHEST_M).all()
    assert (view.surface[ground] == GROUND).all()
    expected = camera.focal * camera.above_ground_m / (rows[ground] - 32)
    np.testing.assert_allclose(view.depth_m[ground], np.repeat(expected[:, None], 128, 1))
    channels = semantic_depth(view)
    assert channels.shape == (1 + len(SURFACES), 64, 128)
    assert channels.dtype == np.float32
    assert (channels[1:].sum(0) == (view.surface != SKY)).all()


def test_depth_of_a_slanting_wall(street: Street) -> None:
    """Every pixel of a building, put back into the plan by its depth, lies on a wall."""
    camera = Camera()
    view = look(street, camera)
    row, column = np.nonzero(view.surface == BUILDING)
    depth = view.depth_m[row, column]
    places = np.stack([(column + 0.5 - 64) / camera.focal * depth, depth], -1)
    starts, sides = street.walls[:, 0], street.walls[:, 1] - street.walls[:, 0]
    share = np.clip(((places[:, None] - starts) * sides).sum(-1) / (sides**2).sum(-1), 0, 1)
    apart = np.hypot(*np.moveaxis(places[:, None] - starts - share[..., None] * sides, -1, 0)).min(1)
    assert len(row) > 500
    assert apart.max() < 1e-6


def test_traffic_keeps_to_the_street() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        street, times = Street(rng), np.arange(80) * 0.1
        users = traffic(street, times, 4, 32.0, rng)
        seen = np.array([in_view(user.centre(times).T, street, 32.0) for user in users])
        assert seen.sum(0).mean() >= 1
        assert seen.sum(0).max() <= 4
        for user in users:
            across = np.abs(user.centre(times).T @ street.across + street.radar_across_m)
            if user.name == "pedestrian":
                assert across.max() < street.facade_m
            else:
                assert across.max() + user.width_m / 2 < street.road_m


def test_drives_are_a_function_of_the_seed_and_differ(tmp_path: Path) -> None:
    size = {"frames": 3, "image": (16, 32)}
    first = read(simulate_street(tmp_path / "a", drives=2, **size))  # type: ignore[arg-type]
    more = read(simulate_street(tmp_path / "b", drives=3, **size))  # type: ignore[arg-type]
    other = read(simulate_street(tmp_path / "c", drives=2, seed=1, **size))  # type: ignore[arg-type]
    for drive, record in first.items():
        assert set(record) == {"range_azimuth", "range_doppler", "image", "depth", "objects"}
        for name, values in record.items():
            np.testing.assert_array_equal(values, more[drive][name])
    for a, b in ((first["drive_000"], first["drive_001"]), (first["drive_000"], other["drive_000"])):
        assert not any(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def test_the_file_is_as_the_data_spec_says(tmp_path: Path) -> None:
    spec = simulate_street(tmp_path, drives=1, frames=4)
    assert spec.name == "simulated_street.yaml"
    record = read(spec)["drive_000"]
    for name in ("simulated_street", "simulated_street_doppler"):
        text = (tmp_path / f"{name}.yaml").read_text()
        assert text == find_spec(name).read_text()
        said = yaml.safe_load(text)
        signals = {"signal": said["signal"], **said["auxiliary"]}
        for signal in signals.values():
            values = record[signal["path"]]
            assert len(signal["axes"]) == values.ndim
            if "channel" in signal["axes"]:
                assert values.shape[signal["axes"].index("channel")] == len(signal["channels"])
        with h5py.File(tmp_path / "street.h5") as file:
            assert file["drive_000"].attrs[said["group"]["attribute"]] == "drive000"
            assert file["drive_000"].attrs["frame_rate_hz"] == pytest.approx(10)
            assert list(file["drive_000/objects"].attrs["columns"]) == list(COLUMNS)
            assert set(said["label"]["objects"]) <= set(COLUMNS)
    assert record["range_azimuth"].shape == (4, 128, 64)
    assert record["range_doppler"].shape == (4, 128, 64)
    assert record["image"].shape == (4, 64, 128, 3)
    assert record["image"].dtype == np.uint8
    sines = azimuth_sines(64)
    assert said["signal"]["steps"]["range"]["step"] == pytest.approx(ARRAY_RADAR.range_resolution_m, rel=1e-5)
    azimuth = yaml.safe_load(spec.read_text())["signal"]["steps"]["azimuth"]
    np.testing.assert_allclose(azimuth["start"] + azimuth["step"] * np.arange(64), sines, atol=1e-4)
    objects = record["objects"][~np.isnan(record["objects"][..., 0])]
    assert len(objects)
    assert (objects[:, AT["range"]] > 2).all()
    assert (np.abs(objects[:, AT["azimuth"]]) < 60).all()
    assert (objects[:, AT["range_extent"]] >= np.float32(ARRAY_RADAR.range_resolution_m)).all()
    assert (objects[:, AT["doppler_extent"]] >= np.float32(ARRAY_RADAR.velocity_resolution_mps)).all()


def test_doppler_of_objects_is_how_their_range_changes(tmp_path: Path) -> None:
    objects = read(simulate_street(tmp_path, drives=2, frames=6, frame_interval_s=0.02, image=None))
    found = 0
    for record in objects.values():
        for before, after in zip(record["objects"][:-1], record["objects"][1:], strict=True):
            for one in before[~np.isnan(before[:, 0])]:
                for same in after[after[:, AT["track"]] == one[AT["track"]]]:
                    speed = (same[AT["range"]] - one[AT["range"]]) / 0.02
                    assert speed == pytest.approx((one[AT["doppler"]] + same[AT["doppler"]]) / 2, abs=0.05)
                    found += 1
    assert found > 5


def test_clutter_is_taken_out_of_the_azimuth_maps_only(tmp_path: Path) -> None:
    kept = read(simulate_street(tmp_path / "a", drives=1, frames=2, image=None))["drive_000"]
    without = read(simulate_street(tmp_path / "b", drives=1, frames=2, image=None, clutter="mean"))["drive_000"]
    np.testing.assert_array_equal(kept["range_doppler"], without["range_doppler"])
    assert set(kept) == {"range_azimuth", "range_doppler", "objects"}
    assert np.percentile(kept["range_azimuth"], 90) > np.percentile(without["range_azimuth"], 90) + 6


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"drives": 0}, "nothing to simulate"),
        ({"frames": 0}, "nothing to simulate"),
        ({"users": 0}, "nothing to simulate"),
        ({"frame_interval_s": 0.0}, "no time"),
        ({"image": (4, 128)}, "too small"),
        ({"clutter": "all"}, "no such way"),
        ({"receivers": 1}, "no azimuth"),
        ({"azimuth_bins": 1}, "no azimuth"),
        ({"radar": replace(ARRAY_RADAR, bandwidth_hz=4e9)}, "does not fit"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        simulate_street(tmp_path / "none", **wrong)
    assert not (tmp_path / "none").exists()


def test_blocks_of_frames_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(simulate_street(tmp_path / "a", drives=1, frames=5, image=None))["drive_000"]
    monkeypatch.setattr(street_module, "BLOCK", 2)
    parts = read(simulate_street(tmp_path / "b", drives=1, frames=5, image=None))["drive_000"]
    np.testing.assert_allclose(
        whole["range_azimuth"], parts["range_azimuth"], atol=street_module.QUANTISATION_DB * 1.01
    )
    np.testing.assert_allclose(
        whole["range_doppler"], parts["range_doppler"], atol=street_module.QUANTISATION_DB * 1.01
    )
