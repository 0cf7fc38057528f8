"""Pictures in folders, one folder a class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from maekit.data.fingerprint import fingerprint_of
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UnreadableError, UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from maekit.config.data_spec import DataSpec

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
MOST_PIXELS = 89_478_485
"""Where Pillow begins to warn: a quarter of a gibibyte of RGB. Here it is an error, so the warning says nothing new."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
SIDES = ("train", "validation", "val", "test")
INFO = SignalInfo(("red", "green", "blue"), (Axis("height", 0, "px"), Axis("width", 0, "px")))
"""Of pictures in folders: sizes vary, so their axes have length 0."""


class Listing(NamedTuple):
    """What stands in a folder, kept small: ImageNet has 1.28 million files.

    Attributes:
        names: UTF-8, relative to the folder, in its order: by side, class, name.
        sides: the group of each.
        labels: the class index of each; None without class folders.
        classes: their names in order; None without.
    """

    names: NDArray[np.bytes_]
    sides: NDArray[np.str_]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] | None


class ImageFolderSource:
    """Pictures of any size as uint8 (3, height, width); see `maekit.data.sample.Source`.

    `root/SIDE/CLASS/picture.jpg`, where the sides (train, validation, val, test) become the groups that splits
    name, or `root/CLASS/picture.jpg` with one group, or pictures without class folders, which have no labels.
    Names that begin with a dot are passed over. How pictures become RGB says `read_picture`.

    Args:
        spec: its name, and `folder`, where the pictures lie below `root`.
        root: the folder.
        labels: False where the task needs none.

    Raises:
        UserError: no picture, a class that a side lacks or that is empty, pictures beside class folders.
    """

    def __init__(self, spec: DataSpec, root: Path, *, labels: bool = True) -> None:
        self.root = root / (spec.folder or "")
        self.objects: tuple[str, ...] | None = None
        self.auxiliary: dict[str, SignalInfo] = {}
        if not self.root.is_dir():
            raise UserError(
                "no such folder",
                location=str(self.root),
                expected="a folder with pictures",
                hint="Set it with `--set data.root=FOLDER`"
                + (f", or make it with `maekit data convert {spec.name}`." if spec.convert else "."),
            )
        self.spec, self.info = spec, INFO
        self.names, self.groups, numbers, classes = list_folder(self.root)
        self.classes = classes if labels else None
        self.labels: NDArray[Any] | None = numbers if labels else None

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """Of one picture."""
        return self.root / os.fsdecode(self.names[index])

    def __getitem__(self, index: int) -> Sample:
        path = self.path(index)
        label = None if self.labels is None else int(self.labels[index])
        return Sample(read_picture(path), None, label, str(self.groups[index]), str(path))

    def fingerprint(self) -> str:
        """A digest of names, sizes and content."""

        def read(index: int, start: int, length: int) -> bytes:
            with self.path(index).open("rb") as stream:
                stream.seek(start)
                return stream.read(length)

        names = [os.fsdecode(name) for name in self.names]
        return fingerprint_of(names, lambda i: self.path(i).stat().st_size, read, self.spec.name)


def list_folder(root: Path) -> Listing:
    """The pictures below a folder.

    Raises:
        UserError: as `ImageFolderSource`.
    """
    sides = [side for side in SIDES if (root / side).is_dir()] or [""]
    content = {side: _entries(root / side) for side in sides}
    classes = sorted({name for folders, _ in content.values() for name in folders})
    names: list[str] = []
    groups: list[NDArray[np.str_]] = []
    numbers: list[NDArray[np.int64]] = []
    for side, (folders, loose) in content.items():
        location = root / side
        if classes and loose:
            raise UserError(
                "pictures outside of the class folders",
                location=str(location),
                value=loose[0],
                expected=f"{side or root.name}/CLASS/{loose[0]}, with a class such as {classes[0]!r}",
                hint="Move them into folders of their classes, or away.",
            )
        for number, name in enumerate(classes or ["."]):
            if classes and name not in folders:
                raise UserError(
                    f"no folder of the class {name!r}, which other sides have",
                    location=str(location),
                    expected=f"the same {len(classes)} class folders in {', '.join(sides)}",
                    hint=nearest(name, folders) or "Was the data set copied or unpacked to its end?",
                )
            found = _entries(location / name)[1] if classes else loose
            if not found:
                raise UserError(
                    "a class folder without pictures" if classes else "no picture",
                    location=str(location / name),
                    expected="files ending in " + ", ".join(SUFFIXES),
                )
            folder = PurePosixPath(side, name).as_posix()
            names += found if folder == "." else [f"{folder}/{file}" for file in found]
            groups.append(np.full(len(found), side or "all"))
            numbers.append(np.full(len(found), number, dtype=np.int64))
    return Listing(
        np.array([os.fsencode(name) for name in names]),
        np.concatenate(groups),
        np.concatenate(numbers) if classes else None,
        tuple(classes) or None,
    )


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Sorted names of the folders and of the pictures in a folder."""
    folders, pictures = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.name.lower().endswith(SUFFIXES) and not entry.is_dir():
                pictures.append(entry.name)
            elif entry.is_dir():
                folders.append(entry.name)
    return sorted(folders), sorted(pictures)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """One file as RGB uint8 (3, height, width); see `decode_picture`.

    Raises:
        UnreadableError: no file, no picture, a damaged one, or one too large.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})", location=str(path)) from error
    return decode_picture(content, str(path))


def decode_picture(content: bytes, location: str) -> NDArray[np.uint8]:
    """An encoded picture as RGB uint8 (3, height, width), in memory rows of pixels, which is what resizing is fast on.

    Everything becomes RGB as Pillow's `convert("RGB")` does it, like the pipelines that published numbers come from:
    gray is repeated, palettes are looked up, CMYK is converted without a colour profile, transparency is dropped (what
    colour lies under it shows). 16-bit gray is scaled by 1/257. The orientation that a camera noted (EXIF) is not
    applied; of several frames the first is taken.

    Args:
        content: of the file.
        location: for messages.

    Raises:
        UnreadableError: no picture, a damaged one, values without a stated range, or more than 89 megapixels.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise _too_large(location, f"{picture.width} x {picture.height}")
            if picture.mode.startswith("I"):
                return _from_16_bits(np.asarray(picture), location)
            if picture.mode == "F":
                raise UnreadableError(
                    "a picture of floats, whose range nothing states",
                    location=location,
                    expected="8 or 16 bits",
                    hint="Save it as 8 or 16 bits.",
                )
            if picture.mode == "P":  # straight to RGB, Pillow warns about some palettes with transparency
                return np.array(picture.convert("RGBA").convert("RGB")).transpose(2, 0, 1)
            return np.array(picture.convert("RGB")).transpose(2, 0, 1)
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(location, "its header") from error
    except Exception as error:  # what a decoder meets in damaged bytes ends in anything from OSError to struct.error
        reason = "neither JPEG, PNG nor another known kind" if isinstance(error, UnidentifiedImageError) else error
        raise UnreadableError(
            f"cannot be read as a picture ({reason})", location=location, hint="Remove or replace the file."
        ) from error


def rgb(content: bytes, location: str) -> NDArray[np.uint8]:
    """The same as (height, width, channel), which is how a signal beside others is stored."""
    return np.ascontiguousarray(decode_picture(content, location).transpose(1, 2, 0))


def _too_large(location: str, value: str) -> UnreadableError:
    return UnreadableError(
        "a picture too large to decode safely",
        location=location,
        value=value,
        expected=f"at most {MOST_PIXELS // 10**6} megapixels",
        hint="Scale it down or remove it.",
    )


def _from_16_bits(gray: NDArray[np.generic], location: str) -> NDArray[np.uint8]:
    values = gray.astype(np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableError(
            "gray values of more than 16 bits",
            location=location,
            value=(values.min(), values.max()),
            expected="0 to 65535",
            hint="Save it as 8 or 16 bits.",
        )
    return np.repeat((values / 257).round().astype(np.uint8)[None], 3, axis=0)


def resized(picture: NDArray[np.uint8], shorter: int) -> NDArray[np.uint8]:
    """A picture whose shorter side is scaled down to so many pixels (bicubic, antialiased); smaller ones stay."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    shape = resized_shape(picture.shape[1:], shorter)
    if shape == picture.shape[1:]:
        return picture
    small: NDArray[np.uint8] = F.resize(
        torch.from_numpy(picture), shape, InterpolationMode.BICUBIC, antialias=True
    ).numpy()
    return small


def resized_shape(shape: Sequence[int], shorter: int) -> tuple[int, ...]:
    """(height, width) with the shorter side scaled down to `shorter`, never up; rounded down, as torchvision does it."""
    least = min(shape)
    return tuple(shape) if least <= shorter else tuple(shorter * n // least for n in shape)
