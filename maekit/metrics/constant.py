"""A tensor that never changes, on every device where it is used."""

from __future__ import annotations

from torch import Tensor


class Constant:
    """A tensor with one copy for each device and type, so that no step waits for a copy to a GPU.

    Args:
        values: the tensor.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self._copies = {(values.device, values.dtype): values}

    def like(self, other: Tensor) -> Tensor:
        """The tensor on the device and in the type of another one."""
        key = other.device, other.dtype
        if key not in self._copies:
            self._copies[key] = self.values.to(other)
        return self._copies[key]
