"""Archives: unpacked inside the target, wholly or not at all, never over files of others, and no bombs."""

from __future__ import annotations

import errno
import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest

from maekit.config.data_spec import load_spec
from maekit.data.convert import archive as packing
from maekit.data.convert import readers
from maekit.data.convert.archive import open_zip, read_member, unpack
from maekit.data.convert.convert import convert
from maekit.errors import UserError


def test_bombs_are_refused_before_they_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "HARMLESS_BYTES", 1 << 16)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.csv", bytes(1 << 20))
    np.savez_compressed(tmp_path / "b.npz", a=np.zeros(1 << 17))
    for name in ("b.csv.gz", "b.npz"):
        with pytest.raises(UserError, match="absurd size"):
            readers.read(tmp_path / name)
    with open_zip(tmp_path / "b.zip") as archive, pytest.raises(UserError, match="absurd size"):
        read_member(archive, "b.csv")


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil"])
def test_a_zip_stays_inside(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("good", b"")
        archive.writestr(name, b"")
    with pytest.raises(UserError, match="outside the folder"):
        open_zip(tmp_path / "e.zip")


def test_pictures_are_unpacked_wholly_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("name: p\nkind: image_folder\nconvert: {unzip: '*.zip'}\n")
    spec = load_spec(tmp_path / "spec.yaml")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    with zipfile.ZipFile(source / "p.zip", "w") as archive:
        archive.writestr("train/cat/0.jpg", b"one")
        archive.writestr("test/cat/1.jpg", b"two")
    whole = (source / "p.zip").read_bytes()
    (source / "p.zip").write_bytes(whole.replace(b"two", b"2wo"))
    with pytest.raises(UserError, match=r"test/cat/1\.jpg.*cannot be unpacked"):
        convert(spec, source, target)
    assert not list(target.iterdir())
    (source / "p.zip").write_bytes(whole)
    assert convert(spec, source, target) == target
    assert (target / "train/cat/0.jpg").read_bytes() == b"one"
    with pytest.raises(UserError, match="a result already"):
        convert(spec, source, target)
    (target / "train/cat/old.jpg").touch()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds a file which is not in the archive; got 'train/cat/old.jpg'"):
        convert(spec, source, target, overwrite=True)
    (target / "train/cat/old.jpg").unlink()
    (target / "train/cat/0.jpg").touch()
    convert(spec, source, target, overwrite=True)
    assert (target / "train/cat/0.jpg").read_bytes() == b"one"
    assert (target / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in target.iterdir()) == ["notes.txt", "test", "train"]


def test_unpacking_over_a_folder_that_cannot_be_moved_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for name in ("a/0", "b/0", "c/0"):
            archive.writestr(name, b"new")
    target = tmp_path / "target"
    for name in ("a/0", "b/0"):
        (target / name).parent.mkdir(parents=True)
        (target / name).write_bytes(b"old")
    rename = Path.rename

    def refuse(path: Path, other: Path) -> Path:
        if path == target / "b":
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path), None, str(other))
        return rename(path, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(UserError, match=rf"^{target}/b: cannot be read or written"):
            unpack(tmp_path / "p.zip", target)
    assert {path.read_bytes() for path in target.rglob("0")} == {b"old"}
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]
    unpack(tmp_path / "p.zip", target)
    assert {path.read_bytes() for path in target.rglob("0")} == {b"new"}
    assert sorted(path.name for path in target.iterdir()) == ["a", "b", "c"]


def test_a_member_named_with_a_dot_does_not_stand_for_the_target(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "a").mkdir(parents=True)
    (target / "thesis.txt").write_text("ours")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("./a/x.bin", b"new")
    unpack(tmp_path / "x.zip", target)
    assert (target / "a/x.bin").read_bytes() == b"new"
    assert (target / "thesis.txt").read_text() == "ours"
    assert sorted(path.name for path in target.iterdir()) == ["a", "thesis.txt"]


def test_unpacking_again_removes_no_file_of_others(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("cats/1.png", b"new")
    target = tmp_path / "out"
    (target / "cats").mkdir(parents=True)
    (target / "cats/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"cats: a folder that would be replaced.*notes.txt"):
        unpack(tmp_path / "x.zip", target)
    assert sorted(path.name for path in target.rglob("*")) == ["cats", "notes.txt"]
    (target / "cats/notes.txt").rename(target / "notes.txt")
    (target / "cats/1.png").write_bytes(b"old")
    unpack(tmp_path / "x.zip", target)
    assert (target / "cats/1.png").read_bytes() == b"new"
    assert (target / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", [".", "./."])
def test_a_member_that_names_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"new")
    with pytest.raises(UserError, match=r"x\.zip: a member that names no file"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_an_unknown_compression_is_an_error_of_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        (member,) = archive.infolist()
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for start in (8, content.rindex(b"PK\x01\x02") + 10):  # of the member, and in the directory
        assert content[start : start + 2] == member.compress_type.to_bytes(2, "little")
        content[start : start + 2] = b"\x63\x00"
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz:a: .*cannot be read as NPZ"):
        readers.read(tmp_path / "x.npz").numbers("a")
