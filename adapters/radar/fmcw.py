"""FMCW radar parameters: resolutions, link budget, and beat signals of point scatterers.

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
    """Parameters of a chirp sequence and of the radar equation.

    Args:
        carrier_hz: frequency at the start of a chirp.
        bandwidth_hz: swept while samples are taken.
        samples: complex ADC samples per chirp.
        sample_rate_hz: of the ADC.
        chirps: per frame.
        chirp_interval_s: between the starts of two chirps.
        power_w: transmitted power.
        gain_db: of the transmit and of the receive antenna.
        noise_figure_db: of the receiver.
        temperature_k: of the receiver.

    Raises:
        ValueError: a frequency, time, count, power or temperature that is not positive.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # an unknown option is refused

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
        """At the centre of the sweep, because the phase of a range bin is an average over the samples.

        With a sweep of 3.6 GHz from 77 GHz, the wavelength at its start gives a displacement that is 2.3 % too large.
        """
        return SPEED_OF_LIGHT / self.centre_hz

    @property
    def slope_hz_per_s(self) -> float:
        """Slope of a chirp."""
        return self.bandwidth_hz * self.sample_rate_hz / self.samples

    @property
    def range_resolution_m(self) -> float:
        """Width of a range bin, c / 2B."""
        return SPEED_OF_LIGHT / (2 * self.bandwidth_hz)

    @property
    def max_range_m(self) -> float:
        """Maximum range with complex samples: all bins of the range FFT."""
        return self.range_resolution_m * self.samples

    @property
    def velocity_resolution_mps(self) -> float:
        """Width of a Doppler bin, wavelength / (2 x frame time)."""
        return self.wavelength_m / (2 * self.chirps * self.chirp_interval_s)

    @property
    def max_velocity_mps(self) -> float:
        """Largest unambiguous speed in either direction."""
        return self.wavelength_m / (4 * self.chirp_interval_s)

    @property
    def noise_w(self) -> float:
        """Thermal noise power in the band of the ADC, k T B F."""
        return BOLTZMANN * self.temperature_k * self.sample_rate_hz * 10 ** (self.noise_figure_db / 10)

    def received_w(self, range_m: NDArray[np.float64], rcs_m2: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Received power by the radar equation, P G^2 lambda^2 sigma / ((4 pi)^3 R^4)."""
        gain = 10 ** (self.gain_db / 10)
        watts = self.power_w * gain**2 * self.wavelength_m**2 * rcs_m2 / ((4 * np.pi) ** 3 * range_m**4)
        return np.asarray(watts, dtype=np.float64)

    def beat_signal(self, range_m: NDArray[np.float64], rcs_m2: NDArray[np.float64] | float) -> NDArray[np.complex128]:
        """Sum of the beat signals of point scatterers, in volts across one ohm, without noise.

        A scatterer at range R gives a tone of frequency slope x 2R/c with the initial phase 2 pi carrier 2R/c (without the residual
        video phase), so that the phase of its range bin is 4 pi R / `wavelength_m` plus a constant. The phase of a receding
        scatterer increases: positive Doppler is receding. The amplitude falls with the square of range.

        Args:
            range_m: (scatterer, chirp) range at each chirp, which may migrate.
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
        """Beat signals of many point scatterers at a line of receivers, computed as a matrix product.

        Receiver m stands at m * spacing * `wavelength_m` to the right; an echo of azimuth theta, positive to the right,
        reaches it the earlier: its phase is less by 2 pi m spacing sin(theta) (see `range_azimuth_map`).

        Two approximations make the phase a sum over receiver, chirp and sample, and the signal a product: there is no range
        migration within a frame (beat frequency and amplitude are those of the mean range, which holds while a scatterer moves by
        much less than a range bin), and the array is small against a range bin. The phase between chirps is that of the centre of
        the sweep, which for a scatterer at rest equals `beat_signal`.

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
        # Phases in double precision, since a range corresponds to thousands of turns; their exponentials in single.
        slow = _phasor(self.centre_hz * delay) * np.sqrt(self.received_w(middle, rcs_m2))[..., None].astype(np.float32)
        fast = _phasor(self.slope_hz_per_s * 2 / SPEED_OF_LIGHT * middle[..., None] * time)
        across = _phasor(-spacing * np.asarray(sine)[..., None] * np.arange(receivers))
        left = np.einsum("...pm,...pc->...mcp", across, slow)
        return (left.reshape(*left.shape[:-3], receivers * self.chirps, -1) @ fast).reshape(
            *left.shape[:-1], self.samples
        )

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex128]:
        """Complex white noise with the thermal noise power."""
        return np.sqrt(self.noise_w / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def _phasor(turns: NDArray[np.float64]) -> NDArray[np.complex64]:
    """exp(2j pi turns) from the fraction of a turn, for which single precision suffices."""
    angle = (2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    out = np.empty(angle.shape, dtype=np.complex64)
    np.cos(angle, out=out.real)
    np.sin(angle, out=out.imag)
    return out
