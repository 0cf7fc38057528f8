"""Packs of pictures: the same samples as the folder, made in pieces, and what is wrong with a pack is said."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from maekit.adapter import Augmentations
from maekit.adapters.augment.crop import Crop
from maekit.adapters.augment.flip import Flip
from maekit.adapters.image.image import ImageAdapter
from maekit.cli.main import app
from maekit.config.data_spec import DataSpec
from maekit.data.check.check import check
from maekit.data.images import pack as packing
from maekit.data.images.folder import ImageFolderSource
from maekit.data.images.pack import pack
from maekit.data.images.packed import MANIFEST, PackedFolder, open_folder
from maekit.data.images.picture import resize_shorter_side
from maekit.data.loading import Samples, loader
from maekit.data.sampler import BatchSampler
from maekit.errors import UnreadableError, UserError
from maekit.runs.train import pretrain

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEC = DataSpec.model_validate(
    {"name": "pictures", "kind": "image_folder", "split": {"train": ["train"], "test": ["test"]}}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of four classes on two sides, of several kinds and sizes; names that are no ASCII."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for side, count in (("train", 4), ("test", 2)):
        for label in ("cat", "dog", "maïs", "zebra & co"):
            (root / side / label).mkdir(parents=True)
            for i in range(count):
                height, width = (int(n) for n in rng.integers(30, 60, 2))
                smooth = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)).resize((width, height))
                kind = {0: "L", 1: "CMYK"}.get(i, "RGB")
                smooth.convert(kind).save(root / side / label / f"{i}.{'png' if i == 3 else 'JPEG'}")
    return root


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(SPEC, folder, tmp_path_factory.mktemp("packs") / "files", shards=3, workers=2).folder


def copied(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def batches(source: Any, workers: int) -> list[dict[str, torch.Tensor]]:
    adapter = ImageAdapter(source.info, size=16, patch=8)
    varied = Augmentations.by_stage([Crop(adapter), Flip(adapter)])
    samples = Samples(source, np.arange(len(source)), adapter, patches=4, seed=3, augmentations=varied)
    return list(loader(samples, BatchSampler(len(source), 8, seed=3), workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pack_gives_the_batches_of_its_folder(folder: Path, packed: Path, workers: int) -> None:
    one, other = open_folder(SPEC, folder), open_folder(SPEC, packed)
    assert (type(one), type(other)) == (ImageFolderSource, PackedFolder)
    assert one.fingerprint() == other.fingerprint()
    assert one.classes == other.classes == ("cat", "dog", "maïs", "zebra & co")
    assert np.array_equal(one.groups, other.groups)
    assert np.array_equal(one.labels, other.labels)  # type: ignore[arg-type]
    assert other[17].location.endswith("00002.h5:/" + str(one.path(17).relative_to(folder)))  # type: ignore[attr-defined]
    for i in range(len(one)):
        assert np.array_equal(one[i].signal, other[i].signal)
    for mine, theirs in zip(batches(one, 0), batches(other, workers), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_without_labels_or_class_folders(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(folder.glob("train/*/*"))):
        shutil.copy(path, flat / f"{i:02d}{path.suffix}")
    one, other = ImageFolderSource(SPEC, flat), PackedFolder(SPEC, pack(SPEC, flat, tmp_path / "pack").folder)
    assert other.labels is None
    assert other.classes is None
    assert set(other.groups) == {"all"}
    assert one.fingerprint() == other.fingerprint()


def test_an_unlabelled_task_reads_a_labelled_pack(packed: Path) -> None:
    source = PackedFolder(SPEC, packed, labels=False)
    assert source.labels is None
    assert source[0].label is None


def test_pixels_are_those_of_the_resized_folder(folder: Path, tmp_path: Path) -> None:
    one = ImageFolderSource(SPEC, folder)
    done = pack(SPEC, folder, tmp_path / "pack", form="uint8", size=32, shards=2)
    other = PackedFolder(SPEC, done.folder)
    for i in range(len(one)):
        expected = resize_shorter_side(cast("NDArray[np.uint8]", one[i].signal), 32)
        assert min(expected.shape[1:]) == min(32, *one[i].signal.shape[1:])
        assert np.array_equal(other[i].signal, expected)
    assert one.fingerprint() != other.fingerprint(), "other pixels are other data"
    # What is evaluated at 28 / 0.875 = 32 is what the folder gives, since both scale the shorter side to 32.
    adapter = ImageAdapter(one.info, size=28, patch=14)
    large = [i for i in range(len(one)) if min(one[i].signal.shape[1:]) >= 32]
    assert large
    for i in large:
        assert np.array_equal(adapter.prepare(one[i])[0], adapter.prepare(other[i])[0])


def _length(source: PackedFolder, index: int) -> int:
    return int(source[index].signal.size)


def test_processes_share_an_open_pack(packed: Path) -> None:
    source = PackedFolder(SPEC, packed)
    sizes = [source[i].signal.size for i in range(len(source))]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(_length, [(source, i) for i in range(len(source))]) == sizes
    assert pickle.loads(pickle.dumps(source))[3].signal.size == sizes[3]


@pytest.mark.parametrize("form", ["files", "uint8"])
def test_an_interrupted_pack_goes_on_and_ends_the_same(
    folder: Path, tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(SPEC, folder, tmp_path / "whole", form=form, size=32, shards=4).folder
    write, calls = packing._ShardWriter.write, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(packing._ShardWriter, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(SPEC, folder, tmp_path / "broken", form=form, size=32, shards=4)
    with pytest.raises(UserError, match=r"unfinished pack.*again"):
        open_folder(SPEC, tmp_path / "broken")
    with pytest.raises(UserError, match="unfinished pack of other files or options"):
        pack(SPEC, folder, tmp_path / "broken", form=form, size=32, shards=5)
    first = (tmp_path / "broken/00000.h5").stat().st_mtime_ns
    (tmp_path / "broken/.00002.h5.unfinished").write_bytes(b"torn")
    pack(SPEC, folder, tmp_path / "broken", form=form, size=32, shards=4)
    assert (tmp_path / "broken/00000.h5").stat().st_mtime_ns == first, "what was whole is kept"
    assert len(calls) == 5
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "broken").iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_packing_twice_changes_nothing_and_nothing_is_overwritten(folder: Path, packed: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in packed.iterdir()}
    messages: list[str] = []
    pack(SPEC, folder, packed, shards=3, tell=messages.append)
    assert messages == [f"{packed} holds this pack already"]
    assert before == {path: path.stat().st_mtime_ns for path in packed.iterdir()}
    with pytest.raises(UserError, match="another pack"):
        pack(SPEC, folder, packed, form="uint8", shards=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(UserError, match=r"not empty, and no pack; got 'thesis.tex'"):
        pack(SPEC, folder, tmp_path / "mine")
    with pytest.raises(UserError, match="inside the folder it is made of"):
        pack(SPEC, folder, folder / "train/pack")
    with pytest.raises(UserError, match="a pack already"):
        pack(SPEC, packed, tmp_path / "again")
    with (packed / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            pack(SPEC, folder, packed, shards=3)


def test_what_cannot_be_packed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (0, 25, 1000):
        with pytest.raises(UserError, match="no such number of shards"):
            pack(SPEC, folder, tmp_path / "pack", shards=count)
    with pytest.raises(UserError, match="only folders of pictures"):
        pack(
            DataSpec.model_validate({"name": "h", "files": "*", "signal": {"path": "x", "axes": ["a"]}}),
            folder,
            tmp_path,
        )
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="not enough room"):
        pack(SPEC, folder, tmp_path / "pack")
    monkeypatch.undo()
    monkeypatch.setattr(packing, "_size", lambda path: path.stat().st_size + 1)
    with pytest.raises(UserError, match="changes while it is packed"):
        pack(SPEC, folder, tmp_path / "other")
    assert not list((tmp_path / "other").glob("*.h5"))


def test_memory_does_not_grow_with_what_is_packed(folder: Path, tmp_path: Path) -> None:
    """Not more than a few files are read ahead of the one that is written."""
    import threading

    read, taken, most = 0, 0, 0
    lock = threading.Lock()

    def work(item: int) -> int:
        nonlocal read
        with lock:
            read += 1
        return item

    with ThreadPoolExecutor(2) as pool:
        for item in packing._Ahead(pool, 2)(work, range(500)):
            assert item == taken
            taken += 1
            most = max(most, read - taken)
    assert taken == 500
    assert most <= 10


def test_shards_hold_about_the_same_bytes() -> None:
    sizes = np.array([1, 1, 1, 1000, 1, 1, 1, 500, 500])
    for shards in range(1, 10):
        ends = packing._cut(sizes, shards)
        assert len(ends) == shards
        assert ends[-1] == 9
        assert all(np.diff([0, *ends]) > 0), "no shard is empty"
    even = packing._cut(np.full(1000, 10), 7)
    assert np.ptp(np.diff([0, *even])) <= 1
    assert packing._cut(np.full(50, packing.SHARD_BYTES), None) == list(range(1, 51))


def test_unreadable_pictures_keep_their_place(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "root"))
    torn = root / "train/dog/2.JPEG"
    torn.write_bytes(torn.read_bytes()[:200])
    (root / "test/cat/0.JPEG").write_bytes(b"")
    files = PackedFolder(SPEC, pack(SPEC, root, tmp_path / "files").folder)
    done = pack(SPEC, root, tmp_path / "uint8", form="uint8", size=32)
    assert done.unreadable == ["train/dog/2.JPEG", "test/cat/0.JPEG"]
    pixels = PackedFolder(SPEC, done.folder)
    source = ImageFolderSource(SPEC, root)
    assert len(source) == len(files) == len(pixels)
    assert files.fingerprint() == source.fingerprint()
    for name in done.unreadable:
        index = next(i for i in range(len(source)) if source.path(i) == root / name)
        for one in (source, files, pixels):
            with pytest.raises(UnreadableError, match=name):
                one[index]
            assert one[index - 1].signal.size


def _spoil(path: Path, change: Any) -> None:
    """Change a shard, and its size in the manifest, so that only its content is wrong."""
    with h5py.File(path, "r+") as file:
        change(file)
    manifest = json.loads((path.parent / MANIFEST).read_text())
    entry = next(entry for entry in manifest["shards"] if entry["file"] == path.name)
    entry["bytes"] = path.stat().st_size
    (path.parent / MANIFEST).write_text(json.dumps(manifest))


def _set(name: str, index: int, value: int) -> Any:
    return lambda file: file[name].__setitem__(index, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("label", 0, 4), "a label outside of the classes; got .*expected 0 to 3"),
        (_set("label", 0, -1), "a label outside of the classes"),
        (_set("offset", 2, 0), "parts do not fit"),
        (_set("offset", -1, 10**9), "parts do not fit"),
        (lambda file: file.__delitem__("name"), "not a shard of a pack"),
    ],
)
def test_a_damaged_shard_is_found_when_opened(packed: Path, tmp_path: Path, change: Any, message: str) -> None:
    root = copied(packed, tmp_path)
    _spoil(root / "00001.h5", change)
    with pytest.raises(UserError, match=f"00001.h5.*{message}"):
        PackedFolder(SPEC, root)


def test_a_damaged_pack_is_found(packed: Path, tmp_path: Path) -> None:
    root = copied(packed, tmp_path)
    content = (root / "00002.h5").read_bytes()
    flipped = bytearray(content)
    flipped[content.index(b"\xff\xd8") + 100] ^= 1
    (root / "00002.h5").write_bytes(flipped)
    with pytest.raises(UserError, match="not as it was packed"):
        list(check(SPEC, root, {}))
    (root / "00002.h5").write_bytes(content[:-5])
    with pytest.raises(UserError, match="a shard of another size"):
        open_folder(SPEC, root)
    (root / "00002.h5").unlink()
    with pytest.raises(UserError, match="a missing shard"):
        open_folder(SPEC, root)
    manifest = json.loads((root / MANIFEST).read_text())
    for text, message in (
        ("{", "no manifest"),
        ("[]", "no manifest"),
        ("{}", "no manifest"),
        (json.dumps(manifest | {"maekit_pack": 2}), "a later maekit"),
        (
            json.dumps(manifest | {"shards": [{"file": "../x.h5", "samples": 1, "bytes": 1, "sha256": ""}]}),
            "no manifest",
        ),
    ):
        (root / MANIFEST).write_text(text)
        with pytest.raises(UserError, match=message):
            open_folder(SPEC, root)


def test_gray_packs_keep_one_channel(folder: Path, tmp_path: Path) -> None:
    """As files and as pixels; a pack of pixels is refused by a spec of other channels."""
    gray = SPEC.model_copy(update={"channels": 1})
    source = ImageFolderSource(gray, folder)
    files = PackedFolder(gray, pack(gray, folder, tmp_path / "files").folder)
    pixels = PackedFolder(gray, pack(gray, folder, tmp_path / "uint8", form="uint8", size=64).folder)
    assert source.fingerprint() == files.fingerprint() != ImageFolderSource(SPEC, folder).fingerprint()
    for i in range(len(source)):
        assert source[i].signal.shape[0] == 1
        assert np.array_equal(source[i].signal, files[i].signal)
        assert np.array_equal(source[i].signal, pixels[i].signal)
    with pytest.raises(UserError, match=r"another number of channels than the data spec's; got 1; expected 3"):
        open_folder(SPEC, tmp_path / "uint8")


RECIPE = """\
name: {name}
adapter: {{name: image, size: 16, patch: 8}}
data: {{spec: {spec}, root: {root}}}
model:
  encoder: {{width: 16, depth: 1, heads: 2}}
  decoder: {{width: 8, depth: 1, heads: 2}}
schedule: {{epochs: 2}}
training: {{batch_size: 8, log_every_steps: 1, save_every_steps: 1}}
"""


def test_training_on_the_pack_is_training_on_the_folder(folder: Path, packed: Path, tmp_path: Path) -> None:
    """The same losses; and a run begun on the folder goes on with the pack."""
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: pictures\nkind: image_folder\nsplit: {train: [train], test: [test]}\n")
    losses = []
    for name, root in (("folder", folder), ("pack", packed)):
        (tmp_path / f"{name}.yaml").write_text(RECIPE.format(name=name, spec=spec, root=root))
        run = pretrain(tmp_path / f"{name}.yaml", runs=tmp_path / "runs", device="cpu").folder
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([row["loss"] for row in rows if row["kind"] == "train"])
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]
    again = pretrain(tmp_path / "folder.yaml", overrides=[f"data.root={packed}"], runs=tmp_path / "runs", device="cpu")
    assert again.folder == tmp_path / "runs/folder"


def test_the_command(folder: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: pictures\nkind: image_folder\nsplit: {train: [train], test: [test]}\n")
    run = CliRunner().invoke
    arguments = ["data", "pack", str(spec), "--root", str(folder), "--to", str(tmp_path / "pack")]
    done = run(app, [*arguments, "--shards", "2"])
    assert done.exit_code == 0, done.output
    assert "packed: 24 pictures" in done.output
    wrong = run(app, [*arguments, "--form", "jpg"])
    assert isinstance(wrong.exception, UserError)
    assert "expected files or uint8" in str(wrong.exception)
    checked = run(app, ["data", "check", str(spec), "--root", str(tmp_path / "pack")])
    assert "SHA-256 as packed" in checked.output
    assert "split: train 16, validation 0, test 8" in checked.output
