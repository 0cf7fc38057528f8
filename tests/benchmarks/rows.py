"""One line of a benchmark's table."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One measurement, and how it stands to a limit or peer that was measured in the same run.

    Attributes:
        name: what was measured.
        value: its median.
        unit: of the value; a rate ends in `/s`.
        peer: the limit or peer.
        ratio: the value over the peer's, the median of the rounds.
    """

    name: str
    value: float
    unit: str
    peer: str
    ratio: float

    @property
    def key(self) -> tuple[str, str]:
        """By which the same measurement is found in another table."""
        return self.name, self.peer

    @property
    def merit(self) -> float:
        """The ratio, so that more is better: of a time, its inverse."""
        return self.ratio if self.unit.endswith("/s") else 1 / self.ratio

    def __str__(self) -> str:
        return f"{self.name:78} {self.value:11,.4g} {self.unit:9}  {self.ratio:7.3f} of {self.peer}"
