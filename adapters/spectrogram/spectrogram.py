"""Spectrograms of a 1-D or complex signal, computed on the device: speech, micro-Doppler, vibration."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapter import Adapter, Front
from maekit.adapters.radar.fmcw import SPEED_OF_LIGHT
from maekit.adapters.radar.spectra import in_blocks, squared_parts
from maekit.adapters.simulate.micro_doppler import simulate_micro_doppler
from maekit.core.patchify import GridPatchifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from maekit.core.patchify import Patchifier
    from maekit.data.sample import Sample, SignalInfo

Array = NDArray[Any]
Valid = NDArray[np.bool_]


class SpectrogramFront(Front):
    """Short-time Fourier transform with a Hann window, to power in decibels.

    Frames are not padded: frame t covers samples t*hop to t*hop + n_fft and is valid where all of them are. Real signals give
    bins 0 to n_fft/2 - 1 (without the Nyquist bin, so that patches divide the axis); complex signals give all n_fft bins,
    negative frequencies first. A tone of amplitude A, real or complex, has the power A^2 in its bin.

    Args:
        patchifier: of (channel, frequency, frame).
        n_fft: samples in a frame.
        hop: samples from frame to frame.
        two_sided: of a complex signal.
        floor_db: lower limit of the levels.
        reference: amplitude of 0 dB; None: the largest amplitude of each sample's valid frames.
    """

    window: Tensor

    def __init__(
        self, patchifier: Patchifier, *, n_fft: int, hop: int, two_sided: bool, floor_db: float, reference: float | None
    ) -> None:
        super().__init__(patchifier)
        self.n_fft, self.hop, self.two_sided, self.floor_db, self.reference = n_fft, hop, two_sided, floor_db, reference
        self.frames = patchifier.sample_shape[2]
        self.register_buffer("window", torch.hann_window(n_fft))

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """(batch, channel, time) -> (batch, channel, frequency, frame) in dB."""
        if valid is not None:
            signal = torch.where(valid[:, None], signal, torch.zeros((), dtype=signal.dtype, device=signal.device))
        # Not float16 or bfloat16, whatever the model runs in: decibels need the range.
        with torch.autocast(signal.device.type, enabled=False):
            level = None if self.reference is not None else _largest(signal)
            # Of the order of one before squares are taken, since those of volts may be too small for float32.
            scaled = signal if level is None else signal / level
            step = partial(self._power, window=self._scaled_window())
            power = in_blocks(step, scaled, size=self.frames * self.n_fft * signal.shape[1]).transpose(2, 3)
            whole = None if valid is None else valid.unfold(1, self.n_fft, self.hop).all(-1)[:, : self.frames]
            # Divided before the logarithm, so that the floor holds for volts as for ADC counts.
            ratio = power if level is None else power / self._zero(power, whole)
            decibel = ratio.clamp_(min=10 ** (self.floor_db / 10)).log10_().mul_(10)
        if whole is None:
            return decibel, None
        return decibel, repeat(whole, "batch frame -> batch bin frame", bin=decibel.shape[2])

    def _scaled_window(self) -> Float[Tensor, " sample"]:
        """Window that gives a tone its amplitude over that of 0 dB, and zero frequency the middle bin of complex signals."""
        if not self.two_sided:  # a real tone has half of its amplitude at the negative frequency
            return self.window * (2 / (self.window.sum() * (self.reference or 1.0)))
        signs = 1 - 2 * (torch.arange(self.n_fft, device=self.window.device) % 2)
        return self.window * signs / (self.window.sum() * (self.reference or 1.0))

    def _power(
        self, signal: Shaped[Tensor, "batch channel time"], *, window: Float[Tensor, " sample"]
    ) -> Float[Tensor, "batch channel frame bin"]:
        """Squared amplitude in each bin of each frame, in the order that `torch.stft` has in memory."""
        spectrum = torch.stft(
            rearrange(signal, "batch channel time -> (batch channel) time"),
            self.n_fft,
            self.hop,
            window=window,
            center=False,
            onesided=not self.two_sided,
            return_complex=True,
        )
        bins = self.n_fft if self.two_sided else self.n_fft // 2
        parts = squared_parts(spectrum.transpose(1, 2)[:, : self.frames, :bins])
        power = parts[..., 0] + parts[..., 1]
        if not self.two_sided:  # a constant has no half at a negative frequency
            power[..., 0] *= 0.25
        return rearrange(power, "(batch channel) frame bin -> batch channel frame bin", batch=len(signal))

    def _zero(self, power: Tensor, whole: Tensor | None) -> Tensor:
        """Power of 0 dB, the largest of each sample; of a silent one the smallest number, which puts all of it at the floor."""
        frames = power.amax(dim=2)
        if whole is not None:
            frames = torch.where(whole[:, None], frames, 0.0)
        return frames.amax(dim=(1, 2))[:, None, None, None].clamp(min=torch.finfo(power.dtype).tiny)


def _largest(signal: Shaped[Tensor, "batch channel time"]) -> Float[Tensor, "batch one one"]:
    """Largest absolute value of each sample's real and imaginary parts; one of a silent sample."""
    parts = torch.view_as_real(signal) if signal.is_complex() else signal
    level = parts.flatten(1).abs().amax(1)[:, None, None]
    return torch.where(level > 0, level, 1.0)


class SpectrogramAdapter(Adapter):
    """Time-frequency patches of a signal with one axis, `time`.

    Args:
        info: of the source; its window (with `pad` where recordings are shorter) gives the length.
        n_fft: samples in a frame; a real signal gives n_fft / 2 bins.
        hop: samples from frame to frame.
        patch: (frequency bins, frames) of a patch. Frames beyond the last whole patch are not computed.
        floor_db: lower limit of the levels.
        reference: amplitude of 0 dB: `sample`, the maximum of each sample (where the level depends on distance or gain), or an
            amplitude in the unit of the signal (32768 is full scale of int16).
        carrier_hz: of a continuous-wave or FMCW radar: the frequency axis is drawn in m/s, Doppler frequency times half a
            wavelength; the sign of approaching targets depends on the receiver.

    Raises:
        ValueError: axes other than `time`, recordings of different rates, or sizes that do not fit.
    """

    def __init__(
        self,
        info: SignalInfo,
        *,
        n_fft: int = 256,
        hop: int = 64,
        patch: tuple[int, int] = (16, 4),
        floor_db: float = -80.0,
        reference: Literal["sample"] | float = "sample",
        carrier_hz: float | None = None,
    ) -> None:
        if [axis.name for axis in info.axes] != ["time"] or info.rate_hz is None:
            raise ValueError("spectrogram takes one axis, time, at one sampling rate (`resample_hz` in the conversion)")
        if n_fft < 2 or n_fft % 2 or hop < 1:
            raise ValueError(f"n_fft {n_fft} must be even and hop {hop} at least 1")
        if reference != "sample" and not (isinstance(reference, int | float) and reference > 0):
            raise ValueError(f"reference {reference!r} is neither 'sample' nor a positive amplitude")
        if min(patch) < 1 or not -300 <= floor_db < 0:
            raise ValueError(f"patch {tuple(patch)} must be positive and floor_db {floor_db:g} negative, -300 at least")
        length = info.axes[0].length
        frames = (length - n_fft) // hop + 1
        frames -= frames % patch[1]
        if length < n_fft or frames < 1:
            raise ValueError(f"a window of {length} samples has no {patch[1]} frames of {n_fft} samples every {hop}")
        bins = n_fft if info.complex else n_fft // 2
        patchifier = GridPatchifier(
            (len(info.channels), bins, frames),
            tuple(patch),
            ("frequency", "time"),
            (n_fft / info.rate_hz, info.rate_hz / hop),
        )
        zero = None if isinstance(reference, str) else float(reference)
        super().__init__(info, patchifier)
        self.floor_db, self.reference = floor_db, zero
        self.rate_hz: float = info.rate_hz
        self.n_fft, self.hop, self.carrier_hz = n_fft, hop, carrier_hz
        self.unit = "dB re the sample's peak" if zero is None else f"dB re {zero:g} {info.unit}".rstrip()

    def make_front(self) -> SpectrogramFront:
        """Power in decibels over frequency and time."""
        return SpectrogramFront(
            self.patchifier,
            n_fft=self.n_fft,
            hop=self.hop,
            two_sided=self.info.complex,
            floor_db=self.floor_db,
            reference=self.reference,
        )

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """(channel, time) as read, complex64 or float32."""
        kind = np.complex64 if self.info.complex else np.float32
        signal = np.nan_to_num(sample.signal, nan=0.0, posinf=0.0, neginf=0.0)
        return np.ascontiguousarray(signal, dtype=kind), sample.valid

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Draw the first channel: time in seconds to the right, frequency or velocity upward, decibels as colours."""
        # Pixel edges; pixel centres are the frequencies of the bins and the middles of the frames.
        bin_hz = self.rate_hz / self.n_fft
        bottom = -bin_hz / 2 - (self.rate_hz / 2 if self.info.complex else 0.0)
        top, label = bottom + x.shape[1] * bin_hz, "frequency [Hz]"
        if self.carrier_hz is not None:
            half_wavelength = SPEED_OF_LIGHT / self.carrier_hz / 2
            bottom, top, label = bottom * half_wavelength, top * half_wavelength, "velocity [m/s]"
        left = (self.n_fft - self.hop) / 2 / self.rate_hz
        picture = axes.imshow(
            x[0],
            origin="lower",
            aspect="auto",
            cmap="magma",
            interpolation="nearest",
            extent=(left, left + x.shape[2] * self.hop / self.rate_hz, bottom, top),
        )
        axes.set_xlabel("time [s]")
        axes.set_ylabel(label)
        axes.set_title(title)
        axes.figure.colorbar(picture, ax=axes, label=self.unit, fraction=0.05)

    simulate = staticmethod(simulate_micro_doppler)
