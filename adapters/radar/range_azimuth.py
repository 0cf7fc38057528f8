"""Radar maps over range and azimuth, in which objects are places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maekit.adapters.radar.range_doppler import RangeDopplerAdapter
from maekit.adapters.simulate.street import simulate_street

if TYPE_CHECKING:
    from maekit.data.sample import SignalInfo


class RangeAzimuthAdapter(RangeDopplerAdapter):
    """Maps over (range, azimuth), or clips of them with `time` or `frame` first; see `RangeDopplerAdapter` for scales.

    Args:
        info: of the source.
        options: of `RangeDopplerAdapter`.

    Raises:
        ValueError: other axes.
    """

    def __init__(self, info: SignalInfo, **options: Any) -> None:
        names = tuple(axis.name for axis in info.axes)
        if set(names[-2:]) != {"range", "azimuth"}:
            raise ValueError(f"the last two axes are range and azimuth, but the data spec gives {names}")
        super().__init__(info, **options)

    simulate = staticmethod(simulate_street)
