"""Pictures in folders, one folder a class, in the layout of torchvision's ImageFolder."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maekit.data.fingerprint import fingerprint_of
from maekit.data.images.listing import Listing, describe_passed_over, list_folder
from maekit.data.images.picture import Header, decode_header, picture_info, read_picture
from maekit.data.images.table import list_by_table
from maekit.data.sample import Sample, SignalInfo
from maekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.config.data_spec import DataSpec

logger = logging.getLogger(__name__)


class ImageFolderSource:
    """A `Source` of pictures of any size as uint8 (channels, height, width).

    The layout is `root/SIDE/CLASS/picture.jpg`, where the sides (`SIDES`, in any capitalisation) become the groups that
    splits name, in lower case; or `root/CLASS/picture.jpg` with the one group `all`; or pictures without class folders,
    which have no labels; or pictures in any folders, whose classes stand in the `table` of the spec. Hidden files are ignored. Other files and folders
    that are not read are counted in `passed_over` and logged as a warning. `decode_picture` converts pictures to the
    `channels` of the spec.

    Args:
        spec: its `name`, `folder` (where the pictures lie below `root`), `channels` and `table` are used.
        root: the folder.
        labels: False for tasks without labels.

    Raises:
        UserError: there is no picture, a side lacks a class, a class is empty, or pictures lie beside class folders.
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
        self.spec, self.channels = spec, spec.picture_channels
        self.info = picture_info(self.channels)
        self.names, self.groups, numbers, classes, self.passed_over = self._list(root)
        if self.passed_over:
            logger.warning("%s: %s", self.root, describe_passed_over(self.passed_over))
        self.classes = classes if labels else None
        self.labels: NDArray[Any] | None = numbers if labels else None

    def _list(self, root: Path) -> Listing:
        table = self.spec.table
        return list_folder(self.root) if table is None else list_by_table(table, root, self.root)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of one picture."""
        return self.root / os.fsdecode(self.names[index])

    def __getitem__(self, index: int) -> Sample:
        path = self.path(index)
        label = None if self.labels is None else int(self.labels[index])
        return Sample(read_picture(path, self.channels), None, label, str(self.groups[index]), str(path))

    def header(self, index: int) -> Header | None:
        """What the header of a picture states; None where it cannot be read."""
        return decode_header(self.path(index).read_bytes())

    def fingerprint(self) -> str:
        """A digest of names, sizes, content and number of channels."""
        names = [os.fsdecode(name) for name in self.names]
        return fingerprint_of(names, lambda i: self.path(i).stat().st_size, self._read, spec_meaning(self.spec))

    def _read(self, index: int, start: int, length: int) -> bytes:
        with self.path(index).open("rb") as stream:
            stream.seek(start)
            return stream.read(length)


def spec_meaning(spec: DataSpec) -> str:
    """The part of an image folder's spec that decides what a sample is, for fingerprints."""
    text = spec.name if spec.picture_channels == 3 else f"{spec.name}, {spec.picture_channels} channel"
    return text if spec.table is None else f"{text}, {spec.table.model_dump_json()}"
