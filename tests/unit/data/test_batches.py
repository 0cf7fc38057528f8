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
from maekit.config.data_spec import DataSpec, load_spec
from maekit.data.hdf5.contiguous import contiguous_rows
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.loading import Samples
from maekit.data.sample import Sample
from maekit.data.sampler import Key
from maekit.data.seeding import sample_rngs
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


@pytest.mark.parametrize("kind", ["contiguous", "chunked", "compressed"])
def test_an_unreadable_sample_spoils_no_batch(kind: str, tmp_path: Path) -> None:
    """The last rows are lost while the file is open: cut off, or overwritten."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        options: dict[str, Any] = {} if kind == "contiguous" else {"chunks": (100,)}
        options |= {"compression": "gzip"} if kind == "compressed" else {}
        data = file.create_dataset("x", data=RNG.normal(size=1000).astype(np.float32), **options)
        file.flush()
        last = data.id.get_offset() + 3600 if kind == "contiguous" else data.id.get_chunk_info(9).byte_offset
    source = HDF5Windows(plain_spec(tmp_path, 100), tmp_path)
    assert source.read_batch([0])[0].signal.size == 100
    with path.open("r+b") as stream:
        if kind != "compressed":
            stream.truncate(last + 200)
        else:
            stream.seek(last)
            stream.write(b"\xff" * 200)
    samples = Samples(source, np.arange(10), HeartRateAdapter(source.info), patches=4, skipped=Skipped(50))
    items = samples.__getitems__([Key(0, i) for i in (9, *range(9))])
    if kind == "chunked":  # of which nobody knows which rows are lost
        assert isinstance(items, UnreadableError)
        return
    assert isinstance(items, list)
    assert [item["index"] for item in items] == [0, *range(9)]


def test_windows_are_read_by_position_or_by_the_library(tmp_path: Path) -> None:
    """Numbers that NumPy holds otherwise than the file does are the library's to convert; the others are the same either way."""
    values = RNG.integers(-9, 9, (6, 40))
    pairs = np.zeros(
        (6, 40), np.dtype({"names": ["r", "i"], "formats": ["<f4", "<f4"], "offsets": [8, 0], "itemsize": 12})
    )
    pairs["r"], pairs["i"] = values, -values
    twelve_bits = h5py.h5t.STD_I16LE.copy()
    twelve_bits.set_precision(12)
    brain_float = h5py.h5t.IEEE_F32LE.copy()
    brain_float.set_fields(15, 7, 8, 0, 7)
    brain_float.set_size(2)
    brain_float.set_ebias(127)
    stored = {
        "plain": values.astype("<f4"),
        "big": values.astype(">i4"),
        "bool": values > 0,
        "complex": values + 1j,
        "pairs": pairs,
    }
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        for name, array in stored.items():
            file[name] = array
        file.create_dataset("chunks", data=values, chunks=(2, 40))
        for name, kind in (("twelve bits", twelve_bits), ("brain float", brain_float)):
            h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(values.shape))
            file[name][...] = values
    with h5py.File(tmp_path / "a.h5") as file:
        by_position = set()
        for name in file:
            for axis in (0, 1):
                rows = contiguous_rows(file[name], axis)
                if rows is not None:
                    by_position.add(name)
                    read = np.empty((3, 40) if axis == 0 else (6, 3), rows.dtype)
                    rows.read(2, 3, read.reshape(-1).view(np.uint8).data)
                    assert np.array_equal(read, file[name][2:5] if axis == 0 else file[name][:, 2:5]), name
    assert by_position == {"plain", "big", "bool", "complex"}


def plain_spec(folder: Path, length: int) -> DataSpec:
    signal = {"path": "x", "axes": ["time"], "unit": "mm", "rate_hz": 50}
    window = {"axis": "time", "length": length}
    return DataSpec.model_validate({"name": "plain", "files": "*.h5", "signal": signal, "window": window})


def test_random_numbers_of_samples() -> None:
    for seed, epoch, indices in [(0, 0, [0, 1]), (5, 3, [2**31, 7]), (2**32 - 1, 1, [2**32 - 1]), (2**40, 1, [7])]:
        for index, rng in zip(indices, sample_rngs(seed, epoch, indices), strict=True):
            assert np.array_equal(rng.random(5), np.random.default_rng((seed, epoch, index)).random(5))
