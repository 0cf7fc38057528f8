"""What the device can do: mixed precision, float32 products and memory at full speed, compilation."""

from __future__ import annotations

import ctypes
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""

Precision = Literal["auto", "float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """The context that forward passes run in; `auto` is bfloat16 on a GPU that has it, float32 elsewhere."""
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if precision == "float32":
        return nullcontext
    return partial(torch.autocast, device.type, dtype=torch.bfloat16)


@contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """Inside, float32 matrix products on a CPU go the faster of torch's two ways, where both are equally exact.

    torch takes MKL, which on processors of other makers than Intel reaches half of what they can; allowing reduced
    precision makes it take oneDNN, which does round where the processor has bfloat16 or TF32 units for it (AMX) and
    computes in full float32, at full speed, where not. So a product is tried first, and the permission kept only where
    its error is that of float32.
    """
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        exact = _error_of_a_product()
        matmul.fp32_precision = "bf16"
        if _error_of_a_product() > 4 * exact:
            matmul.fp32_precision = before
    try:
        yield
    finally:
        matmul.fp32_precision = before


def keep_memory(device: torch.device) -> None:
    """Keep freed memory for the next step instead of handing it back to the system, for the rest of this process.

    glibc maps every large tensor anew, so that each step of a large batch first waits for its pages: a quarter of a
    step's time at batch 32 on two cores. Elsewhere (another C library, a GPU) nothing is done.
    """
    if device.type != "cpu" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _error_of_a_product() -> float:
    """Largest error of one float32 product, forward as a layer does it, against float64."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 512, generator=generator) for n in (128, 256))
    exact = x.double() @ weight.double().T
    return (torch.nn.functional.linear(x, weight) - exact).abs().max().item()


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
