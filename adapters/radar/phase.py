"""Displacement from the complex samples of one range bin: DC offset, arctangent, unwrapping, difference, despiking.

The echo of a chest at distance d has the phase 4 pi d / wavelength. Static reflectors and the receiver's offset add a constant
to the samples, which therefore lie on a circle around it; the constant is removed before the angle is taken
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
    """Centre and radius of the circle through the samples, by Taubin's fit.

    Taubin, IEEE Trans. Pattern Anal. Mach. Intell. 13 (1991), in the form of an eigenvalue problem of 3 x 3 (Chernov,
    Circular and Linear Regression, 2010, chapter 5). Kasa's simpler least-squares fit underestimates the radius of a short,
    noisy arc.

    Args:
        iq: (sample,) complex; values that are not finite are left out.

    Raises:
        ValueError: fewer than three samples, or equal ones.
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
    curvature, real, imaginary = np.linalg.eigh(rows @ rows.T)[1][:, 0]
    # A straight line has zero curvature; its centre is placed very far away instead of at infinity.
    curvature = np.copysign(max(abs(curvature), 1e-9), curvature) / (2 * np.sqrt(mean_square))
    centre = -(real + 1j * imaginary) / (2 * curvature)
    return complex(middle + centre), float(np.sqrt(abs(centre) ** 2 + mean_square))


def demodulated(iq: Array, centre: complex) -> NDArray[np.float64]:
    """Unwrapped angle about the centre, in radians: extended arctangent demodulation (Park et al., 2007).

    Samples that are not finite stay NaN. Unwrapping continues across them with the nearest turn; if the chest moved by more than a
    quarter of a wavelength meanwhile, later phases are off by whole turns.

    Args:
        iq: (frame,) complex.
        centre: of the circle.
    """
    phase = np.full(len(iq), np.nan)
    measured = np.isfinite(iq)
    phase[measured] = np.unwrap(np.angle(np.asarray(iq)[measured] - centre))
    return phase


def steep_steps(phase: Array) -> Valid:
    """(frame - 1,) mask of steps between consecutive frames of more than a quarter of a turn.

    Unwrapping is right for steps below half a turn. Noise adds to motion, so that unwrapping is unreliable from a quarter on.
    """
    return np.abs(np.diff(phase)) > np.pi / 2


def displacement_mm(phase: Array, wavelength_m: float) -> NDArray[np.float64]:
    """Displacement from its mean in mm; positive away from the radar if the phase grows with distance."""
    return np.asarray((phase - np.nanmean(phase)) * wavelength_m / (4 * np.pi) * 1e3, dtype=np.float64)


def difference(x: Array, rate_hz: float, valid: Valid | None = None) -> tuple[Array, Valid | None]:
    """First difference times rate along the last axis, of the same length: the first value is repeated.

    Phase difference of Xiang et al. (Sensors 23, 2023, 7869), which attenuates slow, large motion against fast motion.
    """
    steps = np.diff(x, axis=-1) * rate_hz
    if valid is not None:
        both = valid[1:] & valid[:-1]
        valid = np.r_[both[:1], both]
    return np.concatenate([steps[..., :1], steps], axis=-1), valid


def despiked(x: Array, valid: Valid | None, limit: float) -> Array:
    """Limit values to `limit` robust standard deviations from the median (Hampel).

    Args:
        x: (..., time).
        valid: (time,) samples from which median and deviation are computed.
        limit: in standard deviations, estimated as 1.4826 times the median absolute deviation.
    """
    measured = x if valid is None or not valid.any() else x[..., valid]
    centre = np.median(measured, axis=-1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(measured - centre), axis=-1, keepdims=True)
    # The deviation is zero where more than half of a coarsely quantised channel is one value; then nothing is limited.
    largest = np.where(spread > 0, limit * spread, np.inf)
    return np.clip(x, centre - largest, centre + largest)
