"""Writing safetensors files."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import save_file

from maekit.files import partial_path, remove

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file whose permissions follow the umask, as those of other files do.

    safetensors itself creates its files with mode 0600, which keeps a group from reading a shared run folder.

    Args:
        path: the file; one that is there is replaced.
        tensors: by name, on any device.
        metadata: for the header of the file.

    Raises:
        OSError: the file cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    # safetensors makes a file of a random name beside the one it writes; in this folder it is removed after a kill.
    folder = partial_path(path)
    try:
        folder.mkdir()
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, folder / "w", metadata=metadata)
        (folder / "w").replace(path)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    finally:
        remove(folder)
    path.chmod(mode)
