"""Float32 matrix products through oneDNN: as exact as MKL, and the setting is restored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from maekit.training import device
from maekit.training.device import fast_float32_matmul

CPU = torch.device("cpu")


@pytest.fixture
def matmul() -> Iterator[Any]:
    """The setting; the test must leave it as it was."""
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    yield setting
    assert setting.fp32_precision == before


@pytest.mark.usefixtures("matmul")
def test_products_stay_float32() -> None:
    """Forward and backward, as a layer computes them, against float64."""
    torch.manual_seed(0)
    x, weight = torch.randn(64, 384, requires_grad=True), torch.randn(1536, 384, requires_grad=True)
    heads = torch.randn(4, 6, 50, 64)
    with fast_float32_matmul(CPU):
        out = x @ weight.T
        out.sum().backward()  # type: ignore[no-untyped-call]
        scores = heads @ heads.transpose(-2, -1)
    torch.testing.assert_close(
        out.detach().double(), x.detach().double() @ weight.detach().double().T, rtol=0, atol=5e-4
    )
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), weight.detach().double().sum(0).expand_as(x), rtol=0, atol=5e-4)
    torch.testing.assert_close(scores.double(), heads.double() @ heads.double().transpose(-2, -1), rtol=0, atol=2e-4)


def test_rounding_hardware_is_not_used(matmul: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reduced precision makes products round (AMX), it is not allowed."""
    error = device._product_error
    before = matmul.fp32_precision
    monkeypatch.setattr(device, "_product_error", lambda: error() if matmul.fp32_precision == before else 0.05)
    with fast_float32_matmul(CPU):
        assert matmul.fp32_precision == before


@pytest.mark.usefixtures("matmul")
def test_setting_is_restored_after_an_error() -> None:
    with pytest.raises(KeyError), fast_float32_matmul(CPU):
        raise KeyError
