"""Conversions of raw radar data to chest displacement, which data specs name under `through`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.adapters.radar.chest_displacement import ChestDisplacement, chest_displacement, profile_displacement
from maekit.adapters.radar.dca1000 import FULL_SCALE, dca1000_cube
from maekit.adapters.radar.fmcw import FMCW, SPEED_OF_LIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.adapter import Transformed


def dca1000_displacement(
    values: NDArray[Any],
    *,
    carrier_hz: float,
    bandwidth_hz: float,
    sample_rate_hz: float,
    samples: int,
    chirps: int,
    within_m: tuple[float, float],
    **layout: Any,
) -> Transformed:
    """Chest displacement from a file of the DCA1000 capture card.

    Args:
        values: (number,) int16.
        carrier_hz: frequency at the first sample: start of the chirp + slope x ADC start time.
        bandwidth_hz: slope x samples / sample rate, swept while samples are taken.
        sample_rate_hz: of the ADC.
        samples: per chirp and receiver.
        chirps: per frame.
        within_m: nearest and farthest range of the person.
        **layout: see `maekit.adapters.radar.dca1000.dca1000_cube`.

    Returns:
        (frame,) displacement in mm, attributes, findings.
    """
    radar = FMCW(carrier_hz=carrier_hz, bandwidth_hz=bandwidth_hz, sample_rate_hz=sample_rate_hz, samples=samples)
    cube = dca1000_cube(values, samples=samples, chirps=chirps, **layout)
    return _transformed(chest_displacement(cube, radar, within_m=_pair(within_m), full_scale=FULL_SCALE))


def profiles_displacement(
    values: NDArray[Any],
    *,
    carrier_hz: float,
    start_m: float,
    step_m: float,
    within_m: tuple[float, float],
    iq_order: str = "IQ",
) -> Transformed:
    """Chest displacement from complex samples over range, as pulsed coherent and UWB radars give them.

    Args:
        values: (frame, distance) or (frame, sweep, distance) complex; the sweeps of a frame are averaged.
        carrier_hz: centre of the band.
        start_m: range of the first point.
        step_m: spacing of the points.
        within_m: nearest and farthest range of the person.
        iq_order: "QI" if the first component is Q.

    Returns:
        (frame,) displacement in mm, attributes, findings.

    Raises:
        ValueError: values that are not complex or have another number of axes.
    """
    if not np.iscomplexobj(values) or values.ndim not in (2, 3):
        raise ValueError(f"it takes complex (frame, sweep, distance), not {values.dtype} {values.shape}")
    if iq_order not in ("IQ", "QI"):
        raise ValueError(f"iq_order is IQ or QI, not {iq_order!r}")
    profile = values.reshape(len(values), -1, values.shape[-1]).mean(axis=1, keepdims=True)
    profile = profile if iq_order == "IQ" else profile.imag + 1j * profile.real
    range_m = start_m + step_m * np.arange(values.shape[-1])
    return _transformed(profile_displacement(profile, range_m, SPEED_OF_LIGHT / carrier_hz, within_m=_pair(within_m)))


def _pair(within_m: tuple[float, float]) -> tuple[float, float]:
    nearest, farthest = within_m
    return float(nearest), float(farthest)


def _transformed(found: ChestDisplacement) -> Transformed:
    return found.displacement_mm.astype(np.float32), {**found.numbers(), "unit": "mm"}, found.findings
