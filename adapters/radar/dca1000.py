"""Files of TI's DCA1000 capture card: little-endian int16 in the order of the LVDS lanes.

Layouts as in Texas Instruments, "Mmwave Radar Device ADC Raw Data Capture" (SWRA581). Packets of the card's network interface are
those of its user's guide (SPRUIJ4): a sequence number from 1 (4 bytes), the bytes sent before (6 bytes), and up to 1456 bytes of data.
The card's own programs remove the headers and fill what was lost with zeros; a plain dump of the packets still has them.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from maekit.errors import UserError

Array = NDArray[Any]

FULL_SCALE = 32767
HEADER_BYTES = 10
DATA_BYTES = 1456
_PACKET_NUMBERS = (HEADER_BYTES + DATA_BYTES) // 2
_PROBE_PACKETS = 8


class DCA1000Capture:
    """A capture as a cube (frame, chirp, receiver, sample) that is reordered a few frames at a time.

    Args:
        values: (number,) int16, possibly mapped from a file.
        layout: options of `dca1000_cube`.

    Raises:
        UserError: see `dca1000_cube`.
    """

    def __init__(self, values: Array, **layout: Any) -> None:
        self._layout = layout
        frame = layout["chirps"] * layout.get("receivers", 4) * layout["samples"] * (1 if layout.get("real") else 2)
        # Checks the layout on the first frame, and the length of the whole file.
        first = dca1000_cube(values[:frame] if len(values) and not len(values) % frame else values, **layout)
        self._frames = values.reshape(-1, frame)
        self.shape = (len(self._frames), *first.shape[1:])

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, frames: slice) -> Array:
        return dca1000_cube(self._frames[frames].ravel(), **self._layout)


def remove_packet_headers(values: Array) -> tuple[Array, Array] | None:
    """The data of a dump of packets, in the order in which they were sent.

    Args:
        values: (number,) int16 of the whole file.

    Returns:
        (number,) int16 with zeros where packets were lost, and a mask of these; None for a file without packet headers.

    Raises:
        UserError: headers at first, but not up to the end.
    """
    count = -(-len(values) // _PACKET_NUMBERS)
    whole = len(values) // _PACKET_NUMBERS
    last = len(values) - whole * _PACKET_NUMBERS
    if whole < 2 or 0 < last <= HEADER_BYTES // 2:
        return None
    words = np.stack([values[i : whole * _PACKET_NUMBERS : _PACKET_NUMBERS].view(np.uint16) for i in range(5)]).astype(
        np.int64
    )
    if last:
        tail = values[whole * _PACKET_NUMBERS :][: HEADER_BYTES // 2].view(np.uint16).astype(np.int64)
        words = np.concatenate([words, tail[:, None]], axis=1)
    sequence, sent = words[0] + (words[1] << 16), words[2] + (words[3] << 16) + (words[4] << 32)
    is_header = sent == (sequence - 1) * DATA_BYTES
    if not is_header[:_PROBE_PACKETS].all():
        return None
    if not is_header.all():
        raise UserError(
            "packet headers at first, but not in the whole file",
            value=f"packet {int(np.argmin(is_header))} of {count}",
            expected="a sequence number and a count of bytes every 1466 bytes",
            hint="Is the file damaged, or joined from several captures? Convert each capture from a file of its own.",
        )
    first = int(sequence.min())
    length = (int(sequence.max()) - first + 1) * (DATA_BYTES // 2)
    if length > 2 * len(values) + FULL_SCALE * _PACKET_NUMBERS:
        raise UserError("more packets were lost than received", value=f"{count} packets", expected=f"{length}")
    data, lost = np.zeros(length, np.int16), np.ones(length, np.bool_)
    last_at = int(np.argmax(sequence))
    for at in range(count):
        packet = values[at * _PACKET_NUMBERS + HEADER_BYTES // 2 : (at + 1) * _PACKET_NUMBERS]
        start = int(sequence[at] - first) * (DATA_BYTES // 2)
        data[start : start + len(packet)], lost[start : start + len(packet)] = packet, False
        if at == last_at:
            length = start + len(packet)
    return data[:length], lost[:length]


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
    if values.ndim != 1:
        raise UserError(
            "an array of several axes, not the numbers of a capture file",
            value=values.shape,
            expected="(number,), as `format: int16` reads them",
            hint="For a cube whose axes are known, use `through: {function: cube_displacement}` with `axes`.",
        )
    if len(values) == 0 or len(values) % frame:
        frames = len(values) // frame
        cut = (
            f" If the capture stopped within a frame: `head -c {frames * frame * 2} FILE` gives the whole ones."
            if frames
            else ""
        )
        raise UserError(
            "no whole number of frames",
            value=f"{len(values)} numbers: {frames} frames and {len(values) % frame} numbers",
            expected=f"a multiple of {frame} ({chirps} chirps x {receivers} receivers x {samples} samples"
            + (")" if real else " x I and Q)"),
            hint=f"Are these the numbers of the device's configuration?{cut}",
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
