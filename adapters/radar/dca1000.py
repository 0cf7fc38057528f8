"""Files of TI's DCA1000 capture card: little-endian int16 in the order of the LVDS lanes.

Layouts as in Texas Instruments, "Mmwave Radar Device ADC Raw Data Capture" (SWRA581). A capture in raw mode still contains
packet headers, which the card's own programs remove.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from maekit.errors import UserError

Array = NDArray[Any]

FULL_SCALE = 32767


def dca1000_cube(
    values: Array,
    *,
    samples: int,
    chirps: int,
    receivers: int = 4,
    transmitters: int = 1,
    lanes: Literal[2, 4] = 2,
    iq_order: Literal["IQ", "QI"] = "IQ",
    real: bool = False,
) -> Array:
    """Reorder the numbers of a file into a cube.

    Order within a chirp, with two samples a receiver (`s`):

    - 2 lanes (xWR16xx, xWR18xx, xWR68xx), complex: receiver after receiver, `I0 I1 Q0 Q1`, two samples of one
      component at a time; real: receiver after receiver, `s0 s1`.
    - 4 lanes (xWR12xx, xWR14xx), complex: sample after sample, `I` of receivers 0 to 3, then `Q` of the same; real:
      sample after sample, receivers 0 to 3. Inactive receivers are present as zeros.

    Chirps of several transmitters alternate (TDM-MIMO); each pair of transmitter and receiver becomes a virtual receiver.

    Args:
        values: (number,) int16.
        samples: ADC samples per chirp and receiver.
        chirps: per frame, of all transmitters together.
        receivers: number of active receivers; 4 with 4 lanes.
        transmitters: number of alternating transmitters.
        lanes: LVDS lanes of the device.
        iq_order: "QI" where the device was set to send Q first (SDK: `sampleSwap` / `iqSwapSel` 1).
        real: there is no Q channel (`adcOutFmt` real).

    Returns:
        (frame, chirp, receiver, sample): complex64 of ADC counts, or float32 where `real`.

    Raises:
        UserError: counts that no such device has, or no whole number of frames.
    """
    if lanes not in (2, 4) or iq_order not in ("IQ", "QI"):
        raise UserError(
            "no such layout", value={"lanes": lanes, "iq_order": iq_order}, expected="2 or 4 lanes, IQ or QI"
        )
    if lanes == 4 and receivers != 4:
        raise UserError("four lanes always carry four receivers", location="receivers", value=receivers, expected="4")
    if chirps % transmitters:
        raise UserError(
            "chirps that do not go round the transmitters",
            location="chirps",
            value=chirps,
            expected=f"a multiple of {transmitters}",
        )
    if lanes == 2 and not real and samples * receivers % 2:
        raise UserError("two lanes send samples in pairs", location="samples", value=samples, expected="an even number")
    frame = chirps * receivers * samples * (1 if real else 2)
    if len(values) == 0 or len(values) % frame:
        raise UserError(
            "no whole number of frames",
            value=f"{len(values)} numbers: {len(values) // frame} frames and {len(values) % frame} numbers",
            expected=f"a multiple of {frame} ({chirps} chirps x {receivers} receivers x {samples} samples"
            + (")" if real else " x I and Q)"),
            hint=f"Are these the numbers of the device's configuration? Stopped within a frame: keep the first {len(values) // frame * frame * 2} bytes.",
        )
    sizes: dict[str, int] = {"loop": chirps // transmitters, "tx": transmitters, "rx": receivers, "sample": samples}
    if lanes == 2:
        stream = "(frame loop tx rx sample)"
        parts = values if real else rearrange(values, "(pair part two) -> part (pair two)", part=2, two=2)
    else:
        stream = "(frame loop tx sample rx)"
        parts = values if real else rearrange(values, "(sample part rx) -> part (sample rx)", part=2, rx=4)
    if real:
        return rearrange(values, f"{stream} -> frame loop (tx rx) sample", **sizes).astype(np.float32)
    first, second = rearrange(parts, f"part {stream} -> part frame loop (tx rx) sample", **sizes)
    cube = np.empty(first.shape, dtype=np.complex64)
    cube.real, cube.imag = (first, second) if iq_order == "IQ" else (second, first)
    return cube
