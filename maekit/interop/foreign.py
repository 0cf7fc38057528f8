"""Reading weight files from other sources: only tensors are read, and no code in them runs."""

from __future__ import annotations

import argparse
import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from maekit.errors import UserError, nearest
from maekit.interop.prefix import below

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
COMPLETE_FILE = "a complete, undamaged file"
_CLASS_TOKEN = "cls_token"
REFUSED = re.compile(r"(?:GLOBAL|Unsupported(?! global)) ([\w.]+(?: \d+)?)")
"""What torch's restricted unpickler names when it refuses a file."""


def read_tensors(file: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read the weights in a `.pth`, `.pt`, `.bin` or `.safetensors` file; its format is recognised by its content.

    Pickles are opened by torch's restricted unpickler (`weights_only=True`), which builds tensors and plain containers
    and runs nothing. In addition it may build `argparse.Namespace`, which the MAE authors saved beside their weights.

    Args:
        file: the file.
        key: name of the weights in a checkpoint that has several sets (`model`, `model_ema`), or what stands before the
            names of one of several networks in a set (`teacher.backbone`).

    Raises:
        UserError: the file is missing or damaged, holds no weights, or is a pickle that asks to run code.
    """
    if not file.is_file():
        candidates = [p.name for p in sorted(file.iterdir()) if p.suffix in SUFFIXES] if file.is_dir() else []
        raise UserError(
            "no such file",
            location=str(file),
            value="a folder" if file.is_dir() else "nothing",
            expected=f"a file ending in {', '.join(SUFFIXES)}",
            hint=f"Name the one in it that has the weights: {', '.join(candidates)}." if candidates else "",
        )
    if not file.stat().st_size:
        raise UserError("an empty file", location=str(file), expected=COMPLETE_FILE, hint="Download it again.")
    with file.open("rb") as opened:
        start = opened.read(9)
    # Checked first, because the length in a safetensors header may look like the first bytes of a pickle or ZIP file.
    safetensors = start[8:] == b"{"
    if not safetensors and not start.startswith((b"PK", b"\x80")):
        raise UserError(
            "neither safetensors nor a checkpoint of torch",
            location=str(file),
            value=start,
            expected=COMPLETE_FILE,
            hint="A web page begins with `<` and a Git LFS pointer with `version`: download the file itself.",
        )
    try:
        content = load_file(file) if safetensors else _unpickle(file)
    except Exception as error:  # damaged files make the readers raise almost anything, also IndexError, AssertionError
        raise _unreadable(file, error) from error
    weights = _select_weights(content, file, key)
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise UserError(
                "a tensor without plain values",
                location=f"{file}:{name}",
                value="quantised" if tensor.is_quantized else "no data" if tensor.is_meta else str(tensor.layout),
                expected="dense numbers",
                hint="Save it again after `to_dense()` or `dequantize()`.",
            )
    return weights


def _unpickle(file: Path) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about protocols and versions, which whoever downloaded the file cannot change
        return torch.load(file, map_location="cpu", weights_only=True)


def _unreadable(file: Path, error: Exception) -> UserError:
    refused = REFUSED.search(str(error))
    if refused:
        return UserError(
            "a pickle that asks for more than tensors, and was not opened",
            location=str(file),
            value=refused[1],
            expected="tensors, numbers, texts and containers of them",
            hint="If you trust its source, save its tensors with safetensors.torch.save_file.",
        )
    if "TorchScript" in str(error):
        return UserError(
            "a TorchScript program, not weights",
            location=str(file),
            expected="a state dict",
            hint="If you trust its source, save its `state_dict()` with safetensors.torch.save_file.",
        )
    reason = (str(error).split("\n")[0] or type(error).__name__)[:160]
    return UserError(
        f"a damaged file ({reason})", location=str(file), expected=COMPLETE_FILE, hint="Download it again."
    )


def _select_weights(content: Any, file: Path, key: str | None) -> dict[str, Tensor]:
    """Find the weights in a checkpoint: under `key`, under the only name that has tensors, or at the top level.

    Raises:
        UserError: there are none, or several and no `key`.
    """
    if isinstance(content, dict):
        sets = {name: _tensors(value) for name, value in content.items() if isinstance(value, dict) and _tensors(value)}
        sets |= _nested(content)
        if key is not None and key not in sets:
            networks = [below(weights, f"{key}.").weights for weights in (*sets.values(), _tensors(content))]
            matches = [weights for weights in networks if weights]
            if len(matches) == 1:
                return matches[0]
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
                hint=f"Choose one, such as `--key {next(iter(sets))}`.",
            )
        weights = sets[key or next(iter(sets))] if sets else _tensors(content)
        if weights:
            return weights
    raise UserError(
        "no weights in this file",
        location=str(file),
        value=type(content).__name__,
        expected="a mapping from names to tensors, at the top level or under a name such as `model`",
    )


def _nested(content: dict[Any, Any]) -> dict[str, dict[str, Tensor]]:
    """Sets of weights of a transformer one level further down, such as `ema.module`, by both names; not the state of an optimizer."""
    return {
        f"{outer}.{inner}": _tensors(value)
        for outer, part in content.items()
        if isinstance(part, dict)
        for inner, value in part.items()
        if isinstance(value, dict) and any(name.endswith(_CLASS_TOKEN) for name in _tensors(value))
    }


def _tensors(content: dict[Any, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
