"""Patterns of file names below a folder, as a type of fields."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator


def _check_glob(pattern: str) -> str:
    if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
        raise ValueError("a pattern below the folder, without a leading `/` and without `..`")
    try:
        with suppress(OSError):
            next(Path("/nowhere").glob(pattern), None)
    except (ValueError, NotImplementedError, IndexError) as error:
        raise ValueError(
            f"not a pattern of file names ({error}); `**` stands alone between slashes, as in `**/*.csv`"
        ) from None
    return pattern


Glob = Annotated[str, AfterValidator(_check_glob)]
"""A pattern as `pathlib` understands it, which does not lead out of the folder."""
