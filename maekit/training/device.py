"""What the device can do: mixed precision and compilation."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """The context that forward passes run in; `auto` is bfloat16 on a GPU that has it, float32 elsewhere."""
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if precision == "float32":
        return nullcontext
    return partial(torch.autocast, device.type, dtype=torch.bfloat16)


def compile_if_wanted(module: nn.Module, wanted: bool, device: torch.device) -> Callable[..., Any]:
    """`torch.compile` where it was asked for and a compiler is there; the module itself, with a note, where not."""
    if not wanted:
        return module
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        logger.warning("training.compile: no C++ compiler on the PATH, so the model runs as it is")
        return module
    if device.type == "cuda" and torch.utils._triton.has_triton() is False:
        logger.warning("training.compile: no Triton here, so the model runs as it is")
        return module
    return torch.compile(module)  # type: ignore[no-any-return]
