"""FMCW radar from its parameters: resolutions, and the beat signal of point scatterers.

Formulas as in Richards, Scheer & Holm, Principles of Modern Radar (2010), and Stove, "Linear FMCW radar
techniques", IEE Proc. F 139 (1992).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

SPEED_OF_LIGHT = 299_792_458.0
BOLTZMANN = 1.380649e-23


@dataclass(frozen=True, slots=True)
class FMCW:
    """A chirp sequence and the radar equation's terms.

    Args:
        carrier_hz: frequency at the start of a chirp.
        bandwidth_hz: swept while samples are taken.
        samples: ADC samples a chirp (complex).
        sample_rate_hz: of the ADC.
        chirps: chirps a frame.
        chirp_interval_s: from chirp to chirp.
        power_w: transmitted.
        gain_db: of transmit and receive antenna, each.
        noise_figure_db: of the receiver.
        temperature_k: of the receiver.

    Raises:
        ValueError: a frequency, time, count, power or temperature that is not positive.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # a mistyped option is said to be one

    carrier_hz: float = 77e9
    bandwidth_hz: float = 3.6e9
    samples: int = 128
    sample_rate_hz: float = 4e6
    chirps: int = 64
    chirp_interval_s: float = 100e-6
    power_w: float = 0.016
    gain_db: float = 9.0
    noise_figure_db: float = 14.0
    temperature_k: float = 290.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not field.name.endswith("_db") and not value > 0:
                raise ValueError(f"{field.name} {value!r} must be positive")

    @property
    def centre_hz(self) -> float:
        """Frequency in the middle of the samples of a chirp."""
        return self.carrier_hz + self.slope_hz_per_s * (self.samples - 1) / (2 * self.sample_rate_hz)

    @property
    def wavelength_m(self) -> float:
        """At the centre of the sweep, not at its start: the phase of a range bin is an average over the samples.

        With 3.6 GHz swept from 77 GHz, displacement from the wavelength at the start would be 2.3 % too large.
        """
        return SPEED_OF_LIGHT / self.centre_hz

    @property
    def slope_hz_per_s(self) -> float:
        """Of the chirp."""
        return self.bandwidth_hz * self.sample_rate_hz / self.samples

    @property
    def range_resolution_m(self) -> float:
        """c / 2B; also the width of a range bin."""
        return SPEED_OF_LIGHT / (2 * self.bandwidth_hz)

    @property
    def max_range_m(self) -> float:
        """Of complex samples: all bins of the range FFT."""
        return self.range_resolution_m * self.samples

    @property
    def velocity_resolution_mps(self) -> float:
        """Wavelength / (2 x frame time); also the width of a Doppler bin."""
        return self.wavelength_m / (2 * self.chirps * self.chirp_interval_s)

    @property
    def max_velocity_mps(self) -> float:
        """Unambiguous, to either side."""
        return self.wavelength_m / (4 * self.chirp_interval_s)

    @property
    def noise_w(self) -> float:
        """Thermal noise in the ADC's band: k T B F."""
        return BOLTZMANN * self.temperature_k * self.sample_rate_hz * 10 ** (self.noise_figure_db / 10)

    def received_w(self, range_m: NDArray[np.float64], rcs_m2: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Radar equation: P G^2 lambda^2 sigma / ((4 pi)^3 R^4)."""
        gain = 10 ** (self.gain_db / 10)
        watts = self.power_w * gain**2 * self.wavelength_m**2 * rcs_m2 / ((4 * np.pi) ** 3 * range_m**4)
        return np.asarray(watts, dtype=np.float64)

    def beat_signal(self, range_m: NDArray[np.float64], rcs_m2: NDArray[np.float64] | float) -> NDArray[np.complex128]:
        """Sum of the beat signals of point scatterers, in volts across one ohm, without noise.

        A scatterer at range R gives a tone of frequency slope x 2R/c that starts at phase 2 pi carrier 2R/c (the
        residual video phase is left out), so that the phase of its range bin is 4 pi R / `wavelength_m` and a
        constant. A receding scatterer turns its phase forward: positive Doppler is receding. Amplitude falls with
        the square of range.

        Args:
            range_m: (scatterer, chirp): the range at each chirp, so that it may migrate.
            rcs_m2: (scatterer, 1) or a number: radar cross section.

        Returns:
            (chirp, sample).
        """
        amplitude = np.sqrt(self.received_w(range_m, rcs_m2))
        time = np.arange(self.samples) / self.sample_rate_hz
        delay = 2 * range_m / SPEED_OF_LIGHT
        start = amplitude * np.exp(2j * np.pi * self.carrier_hz * delay)
        turn = np.exp(2j * np.pi * self.slope_hz_per_s * delay[..., None] * time)
        return np.einsum("pc,pcs->cs", start, turn)

    def array_signal(
        self,
        range_m: NDArray[np.float64],
        sine: NDArray[np.float64],
        rcs_m2: NDArray[np.float64] | float,
        *,
        receivers: int,
        spacing: float = 0.5,
    ) -> NDArray[np.complex64]:
        """The beat signals of many point scatterers at a line of receivers, for a price of a matrix product.

        Receiver m stands at m * spacing * `wavelength_m` to the right; an echo of azimuth theta, positive to the right,
        reaches it the earlier: its phase is less by 2 pi m spacing sin(theta) (see `range_azimuth_map`).

        Two approximations make the phase a sum over receiver, chirp and sample, and the signal a product: no range
        migration inside a frame (the beat frequency and the amplitude are those of the mean range; right while a
        scatterer moves by much less than a range bin), and the array small against the range bin. The phase from chirp
        to chirp is that of the centre of the sweep, which for a scatterer at rest is exactly `beat_signal`.

        Args:
            range_m: (*frame, scatterer, chirp): to receiver 0, at each chirp.
            sine: (*frame, scatterer): of the azimuth.
            rcs_m2: (*frame, scatterer) or a number: radar cross section.
            receivers: how many.
            spacing: in wavelengths.

        Returns:
            (*frame, receiver, chirp, sample), volts across one ohm, without noise.
        """
        middle = range_m.mean(-1)
        delay = 2 / SPEED_OF_LIGHT * range_m
        time = (np.arange(self.samples) - (self.samples - 1) / 2) / self.sample_rate_hz
        # Angles in double precision, for a range has thousands of turns of phase; what they give in single.
        slow = _turns(self.centre_hz * delay) * np.sqrt(self.received_w(middle, rcs_m2))[..., None].astype(np.float32)
        fast = _turns(self.slope_hz_per_s * 2 / SPEED_OF_LIGHT * middle[..., None] * time)
        across = _turns(-spacing * np.asarray(sine)[..., None] * np.arange(receivers))
        left = np.einsum("...pm,...pc->...mcp", across, slow)
        return (left.reshape(*left.shape[:-3], receivers * self.chirps, -1) @ fast).reshape(
            *left.shape[:-1], self.samples
        )

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex128]:
        """Complex white noise of the thermal power."""
        return np.sqrt(self.noise_w / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def _turns(turns: NDArray[np.float64]) -> NDArray[np.complex64]:
    """exp(2j pi turns), by the fraction of a turn, so that single precision will do for sine and cosine."""
    angle = (2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    out = np.empty(angle.shape, dtype=np.complex64)
    np.cos(angle, out=out.real)
    np.sin(angle, out=out.imag)
    return out
