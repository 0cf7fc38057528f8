"""Pictures as they come: every kind becomes RGB as stated, and folders that are not in order are named."""

from __future__ import annotations

import shutil
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maekit.adapters.image.image import ImageAdapter
from maekit.config.data_spec import DataSpec, load_spec
from maekit.data.check.check import check
from maekit.data.images.folder import ImageFolderSource
from maekit.data.images.picture import decode_picture, read_picture
from maekit.data.splits import resolve_split
from maekit.errors import UnreadableError, UserError

SPEC = DataSpec(name="p", kind="image_folder")
RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (9, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)


def saved(picture: Image.Image, path: Path, **options: Any) -> np.ndarray:
    picture.save(path, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_picture(path)


def as_rows(x: np.ndarray) -> np.ndarray:
    assert x.dtype == np.uint8
    return x.transpose(1, 2, 0)


def test_colours_come_as_they_are(tmp_path: Path) -> None:
    for kind in ("png", "bmp", "ppm", "tif", "webp"):
        options = {"lossless": True} if kind == "webp" else {}
        assert (as_rows(saved(Image.fromarray(COLOUR), tmp_path / f"a.{kind}", **options)) == COLOUR).all()


def test_gray_is_repeated(tmp_path: Path) -> None:
    assert (as_rows(saved(Image.fromarray(GRAY), tmp_path / "a.png")) == GRAY[..., None]).all()
    smooth = Image.fromarray(GRAY).resize((40, 40), Image.Resampling.BICUBIC)
    found = saved(smooth, tmp_path / "a.jpg", quality=95)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()
    assert np.abs(found[0].astype(int) - np.asarray(smooth)).max() < 12
    bits = GRAY > 127
    assert (as_rows(saved(Image.fromarray(bits), tmp_path / "bits.png")) == 255 * bits[..., None]).all()


def test_16_bits_are_scaled(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (9, 7), dtype=np.uint16)
    deep[0, :3] = 0, 128, 65535
    expected = np.round(deep / 257)
    for kind in ("png", "tif"):
        found = saved(Image.fromarray(deep), tmp_path / f"deep.{kind}")
        assert (as_rows(found) == expected[..., None]).all()
    assert (as_rows(saved(Image.fromarray(deep.astype(np.int32)), tmp_path / "i.tif")) == expected[..., None]).all()
    for beyond in (70_000, -1):
        Image.fromarray(np.full((3, 3), beyond, dtype=np.int32)).save(tmp_path / "i.tif")
        with pytest.raises(UnreadableError, match="more than 16 bits"):
            read_picture(tmp_path / "i.tif")
    Image.fromarray(np.ones((3, 3), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UnreadableError, match="floats, whose range nothing states"):
        read_picture(tmp_path / "f.tif")


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    assert (as_rows(saved(palette, tmp_path / "a.png")) == np.asarray(palette.convert("RGB"))).all()
    plain = as_rows(saved(palette, tmp_path / "b.png", transparency=bytes(range(16))))
    assert (plain == np.asarray(palette.convert("RGB"))).all(), "no warning, and the colours under the transparency"


def test_transparency_is_dropped(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (9, 7, 1), dtype=np.uint8)
    assert (as_rows(saved(Image.fromarray(np.concatenate([COLOUR, alpha], 2)), tmp_path / "a.png")) == COLOUR).all()
    gray = Image.fromarray(np.concatenate([GRAY[..., None], alpha], 2), mode="LA")
    assert (as_rows(saved(gray, tmp_path / "la.png")) == GRAY[..., None]).all()


def test_cmyk_is_converted_without_a_profile(tmp_path: Path) -> None:
    """(255 - ink) (255 - black) / 255, as Pillow does it; JPEG moves values a little."""
    inks = np.zeros((32, 32, 4), dtype=np.uint8)
    inks[:16, :, 0], inks[:, 16:, 3], inks[20:, :8, 1] = 200, 100, 255
    expected = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:].astype(float)) / 255
    assert np.abs(as_rows(saved(Image.fromarray(inks, mode="CMYK"), tmp_path / "a.tif")) - expected).max() <= 1
    found = as_rows(saved(Image.fromarray(inks, mode="CMYK"), tmp_path / "a.jpg", quality=100, subsampling=0))
    assert np.abs(found - expected).max() <= 6


def test_the_orientation_of_a_camera_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    found = saved(Image.fromarray(COLOUR), tmp_path / "a.png", exif=exif)
    assert (as_rows(found) == COLOUR).all()


def test_of_several_frames_the_first(tmp_path: Path) -> None:
    other = Image.fromarray(255 - COLOUR)
    found = saved(Image.fromarray(COLOUR), tmp_path / "a.tif", save_all=True, append_images=[other])
    assert (as_rows(found) == COLOUR).all()


def damaged(kind: str) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG" if kind == "jpg" else kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "bmp", "webp"])
def test_damaged_files_are_said_to_be_so_whatever_their_decoder_raises(kind: str) -> None:
    """Cut anywhere and flipped anywhere: either a picture comes out, or the one error, with the name."""
    content = damaged(kind)
    errors = []
    spoilt = [content[:n] for n in np.linspace(0, len(content) - 20, 40).astype(int)]
    for i in range(40):
        flipped = bytearray(content)
        for j in np.random.default_rng(i).integers(0, min(400, len(content)), 6):
            flipped[int(j)] = (int(j) * 37 + i) % 256
        spoilt.append(bytes(flipped))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in spoilt:
            try:
                assert decode_picture(one, "here").shape[0] == 3
            except UnreadableError as error:
                errors.append(str(error))
    assert len(errors) > 20
    assert all(error.startswith("here: ") for error in errors)


def test_giants_are_refused_from_their_header(tmp_path: Path) -> None:
    """A header that claims 20,000 x 20,000 in a file of 57 bytes: nothing is allocated."""
    for side in (20_000, 10_000):
        chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        end = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        with pytest.raises(UnreadableError, match=r"bomb\.png: a picture too large to decode safely"):
            decode_picture(b"\x89PNG\r\n\x1a\n" + header + end, "bomb.png")
    Image.new("1", (10_001, 10_001)).save(tmp_path / "giant.png")
    with pytest.raises(UnreadableError, match=r"too large to decode safely; got '10001 x 10001'; expected at most 89"):
        read_picture(tmp_path / "giant.png")


def make(root: Path, names: list[str], size: int = 24) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size)).save(root / name)
    return root


BOTH = [f"{side}/{label}/{i}.png" for side in ("train", "val") for label in ("cat", "dog") for i in range(2)]


def test_names_that_begin_with_a_dot_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, BOTH)
    (tmp_path / "train/cat/._0.png").write_bytes(b"of a Mac")
    (tmp_path / "train/.cache").mkdir()
    source = ImageFolderSource(SPEC, tmp_path)
    assert len(source) == 8
    assert [source.path(i).relative_to(tmp_path).as_posix() for i in range(8)] == BOTH


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda r: shutil.rmtree(r / "val/dog"),
            r"val: no folder of the class 'dog', which other sides have.*2 class folders",
        ),
        (
            lambda r: (r / "val/dog").rename(r / "val/dgo"),
            r"no folder of the class 'd.*Did you mean 'dgo'\?|no folder of the class 'dgo'",
        ),
        (lambda r: [p.unlink() for p in (r / "train/cat").iterdir()], r"train.cat: a class folder without pictures"),
        (
            lambda r: [p.rename(r / "val" / f"{p.parent.name}{p.name}") for p in r.glob("val/*/*")],
            r"outside of the class folders; got 'cat0.png'; expected val/CLASS/cat0.png",
        ),
        (lambda r: make(r, ["train/over.png"]), r"pictures outside of the class folders"),
        (lambda r: shutil.rmtree(r / "train"), ""),
    ],
)
def test_folders_that_are_not_in_order(tmp_path: Path, spoil: Any, message: str) -> None:
    make(tmp_path, BOTH)
    spoil(tmp_path)
    if not message:
        assert set(ImageFolderSource(SPEC, tmp_path).groups) == {"val"}
        return
    with pytest.raises(UserError, match=message):
        ImageFolderSource(SPEC, tmp_path)


def test_sides_are_known_by_all_their_usual_names(tmp_path: Path) -> None:
    """Roboflow and fast.ai write `valid/`; folders may be capitalised. Without a split, names say where groups go."""
    make(tmp_path, [f"{side}/{c}/{i}.png" for side in ("Train", "valid", "TEST") for c in "ab" for i in range(2)])
    source = ImageFolderSource(SPEC, tmp_path)
    assert [str(name) for name in dict.fromkeys(source.groups)] == ["train", "valid", "test"]
    split = resolve_split(source.groups, None, "p")
    assert {side: len(indices) for side, indices in split.items()} == {"train": 4, "validation": 4, "test": 4}
    assert source[0].signal.shape == (3, 24, 24)
    make(tmp_path, ["train/a/0.png"])
    with pytest.raises(UserError, match=r"two folders of the side 'train'; got \['Train', 'train'\]"):
        ImageFolderSource(SPEC, tmp_path)


def test_a_split_by_name_needs_a_training_side_and_no_other_groups() -> None:
    for groups in (["val", "test"], ["train", "anna"]):
        split = resolve_split(np.array(groups), None, "p")
        assert len(split["train"]) == 2


def test_files_that_are_not_read_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"train/{c}/{i}" for c in "ab" for i in range(6)]
    make(
        tmp_path,
        [name + end for name, end in zip(names, [".PNG", ".jfif", ".gif", ".jpe", ".JPG", ".bmp"] * 2, strict=True)],
    )
    make(tmp_path, ["extra/0.png", "train/a/deeper/0.png"])
    for i in range(3):
        np.save(tmp_path / f"train/b/{i}.npy", GRAY)
    (tmp_path / "labels.txt").touch()
    source = ImageFolderSource(SPEC, tmp_path)
    assert len(source) == 12, "every ending that Pillow reads, in capitals or not"
    assert source.passed_over == {"extra/": 1, ".txt": 1, "folder inside a class folder": 1, ".npy": 3}
    assert "6 files and folders are not read: 3 x .npy, extra/, .txt, folder inside a class folder" in caplog.text
    assert any("6 files and folders are not read: 3 x .npy" in line for line in check(SPEC, tmp_path, {}))


def test_the_error_without_pictures_names_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.npy").touch()
    with pytest.raises(UserError, match=r"without pictures.*1 files and folders are not read: \.npy"):
        ImageFolderSource(SPEC, tmp_path)


def test_gray_stays_one_channel_when_asked(tmp_path: Path) -> None:
    """From the data spec for the source, or from the adapter's option; colours become luma."""
    spec = SPEC.model_copy(update={"channels": 1})
    for label, picture in (
        ("a", Image.fromarray(GRAY)),
        ("b", Image.fromarray(COLOUR)),
        ("c", Image.fromarray(GRAY.astype(np.uint16) * 257)),
    ):
        (tmp_path / label).mkdir()
        picture.save(tmp_path / label / "0.png")
    source = ImageFolderSource(spec, tmp_path)
    assert source.info.channels == ("gray",)
    assert np.array_equal(source[0].signal, GRAY[None])
    assert np.array_equal(source[1].signal[0], np.asarray(Image.fromarray(COLOUR).convert("L")))
    assert np.array_equal(source[2].signal, GRAY[None])
    colour = ImageFolderSource(SPEC, tmp_path)
    assert colour.fingerprint() != source.fingerprint()
    options: dict[str, Any] = {"size": 8, "patch": 4, "normalisation": "fit", "crop_ratio": 1.0}
    gray, both = ImageAdapter(colour.info, channels=1, **options), ImageAdapter(source.info, **options)
    assert gray.info.channels == ("gray",)
    for i in range(3):
        expected = both.prepare(source[i])[0].astype(int)
        assert expected.shape == (1, 8, 8)
        assert np.abs(gray.prepare(colour[i])[0].astype(int) - expected).max() <= 1, "resized before or after"
    repeated = ImageAdapter(source.info, channels=3, **options).prepare(source[0])[0]
    assert np.array_equal(repeated, np.repeat(both.prepare(source[0])[0], 3, axis=0))


def test_channels_of_a_spec_that_has_no_pictures() -> None:
    with pytest.raises(ValueError, match=r"`channels` goes with `kind: image_folder`"):
        DataSpec.model_validate({"name": "h", "files": "*", "channels": 1, "signal": {"path": "x", "axes": ["a"]}})


def test_check_reports_sizes_and_colour_modes(tmp_path: Path) -> None:
    make(tmp_path, ["a/0.png", "b/0.png"])
    lines = list(check(SPEC, tmp_path, {}))
    assert lines[:4] == [
        "2 files",
        "size: 24 x 24 pixels (height x width) in all 2 examined",
        "stored as: RGB 2",
        "a sample: (3, height, width), channels red, green, blue, 8 bits",
    ]
    for label in "ab":
        Image.fromarray(GRAY).save(tmp_path / label / "0.png")
    Image.fromarray(GRAY[:5]).save(tmp_path / "b/1.png")
    lines = list(check(SPEC, tmp_path, {}))
    assert "sizes: 2 in 3 files examined; height 5 to 9, width 7 to 7 pixels, median 9 x 7" in lines
    assert "stored as: L 3" in lines
    assert any("`channels: 1` in the data spec keeps one channel" in line for line in lines)


def test_no_picture_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no picture"):
        ImageFolderSource(SPEC, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        ImageFolderSource(SPEC, tmp_path / "absent")


def test_imagenet_lies_as_its_spec_says(tmp_path: Path) -> None:
    spec = load_spec("imagenet")
    make(
        tmp_path,
        [f"{s}/{c}/{c}_{i}.JPEG" for s in ("train", "val") for c in ("n01440764", "n01443537") for i in range(3)],
    )
    lines = list(check(spec, tmp_path, {}))
    assert "labels: n01440764 6, n01443537 6" in lines
    assert "split: train 6, validation 6, test 0 (no group on two sides)" in lines


def test_check_names_what_is_not_read_of_pictures(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        folder = tmp_path / "training" / name
        folder.mkdir(parents=True)
        Image.fromarray(np.full((8, 9), 4095, np.uint16)).save(folder / "deep.png")
    (tmp_path / "__MACOSX").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 9)).save(folder / "turned.jpg", exif=exif)
    first, second = Image.new("L", (8, 9), 1), Image.new("L", (8, 9), 200)
    first.save(folder / "moving.gif", save_all=True, append_images=[second])
    lines = list(check(SPEC, tmp_path, {}))
    assert "1 groups: training 4" in lines
    for text, name in (
        ("several frames", "moving.gif"),
        ("EXIF orientation", "turned.jpg"),
        ("become dark", "16 of 255"),
    ):
        assert [line for line in lines if line.startswith("warning") and text in line and name in line]


def test_classes_of_pictures_stand_in_a_table(tmp_path: Path) -> None:
    rows = ["image,grade,part"]
    for i, (folder, name) in enumerate(((".", "a"), ("deep/er", "b"), ("deep", "c"))):
        (tmp_path / "pictures" / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4 + i, 8), (i, i, i)).save(tmp_path / "pictures" / folder / f"{name}.png")
        rows.append(f"{name}.png,{(10, 2, 10)[i]},{('train', 'Val', 'train')[i]}")
    table = {"file": "labels.csv", "name": "image", "attributes": {"label": "grade", "side": "part"}}
    spec = DataSpec.model_validate({"name": "t", "kind": "image_folder", "folder": "pictures", "table": table})
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    source = ImageFolderSource(spec, tmp_path)
    assert source.classes == ("2", "10")
    found = {Path(source[i].location).name: (source[i].label, source[i].group) for i in range(3)}
    assert found == {"a.png": (1, "train"), "b.png": (0, "val"), "c.png": (1, "train")}
    (tmp_path / "labels.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(UserError, match=r"1 of 3 pictures have no label.*deep/c\.png"):
        ImageFolderSource(spec, tmp_path)
    with pytest.raises(ValueError, match="`label`"):
        DataSpec.model_validate({**spec.model_dump(), "table": {**table, "attributes": {"grade": "grade"}}})
