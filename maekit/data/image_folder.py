"""Pictures in folders, one folder a class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.fingerprint import fingerprint
from maekit.data.sample import Axis, Sample, SignalInfo
from maekit.errors import UnreadableError, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.data.spec import DataSpec

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
MOST_PIXELS = 50_000_000
INFO = SignalInfo(("red", "green", "blue"), (Axis("height", 0, "px"), Axis("width", 0, "px")))
SIDES = ("train", "validation", "val", "test")


class ImageFolderSource:
    """Pictures of any size as uint8 (3, height, width); see `maekit.data.sample.Source`.

    `root/SIDE/CLASS/picture.jpg`, where the sides (train, validation, val, test) become the groups that splits
    name, or `root/CLASS/picture.jpg` with one group, or pictures without class folders, which have no labels.
    Everything is turned into RGB: gray and palette pictures are repeated or looked up, CMYK converted by Pillow,
    16-bit gray scaled by 1/257, transparency laid on black. Sizes vary, so `info.axes` have length 0.

    Args:
        spec: its name, and `folder`, where the pictures lie below `root`.
        root: the folder.
        labels: False where the task needs none.

    Raises:
        UserError: no picture, or a class folder without one.
    """

    def __init__(self, spec: DataSpec, root: Path, *, labels: bool = True) -> None:
        root = root / (spec.folder or "")
        if not root.is_dir():
            raise UserError(
                "no such folder", place=str(root), expected="a folder with pictures",
                mend="Set it with `--set data.root=FOLDER`" + (f", or make it with `maekit data convert {spec.name}`." if spec.convert else "."),
            )  # fmt: skip
        self.spec, self.root = spec, root
        sides = [side for side in SIDES if (root / side).is_dir()]
        folders = {side: root / side for side in sides} or {"all": root}
        classes = sorted({p.name for f in folders.values() for p in f.iterdir() if p.is_dir()})
        self.paths: list[Path] = []
        groups: list[str] = []
        indices: list[int] = []
        for side, folder in folders.items():
            for number, name in enumerate(classes or ["."]):
                found = sorted(p for p in (folder / name).glob("*") if p.suffix.lower() in SUFFIXES)
                if not found:
                    raise UserError("a class folder without pictures" if classes else "no picture", place=str(folder / name),
                                    expected="files ending in " + ", ".join(sorted(SUFFIXES)))  # fmt: skip
                self.paths += found
                groups += [side] * len(found)
                indices += [number] * len(found)
        self.groups = np.array(groups)
        self.classes = tuple(classes) if labels and classes else None
        self.labels: NDArray[Any] | None = np.array(indices, dtype=np.int64) if self.classes else None
        self.info = INFO

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        label = None if self.labels is None else int(self.labels[index])
        return Sample(read_picture(path), None, label, str(self.groups[index]), str(path))

    def fingerprint(self) -> str:
        """A digest of names, sizes and content."""
        return fingerprint(self.root, self.paths, self.spec.name)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """One picture as RGB uint8 (3, height, width).

    Raises:
        UnreadableError: no picture, a damaged one, or one of more than 50 megapixels.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise UnreadableError("a picture too large to decode safely", place=str(path),
                                value=f"{picture.width} x {picture.height}", expected="at most 50 megapixels",
                                mend="Scale it down or remove it.")  # fmt: skip
            if picture.mode.startswith("I"):
                gray = (np.asarray(picture, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8)
                return np.repeat(gray[None], 3, axis=0)
            return np.ascontiguousarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
    except Image.DecompressionBombError as error:
        raise UnreadableError("a picture too large to decode safely", place=str(path), expected="at most 50 megapixels",
                        mend="Scale it down or remove it.") from error  # fmt: skip
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableError(
            f"cannot be read as a picture ({error})", place=str(path), mend="Remove or replace the file."
        ) from error
