"""Samples that are read and prepared together are those that are read and prepared one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from maekit.adapter.augmentation import Augmentations, SampleAugmentation, SignalAugmentation
from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.config.data_spec import load_spec
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.loading import Samples, sample_rng
from maekit.data.sample import Sample
from maekit.data.sampler import Key
from maekit.data.skipped import Skipped
from maekit.errors import UnreadableError

RNG = np.random.default_rng(0)


class Shift(SampleAugmentation):
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < 0.5:
            return sample
        return Sample(sample.signal[:, ::-1], sample.valid, 7.0, sample.group, sample.location, sample.rate_hz)


class Flip(SignalAugmentation):
    def __call__(self, signal: Any, valid: Any, rng: np.random.Generator) -> Any:
        signal *= rng.choice([-1, 1])
        return signal, valid


@pytest.fixture(
    params=["plain", "channels first", "channels last", "holes", "mask", "row mask", "packed", "pairs", "short"]
)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> HDF5Windows:
    kind: str = request.param
    signal: dict[str, Any] = {"path": "x", "axes": ["time"], "unit": "mm", "rate_hz": 50}
    spec: dict[str, Any] = {"name": "batches", "files": "*.h5", "records": "/*", "missing_budget": 0.9}
    for name in ("a", "b"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for record, rows in (("one", 900), ("two", 730)):
                group = file.create_group(record)
                shape: tuple[int, ...] = (rows,)
                if kind.startswith("channels"):
                    signal["axes"] = ["channel", "time"] if "first" in kind else ["time", "channel"]
                    shape = (2, rows) if "first" in kind else (rows, 2)
                values = RNG.normal(size=shape).astype(np.float32)
                if kind == "holes":
                    values[RNG.random(shape) < 0.01] = np.nan
                if kind == "packed":
                    values = (values * 1000).astype(np.int16)
                if kind == "pairs":
                    signal["complex"], values = "magnitude", values + 1j * values
                data = group.create_dataset("x", data=values)
                if kind == "packed":
                    data.attrs.update({"scale_factor": 0.001 if name == "a" else 0.002, "_FillValue": values[5]})
                if "mask" in kind:
                    group["measured"] = RNG.random(rows) > 0.02
                    spec["valid"] = {"path": "measured"}
                group["bpm"] = 60 + RNG.random(rows)
    spec |= {"signal": signal, "label": {"path": "bpm", "unit": "bpm"}}
    spec["window"] = {"axis": "time", "length": 1000 if kind == "short" else 200, "hop": 70, "pad": True}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    return HDF5Windows(load_spec(tmp_path / "spec.yaml"), tmp_path)


def alike(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind in "fc")


def test_windows_read_together(source: HDF5Windows) -> None:
    order = [*RNG.permutation(len(source)).tolist(), 0, 0, 1]
    for index, sample in zip(order, source.read_batch(order), strict=True):
        single = source[index]
        for part in ("signal", "valid", "label", "group", "location", "rate_hz"):
            assert alike(getattr(sample, part), getattr(single, part)), part


@pytest.mark.parametrize("room", [None, 0])
@pytest.mark.parametrize(
    "options", [{}, {"band_hz": (0.7, 4), "difference": True, "despike": 3, "per_window": True, "rate_hz": 25}]
)
def test_samples_prepared_together(
    options: dict[str, Any], room: int | None, source: HDF5Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = HeartRateAdapter(source.info, **options)
    augmentations = Augmentations.by_stage([Shift(), Flip()])
    if room is not None:
        monkeypatch.setattr("maekit.data.loading.MOST_KEPT", room)
    patches = int(np.prod(adapter.patchifier.grid_size))
    keys = [Key(epoch, int(i)) for epoch in (0, 1) for i in RNG.permutation(len(source))]

    def samples() -> Samples:
        return Samples(source, np.arange(len(source)), adapter, patches=patches, seed=3, augmentations=augmentations)

    batches, singles = samples(), samples()
    items: list[dict[str, Any]] = []
    for at in range(0, len(keys), 8):
        batch = batches.__getitems__(keys[at : at + 8])
        assert isinstance(batch, list)
        items += batch
    for key, item in zip(keys, items, strict=True):
        single = singles[key]
        assert item.keys() == single.keys()
        for name, value in item.items():
            assert alike(value, single[name]), name


def test_an_unreadable_sample_spoils_no_batch(source: HDF5Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    load = source.reader.load

    def torn(file: Any, recording: Any, start: int, stop: int) -> Any:
        if recording is source.recordings[0] and start <= 70 < stop:
            raise UnreadableError("damaged values", location="a.h5")
        return load(file, recording, start, stop)

    adapter = HeartRateAdapter(source.info)
    monkeypatch.setattr(source.reader, "load", torn)
    samples = Samples(source, np.arange(len(source)), adapter, patches=4, skipped=Skipped(50))
    items = samples.__getitems__([Key(0, i) for i in range(len(source))])
    assert isinstance(items, list)
    assert len(items) == len(source)
    bad = [i for i in range(len(source)) if source._window(i)[0] is source.recordings[0] and source._window(i)[1] <= 70]
    assert bad
    assert [item["index"] for item in items[len(bad) :]] == list(range(len(bad), len(source)))


@pytest.mark.parametrize("numbers", [(0, 0, 0), (5, 3, 2**31), (2**32 - 1, 1, 1), (2**40, 1, 7)])
def test_random_numbers_of_a_sample(numbers: tuple[int, int, int]) -> None:
    assert np.array_equal(sample_rng(*numbers).random(5), np.random.default_rng(numbers).random(5))
