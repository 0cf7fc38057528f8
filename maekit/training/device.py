"""Device settings: mixed precision, fast float32 matrix products, memory reuse and compilation."""

from __future__ import annotations

import ctypes
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""

Precision = Literal["auto", "float32", "bfloat16"]


def find_device(name: str | None) -> torch.device:
    """Return the device of this name; by default a GPU where there is one.

    Args:
        name: `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        UserError: no such device, here or at all.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{i}" for i in range(gpus))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if name is None:
        name = "cuda" if gpus else "cpu"
    if name not in available:
        missing = "" if gpus else "torch finds no GPU here; `maekit doctor` says more."
        raise UserError(
            "no such device",
            location="--device",
            value=name,
            expected=" or ".join(available),
            hint=missing or nearest(name, available),
        )
    return torch.device(name)


def autocast(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the context of forward passes.

    `auto`, which only runs from before it was decided by `maekit.training.precision` have, is bfloat16 on a GPU that
    supports it, else float32.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if precision == "float32":
        return nullcontext
    return partial(torch.autocast, device.type, dtype=torch.bfloat16)


@contextmanager
def fast_float32_matmul(device: torch.device) -> Iterator[None]:
    """Let float32 matrix products on a CPU use oneDNN inside the block, where it is as exact as MKL.

    By default torch uses MKL, which on other processors than Intel's reaches half of their speed. torch uses oneDNN
    instead where reduced precision is allowed. oneDNN then rounds on processors with bfloat16 or TF32 units (AMX), and
    computes in full float32 on all others. The block therefore tries a product first, and allows reduced precision
    only where the error is that of float32.
    """
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        float32_error = _product_error()
        matmul.fp32_precision = "bf16"
        if _product_error() > 4 * float32_error:
            matmul.fp32_precision = before
    try:
        yield
    finally:
        matmul.fp32_precision = before


def keep_freed_memory(device: torch.device) -> None:
    """Keep freed memory for the next step instead of returning it to the system, for the rest of this process.

    By default glibc maps every large tensor anew, and each step of a large batch waits for its pages: a quarter of a
    step's time at batch 32 on two cores. With another C library or on a GPU nothing is done.
    """
    if device.type != "cpu" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _product_error() -> float:
    """Largest error of one float32 product, in the layout of a linear layer, against float64."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 512, generator=generator) for n in (128, 256))
    exact = x.double() @ weight.double().T
    return (torch.nn.functional.linear(x, weight) - exact).abs().max().item()


def compile_module(module: nn.Module, enabled: bool, device: torch.device) -> Callable[..., Any]:
    """Apply `torch.compile` where `enabled`; without a compiler, log a warning and return the module itself."""
    if not enabled:
        return module
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        logger.warning("training.compile: there is no C++ compiler on the PATH; the model runs uncompiled")
        return module
    if device.type == "cuda" and not torch.utils._triton.has_triton():
        logger.warning("training.compile: Triton is not installed; the model runs uncompiled")
        return module
    return torch.compile(module)  # type: ignore[no-any-return]
