"""What the device can do, and that nothing is left behind."""

from __future__ import annotations

import pytest
import torch

from maekit.training import device
from maekit.training.device import float32_products

CPU = torch.device("cpu")


@pytest.fixture
def permission() -> object:
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    yield matmul
    assert matmul.fp32_precision == before, "left as it was found"


def test_products_stay_float32(permission: object) -> None:
    """Forward and backward, as a layer computes them, against float64."""
    torch.manual_seed(0)
    x, weight = torch.randn(64, 384, requires_grad=True), torch.randn(1536, 384, requires_grad=True)
    heads = torch.randn(4, 6, 50, 64)
    with float32_products(CPU):
        out = x @ weight.T
        out.sum().backward()
        scores = heads @ heads.transpose(-2, -1)
    torch.testing.assert_close(
        out.detach().double(), x.detach().double() @ weight.detach().double().T, rtol=0, atol=5e-4
    )
    torch.testing.assert_close(x.grad.double(), weight.detach().double().sum(0).expand_as(x), rtol=0, atol=5e-4)
    torch.testing.assert_close(scores.double(), heads.double() @ heads.double().transpose(-2, -1), rtol=0, atol=2e-4)


def test_rounding_hardware_is_not_used(permission: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the permission makes products round (AMX), it is taken back."""
    matmul = torch.backends.mkldnn.matmul
    error = device._error_of_a_product
    before = matmul.fp32_precision
    monkeypatch.setattr(device, "_error_of_a_product", lambda: error() if matmul.fp32_precision == before else 0.05)
    with float32_products(CPU):
        assert matmul.fp32_precision == before


def test_permission_ends_with_an_error(permission: object) -> None:
    with pytest.raises(KeyError), float32_products(CPU):
        raise KeyError
