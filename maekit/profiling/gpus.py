"""Published limits of GPUs, and the shortest time in which one can take a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class GPU:
    """Limits of a GPU as its data sheet states them.

    Attributes:
        name: of the product.
        memory: bytes, in the decimal units of the data sheet. The driver reports some 5 % more, which is left to the libraries.
        bandwidth: of the memory, bytes a second.
        float32: operations a second outside the matrix units, which torch leaves to TF32 only where it is asked to.
        bfloat16: operations a second of dense matrix products (data sheets state twice as many, with sparsity).
    """

    name: str
    memory: float
    bandwidth: float
    float32: float
    bfloat16: float

    def peak(self, precision: Precision) -> float:
        """Operations a second of matrix products."""
        return self.float32 if precision == "float32" else self.bfloat16


GPUS = {
    "h100": GPU("H100 SXM", memory=80e9, bandwidth=3.35e12, float32=67e12, bfloat16=989e12),
    "h200": GPU("H200 SXM", memory=141e9, bandwidth=4.8e12, float32=67e12, bfloat16=989e12),
}
"""By the name that `--device` takes. Source: NVIDIA's data sheets of the H100 and H200 Tensor Core GPU, SXM."""


@dataclass(frozen=True, slots=True)
class StepBound:
    """Lower bound of the time of a step on one GPU: everything at its peak, and computing and memory wholly overlapped.

    Attributes:
        compute: seconds of the matrix products.
        traffic: seconds of reading and writing the GPU's memory.
    """

    compute: float
    traffic: float

    @property
    def seconds(self) -> float:
        """The larger of the two."""
        return max(self.compute, self.traffic)

    @property
    def limit(self) -> str:
        """What the larger of the two is."""
        return "matrix products" if self.compute >= self.traffic else "memory bandwidth"
