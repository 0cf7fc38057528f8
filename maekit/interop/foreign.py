"""Reading files that somebody else wrote: tensors alone, and never a line of their code."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

HOLDERS = ("model", "state_dict", "model_ema", "module")
WRAPPERS = ("module.", "_orig_mod.")


def read_tensors(file: Path, key: str | None = None) -> dict[str, Tensor]:
    """The weights in a `.pth`, `.pt`, `.bin` or `.safetensors` file.

    Pickles are opened by torch's restricted reader (`weights_only=True`), which builds tensors and plain containers and
    runs nothing; the `argparse.Namespace` that the MAE authors saved beside their weights is the one thing more.

    Args:
        file: what was downloaded.
        key: under which name a checkpoint keeps its weights (`model`, `model_ema`), where that is not clear.

    Raises:
        UserError: nothing there, damaged, not weights, or a pickle that wants to run code.
    """
    if not file.is_file():
        raise UserError(
            "no such file", place=str(file), value="a folder" if file.is_dir() else "nothing",
            expected="a .pth, .pt, .bin or .safetensors file",
        )  # fmt: skip
    whole = "a file whole and as it was written"
    if not file.stat().st_size:
        raise UserError("an empty file", place=str(file), expected=whole, mend="Download it again.")
    with file.open("rb") as opened:
        start = opened.read(9)
    try:
        if start[:2] == b"PK" or start[:1] == b"\x80":
            with torch.serialization.safe_globals([argparse.Namespace]):
                content: Any = torch.load(file, map_location="cpu", weights_only=True)
        elif start[8:] == b"{":
            return load_file(file)
        else:
            raise UserError(
                "neither safetensors nor a checkpoint of torch", place=str(file), value=start, expected=whole,
                mend="A page saved instead of the file begins with `<`: download the file itself.",
            )  # fmt: skip
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise UserError(
                f"a pickle that asks for more than tensors, and was not opened ({reason[:160]})", place=str(file),
                expected="tensors, numbers, texts and containers of them",
                mend="Where you trust its source, save its tensors alone with safetensors.torch.save_file.",
            ) from error  # fmt: skip
        raise UserError(f"a damaged checkpoint ({reason[:160]})", place=str(file), expected=whole) from error
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        OSError,
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"a damaged checkpoint ({reason[:160]})", place=str(file), expected=whole, mend="Download it again."
        ) from error
    return _unwrapped(_weights(content, file, key))


def _weights(content: Any, file: Path, key: str | None) -> dict[str, Tensor]:
    if isinstance(content, dict):
        holders = [name for name in content if isinstance(content[name], dict) and _tensors(content[name])]
        if key is not None and key not in holders:
            raise UserError(
                "no weights under that name", place=f"{file} --key", value=key,
                expected=" or ".join(map(str, holders)) or "none: leave --key out", mend=nearest(key, map(str, holders)),
            )  # fmt: skip
        if key is not None:
            return _tensors(content[key])
        if _tensors(content):
            return _tensors(content)
        known = [name for name in HOLDERS if name in holders]
        if len(known) == 1 or known[:1] == ["model"]:
            return _tensors(content[known[0]])
        if holders:
            raise UserError("several sets of weights", place=str(file), value=", ".join(map(str, holders)),
                            expected="one", mend="Say which with --key.")  # fmt: skip
    raise UserError("no weights in this file", place=str(file), value=type(content).__name__,
                    expected="a mapping from names to tensors, alone or under `model`")  # fmt: skip


def _tensors(content: dict[Any, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what DistributedDataParallel and torch.compile put before every name."""
    for wrapper in WRAPPERS:
        if weights and all(name.startswith(wrapper) for name in weights):
            weights = {name.removeprefix(wrapper): value for name, value in weights.items()}
    return weights
