"""Signal quality for heart rates, whatever the unit of the signal: power of the body over the noise, and body motion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]

BODY_HZ = (0.7, 3.5)
"""Band of the chest's beat and of the harmonics of breathing."""
NOISE_HZ = 8.0
"""Above this frequency a chest hardly moves, and a radar measures phase noise."""
SPIKE_S = 0.1
MOVE_S = 0.5
ORDINARY_MOVE = 10.0
"""Ratio up to which moves do not differ: breaths of unequal depth and noise reach it.

Measured on windows of 10 s (wrist: 8 s). Above 10 are 4 % of 1,486 windows of radar displacement of seven people at rest (median 3.5;
95 % of a person's windows are below 4.2 to 14.5; getting up reaches 400 to 800), 2 % of 1,293 of a wrist PPG on a treadmill (median 3.9)
and 7 % of 552 of a finger PPG by phone (median 2.5). The highest spectral peak of the radar is within 5 bpm of the ECG in 47 to 62 % of
the windows below 5, 43 to 55 % between 5 and 10, and 21 % above; on the treadmill its mean error is 16 bpm below 6, 21 from there on.
A limit below 10 would therefore leave out 14 % (at 6) of the windows of people at rest, most of one person's.
"""


def body_over_noise_db(displacement: Array, rate_hz: float) -> float:
    """Power density of the velocity in `BODY_HZ` over that above `NOISE_HZ`, in decibels; NaN for no change at all.

    Phase noise is nearly white, so the power of its derivative rises with the square of the frequency, whereas a chest moves
    slowly. The ratio therefore separates a person from an empty room at any distance and gain. Spikes from phase unwrapping are
    first limited to six robust standard deviations.

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


def relative_move(displacement: Array, rate_hz: float) -> float:
    """Largest change within half a second over the median one, after a running median over a tenth of a second.

    Breathing and the heart move a chest about as far in each half second; sitting up or turning moves it many times farther. The
    ratio does not depend on the unit or the gain of the signal. The running median removes single spikes from wrong phase
    unwrapping.

    Args:
        displacement: (time,) without missing values, in any unit.
        rate_hz: sampling rate.

    Returns:
        `ORDINARY_MOVE` or more.
    """
    smooth = ndimage.median_filter(displacement, 2 * round(SPIKE_S * rate_hz / 2) + 1, mode="nearest")
    apart = max(1, round(MOVE_S * rate_hz))
    moves = np.abs(smooth[apart:] - smooth[:-apart])
    largest, typical = float(moves.max(initial=0.0)), float(np.median(moves))
    return max(ORDINARY_MOVE, largest / typical if typical > 0 else float(np.inf if largest > 0 else 0))
