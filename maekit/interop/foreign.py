"""Reading files that somebody else wrote: tensors alone, and never a line of their code."""

from __future__ import annotations

import argparse
import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
WRAPPERS = ("module.", "_orig_mod.")
WHOLE = "a file whole and as it was written"
REFUSED = re.compile(r"(?:GLOBAL|Unsupported(?! global)) ([\w.]+(?: \d+)?)")
"""What torch's restricted reader says it would not do."""


def read_tensors(file: Path, key: str | None = None) -> dict[str, Tensor]:
    """The weights in a `.pth`, `.pt`, `.bin` or `.safetensors` file; what it is, its content says and not its name.

    Pickles are opened by torch's restricted reader (`weights_only=True`), which builds tensors and plain containers and
    runs nothing; the `argparse.Namespace` that the MAE authors saved beside their weights is the one thing more.

    Args:
        file: what was downloaded.
        key: under which name a checkpoint keeps its weights (`model`, `model_ema`), where there are several.

    Raises:
        UserError: nothing there, damaged, not weights, or a pickle that wants to run code.
    """
    if not file.is_file():
        inside = [p.name for p in sorted(file.iterdir()) if p.suffix in SUFFIXES] if file.is_dir() else []
        raise UserError(
            "no such file",
            location=str(file),
            value="a folder" if file.is_dir() else "nothing",
            expected=f"a file ending in {', '.join(SUFFIXES)}",
            hint=f"Name the one in it that has the weights: {', '.join(inside)}." if inside else "",
        )
    if not file.stat().st_size:
        raise UserError("an empty file", location=str(file), expected=WHOLE, hint="Download it again.")
    with file.open("rb") as opened:
        start = opened.read(9)
    # First of all, for the length of a safetensors header may well look like the first bytes of a pickle or of a ZIP.
    safetensors = start[8:] == b"{"
    if not safetensors and not start.startswith((b"PK", b"\x80")):
        raise UserError(
            "neither safetensors nor a checkpoint of torch",
            location=str(file),
            value=start,
            expected=WHOLE,
            hint="A page saved instead of the file begins with `<`, a pointer to it with `version`: download the file itself.",
        )
    try:
        content = load_file(file) if safetensors else _unpickled(file)
    except (
        Exception
    ) as error:  # bytes at random make the readers raise nearly anything, IndexError and AssertionError too
        raise _unreadable(file, error) from error
    return _unwrapped(_weights(content, file, key))


def _unpickled(file: Path) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on protocols and versions, which mean nothing to a person who downloaded this
        return torch.load(file, map_location="cpu", weights_only=True)


def _unreadable(file: Path, error: Exception) -> UserError:
    refused = REFUSED.search(str(error))
    if refused:
        return UserError(
            "a pickle that asks for more than tensors, and was not opened",
            location=str(file),
            value=refused[1],
            expected="tensors, numbers, texts and containers of them",
            hint="Where you trust its source, save its tensors alone with safetensors.torch.save_file.",
        )
    if "TorchScript" in str(error):
        return UserError(
            "a TorchScript program, not weights",
            location=str(file),
            expected="a state dict",
            hint="Where you trust its source, save its `state_dict()` with safetensors.torch.save_file.",
        )
    reason = (str(error).split("\n")[0] or type(error).__name__)[:160]
    return UserError(f"a damaged file ({reason})", location=str(file), expected=WHOLE, hint="Download it again.")


def _weights(content: Any, file: Path, key: str | None) -> dict[str, Tensor]:
    if isinstance(content, dict):
        sets = {name: _tensors(value) for name, value in content.items() if isinstance(value, dict) and _tensors(value)}
        if key is not None and key not in sets:
            raise UserError(
                "no weights under that name",
                location=f"{file} --key",
                value=key,
                expected=" or ".join(map(str, sets)) or "none: leave --key out",
                hint=nearest(key, map(str, sets)),
            )
        if len(sets) > 1 and key is None:
            raise UserError(
                "several sets of weights",
                location=str(file),
                value=", ".join(map(str, sets)),
                expected="one",
                hint=f"Say which, such as `--key {next(iter(sets))}`.",
            )
        found = sets[key or next(iter(sets))] if sets else _tensors(content)
        if found:
            return found
    raise UserError(
        "no weights in this file",
        location=str(file),
        value=type(content).__name__,
        expected="a mapping from names to tensors, alone or under a name such as `model`",
    )


def _tensors(content: dict[Any, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what DistributedDataParallel and torch.compile put before every name, in whatever order."""
    while wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in weights)), None):
        weights = {name.removeprefix(wrapper): value for name, value in weights.items()}
    return weights
