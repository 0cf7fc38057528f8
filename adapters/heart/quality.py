"""Whether a heart can be seen in a signal at all: its band against the noise, and how still the body is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]

BODY_HZ = (0.7, 3.5)
"""Where the chest's beat and the harmonics of its breathing lie."""
NOISE_HZ = 8.0
"""From here on a chest that is seen by radar hardly moves: what is left is phase noise."""
SPIKE_S = 0.1
MOVE_S = 0.5


def body_over_noise_db(displacement: Array, rate_hz: float) -> float:
    """Power density of the velocity in `BODY_HZ` over that above `NOISE_HZ`, in decibels; NaN for no change at all.

    Phase noise is white, or nearly so, and its derivative rises with the square of the frequency; a chest moves slowly. So
    the ratio tells a person from an empty room at any distance and gain. Spikes of unwrapping are limited first
    (six robust deviations).

    Args:
        displacement: (time,) without missing values, in any unit.
        rate_hz: at least 2.5 times `NOISE_HZ`.
    """
    velocity = np.diff(displacement)
    centre = np.median(velocity)
    spread = 1.4826 * np.median(np.abs(velocity - centre))
    limited = np.clip(velocity, centre - 6 * spread, centre + 6 * spread)
    power = np.abs(np.fft.rfft((limited - limited.mean()) * np.hanning(len(limited)))) ** 2
    frequency = np.fft.rfftfreq(len(limited), 1 / rate_hz)
    body = power[(frequency >= BODY_HZ[0]) & (frequency < BODY_HZ[1])].mean()
    noise = power[(frequency >= NOISE_HZ) & (frequency < 0.48 * rate_hz)].mean()
    return float(10 * np.log10(body / noise)) if body > 0 and noise > 0 else float("nan")


def largest_move(displacement: Array, rate_hz: float) -> float:
    """Largest change within half a second, in the signal's unit, after a running median of a tenth of a second.

    Breathing moves a chest by a few millimetres in that time, a person who sits up or turns by centimetres. The median
    takes out single spikes, as a wrong unwrapping leaves them.
    """
    smooth = ndimage.median_filter(displacement, 2 * round(SPIKE_S * rate_hz / 2) + 1, mode="nearest")
    apart = max(1, round(MOVE_S * rate_hz))
    return float(np.abs(smooth[apart:] - smooth[:-apart]).max(initial=0.0))
