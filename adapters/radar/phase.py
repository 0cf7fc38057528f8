"""From the complex samples of one range bin to displacement: DC offset, arctangent, unwrapping, difference, despiking.

A chest at distance d turns the phase of its echo by 4 pi d / wavelength. What does not move, and the receiver's own
offset, add a constant to the samples, so that they lie on a circle about it: it has to go before the angle is taken
(Park, Boric-Lubecke & Lubecke, "Arctangent demodulation with DC offset compensation in quadrature Doppler radar",
IEEE Trans. Microw. Theory Tech. 55, 2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Valid = NDArray[np.bool_]


def circle_fit(iq: Array) -> tuple[complex, float]:
    """Centre and radius of the circle that samples lie on, by Taubin's fit.

    Taubin, IEEE Trans. Pattern Anal. Mach. Intell. 13 (1991), in the form of an eigenvalue problem of 3 x 3 (Chernov,
    Circular and Linear Regression, 2010, chapter 5). Kasa's simpler least squares shrink a short, noisy arc.

    Args:
        iq: (sample,) complex; those that are not finite are left out.

    Raises:
        ValueError: fewer than three samples, or all of them alike.
    """
    iq = np.asarray(iq, dtype=np.complex128)
    iq = iq[np.isfinite(iq)]
    middle = iq.mean() if len(iq) else 0.0
    from_middle = iq - middle
    square = np.abs(from_middle) ** 2
    mean_square = float(square.mean()) if len(iq) else 0.0
    if len(iq) < 3 or mean_square <= 1e-20 * abs(middle) ** 2:
        raise ValueError(f"no circle through {len(iq)} samples that do not differ")
    rows = np.stack([(square - mean_square) / (2 * np.sqrt(mean_square)), from_middle.real, from_middle.imag])
    bend, real, imaginary = np.linalg.eigh(rows @ rows.T)[1][:, 0]
    # A straight line is a circle whose bend is zero; its centre is put very far away instead of nowhere.
    bend = np.copysign(max(abs(bend), 1e-9), bend) / (2 * np.sqrt(mean_square))
    centre = -(real + 1j * imaginary) / (2 * bend)
    return complex(middle + centre), float(np.sqrt(abs(centre) ** 2 + mean_square))


def demodulated(iq: Array, centre: complex) -> NDArray[np.float64]:
    """Unwrapped angle about the centre, in radians: extended arctangent demodulation (Park et al., 2007).

    Samples that are not finite stay NaN. Over them the nearest turn is taken, which a chest that moved on by more
    than a quarter of a wavelength makes wrong: what comes after may be off by whole turns.

    Args:
        iq: (frame,) complex.
        centre: of the circle.
    """
    phase = np.full(len(iq), np.nan)
    measured = np.isfinite(iq)
    phase[measured] = np.unwrap(np.angle(np.asarray(iq)[measured] - centre))
    return phase


def steep_steps(phase: Array) -> Valid:
    """(frame - 1,): where two frames in a row differ by more than a quarter of a turn.

    Unwrapping is right as long as a step stays below half a turn; noise comes on top of motion, so that from a
    quarter on it is a matter of luck.
    """
    return np.abs(np.diff(phase)) > np.pi / 2


def displacement_mm(phase: Array, wavelength_m: float) -> NDArray[np.float64]:
    """Displacement from its mean; away from the radar is positive where phase grows with distance."""
    return np.asarray((phase - np.nanmean(phase)) * wavelength_m / (4 * np.pi) * 1e3, dtype=np.float64)


def difference(x: Array, rate_hz: float, valid: Valid | None = None) -> tuple[Array, Valid | None]:
    """First difference x rate along the last axis, of the same length: the first value stands twice.

    Phase difference of Xiang et al. (Sensors 23, 2023, 7869): what is slow and large shrinks against what is fast.
    """
    steps = np.diff(x, axis=-1) * rate_hz
    if valid is not None:
        both = valid[1:] & valid[:-1]
        valid = np.r_[both[:1], both]
    return np.concatenate([steps[..., :1], steps], axis=-1), valid


def despiked(x: Array, valid: Valid | None, limit: float) -> Array:
    """Values no further from the median than so many robust standard deviations (Hampel).

    Args:
        x: (channel, time).
        valid: (time,): only these count for median and deviation.
        limit: standard deviations, 1.4826 x the median of absolute deviations.
    """
    measured = x if valid is None or not valid.any() else x[:, valid]
    centre = np.median(measured, axis=-1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(measured - centre), axis=-1, keepdims=True)
    # More than half of a coarsely quantised channel may be one value: then this spread is zero and tells nothing.
    reach = np.where(spread > 0, limit * spread, np.inf)
    return np.clip(x, centre - reach, centre + reach)
