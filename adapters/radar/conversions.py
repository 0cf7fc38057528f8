"""Conversions of raw radar data to chest displacement, which data specs name under `through`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange

from maekit.adapters.radar.chest_displacement import ChestDisplacement, chest_displacement, profile_displacement
from maekit.adapters.radar.dca1000 import FULL_SCALE, DCA1000Capture, remove_packet_headers
from maekit.adapters.radar.fmcw import FMCW, SPEED_OF_LIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maekit.adapter import Transformed

NO_PACKET_NUMBERS = "the file has no packet numbers: packets that were lost show only where they were filled with zeros"


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
    packets = remove_packet_headers(values) if values.ndim == 1 and values.dtype == np.int16 else None
    data, lost = packets or (values, None)
    cube = DCA1000Capture(data, samples=samples, chirps=chirps, **layout)
    lost_frames = None if lost is None else lost.reshape(len(cube), -1).any(axis=1)
    displacement = chest_displacement(
        cube, radar, within_m=_pair(within_m), full_scale=FULL_SCALE, lost_frames=lost_frames
    )
    line, attributes, findings = _transformed(displacement)
    return line, attributes, [*findings, *([] if packets else [NO_PACKET_NUMBERS])]


def cube_displacement(
    values: NDArray[Any],
    *,
    axes: list[str],
    carrier_hz: float,
    bandwidth_hz: float,
    sample_rate_hz: float,
    within_m: tuple[float, float],
    full_scale: float | None = None,
) -> Transformed:
    """Chest displacement from ADC samples of an FMCW radar whose axes are known, real or complex.

    Args:
        values: an array of ADC samples, in any unit.
        axes: names of its axes in order: `frame` and `sample`, and `chirp` and `receiver` where it has them; axes of other names,
            such as `transmitter`, count as further receivers.
        carrier_hz: frequency at the first sample: start of the chirp + slope x ADC start time.
        bandwidth_hz: slope x samples / sample rate, swept while samples are taken.
        sample_rate_hz: of the ADC.
        within_m: nearest and farthest range of the person.
        full_scale: largest value of the ADC, if known; frames that touch it often are left out.

    Returns:
        (frame,) displacement in mm, attributes, findings.

    Raises:
        ValueError: axes that are not those of the array.
    """
    if len(axes) != values.ndim or len(set(axes)) < len(axes) or not {"frame", "sample"} <= set(axes):
        raise ValueError(
            f"`axes` names the {values.ndim} axes of {values.shape}, `frame` and `sample` among them, not {axes}"
        )
    others = " ".join(name for name in axes if name not in ("frame", "chirp", "sample"))
    chirp = "chirp" if "chirp" in axes else "1"
    cube = rearrange(np.asarray(values), f"{' '.join(axes)} -> frame {chirp} ({others}) sample")
    if cube.dtype.kind not in "fc":
        cube = cube.astype(np.float32)
    radar = FMCW(
        carrier_hz=carrier_hz, bandwidth_hz=bandwidth_hz, sample_rate_hz=sample_rate_hz, samples=cube.shape[-1]
    )
    if cube.dtype.kind == "f":  # a real ADC has an offset, which would be a strong echo at range zero
        cube = cube - cube.mean(axis=-1, keepdims=True)
    return _transformed(chest_displacement(cube, radar, within_m=_pair(within_m), full_scale=full_scale))


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
        raise ValueError(
            f"it takes complex (frame, sweep, distance), not {values.dtype} {values.shape}; ADC samples of an FMCW radar go "
            "through `cube_displacement`"
        )
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
