"""Spectrograms of a 1-D or complex signal, computed on the device: speech, micro-Doppler, vibration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from maekit.adapter import Adapter, Front
from maekit.core.patchify import GridPatchifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.random import Generator

    from maekit.data.sample import Sample, SignalInfo

Array = NDArray[Any]
Valid = NDArray[np.bool_]


class SpectrogramFront(Front):
    """Short-time Fourier transform to power in decibels.

    Frames are not padded: frame t covers samples t*hop to t*hop + n_fft, and is measured where all of them are.
    Real signals give bins 0 to n_fft/2 - 1 (the Nyquist bin is left out, so that patches divide); complex ones all
    n_fft bins, negative frequencies first.
    """

    window: Tensor

    def __init__(
        self, patchifier: GridPatchifier, *, n_fft: int, hop: int, two_sided: bool, floor_db: float, relative: bool
    ) -> None:
        super().__init__(patchifier)
        self.n_fft, self.hop, self.two_sided, self.floor_db, self.relative = n_fft, hop, two_sided, floor_db, relative
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
            spectrum = torch.stft(
                rearrange(signal, "batch channel time -> (batch channel) time"), self.n_fft, self.hop,
                window=self.window, center=False, onesided=not self.two_sided, return_complex=True,
            )  # fmt: skip
            power = spectrum.abs().square() / self.window.sum().square()
        spectrum = rearrange(power, "(batch channel) bin frame -> batch channel bin frame", batch=len(signal))
        spectrum = spectrum[..., : self.frames]
        spectrum = spectrum.roll(self.n_fft // 2, dims=2) if self.two_sided else spectrum[:, :, : self.n_fft // 2]
        decibel = 10 * torch.log10(spectrum + 1e-20)
        if self.relative:
            decibel = decibel - decibel.amax(dim=(1, 2, 3), keepdim=True)
        decibel = decibel.clamp(min=self.floor_db)
        if valid is None:
            return decibel, None
        whole = valid.unfold(1, self.n_fft, self.hop).all(-1)[:, : self.frames]
        return decibel, whole[:, None].expand(-1, decibel.shape[2], -1)


class SpectrogramAdapter(Adapter):
    """Time-frequency patches of a signal with one axis, `time`.

    Args:
        info: of the source; its window (with `pad` where recordings are shorter) gives the length.
        n_fft: samples in a frame; a real signal gives n_fft / 2 bins.
        hop: samples from frame to frame.
        patch: (frequency bins, frames) of a patch. Frames beyond the last whole patch are not computed.
        floor_db: smaller values are lifted to this.
        reference: decibels relative to the `sample`'s own maximum (where its level depends on distance or gain), or
            to `full_scale`, amplitude 1 in the unit of the signal.
        carrier_hz: of a continuous-wave or FMCW radar: the frequency axis is then drawn in m/s.
        gain_jitter_db: augmentation, of no effect with the reference `sample`.
        shift_s: augmentation: a recording that is padded moves within its window by up to this.
        noise_db: augmentation: white noise this far below the sample's mean power.
    """

    def __init__(
        self,
        info: SignalInfo,
        *,
        n_fft: int = 256,
        hop: int = 64,
        patch: tuple[int, int] = (16, 4),
        floor_db: float = -80.0,
        reference: Literal["sample", "full_scale"] = "sample",
        carrier_hz: float | None = None,
        gain_jitter_db: float = 0.0,
        shift_s: float = 0.0,
        noise_db: float | None = None,
    ) -> None:
        if [axis.name for axis in info.axes] != ["time"] or info.rate_hz is None:
            raise ValueError("spectrogram takes one axis, time, at one sampling rate (`resample_hz` in the conversion)")
        if n_fft < 2 or n_fft % 2 or hop < 1:
            raise ValueError(f"n_fft {n_fft} must be even and hop {hop} at least 1")
        if reference not in ("sample", "full_scale"):
            raise ValueError(f"reference {reference!r}, expected 'sample' or 'full_scale'")
        frames = (info.axes[0].length - n_fft) // hop + 1
        frames -= frames % patch[1]
        if frames < 1:
            raise ValueError(f"a window of {info.axes[0].length} samples has no {patch[1]} frames of {n_fft} every {hop}")
        bins = n_fft if info.complex else n_fft // 2
        patchifier = GridPatchifier((len(info.channels), bins, frames), tuple(patch), ("frequency", "time"))
        front = SpectrogramFront(patchifier, n_fft=n_fft, hop=hop, two_sided=info.complex, floor_db=floor_db,
                                 relative=reference == "sample")  # fmt: skip
        super().__init__(info, patchifier, front)
        self.rate_hz, self.hop, self.carrier_hz = info.rate_hz, hop, carrier_hz
        self.gain_jitter_db, self.shift_s, self.noise_db = gain_jitter_db, shift_s, noise_db
        self.unit = "dB below the sample's peak" if reference == "sample" else "dB re full scale"

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """(channel, time) as read, complex64 or float32."""
        kind = np.complex64 if self.info.complex else np.float32
        signal = np.nan_to_num(sample.signal, nan=0.0, posinf=0.0, neginf=0.0)
        return np.ascontiguousarray(signal, dtype=kind), sample.valid

    def augment(self, signal: Array, valid: Valid | None, rng: Generator) -> tuple[Array, Valid | None]:
        """Level, receiver noise, and where in the window a short recording lies."""
        signal = signal * 10 ** (self.gain_jitter_db * rng.uniform(-1, 1) / 20)
        if self.noise_db is not None:
            power = np.mean(np.abs(signal) ** 2) * 10 ** (self.noise_db / 10)
            signal = signal + np.sqrt(power) * rng.standard_normal(signal.shape)
        if valid is not None and not valid[-1]:
            room = int(np.argmax(valid[::-1]))
            shift = rng.integers(0, min(room, round(self.shift_s * self.rate_hz)) + 1)
            signal, valid = np.roll(signal, shift, axis=-1), np.roll(valid, shift)
        return np.ascontiguousarray(signal, dtype=np.complex64 if self.info.complex else np.float32), valid

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Seconds along, frequency (or velocity) upward, decibels in colour; the first channel."""
        top = self.rate_hz / 2
        bottom, label = (-top if self.info.complex else 0.0), "frequency [Hz]"
        if self.carrier_hz is not None:
            half_wavelength = 299_792_458.0 / self.carrier_hz / 2
            bottom, top, label = bottom * half_wavelength, top * half_wavelength, "velocity [m/s]"
        picture = axes.imshow(
            x[0], origin="lower", aspect="auto", cmap="magma", extent=(0, x.shape[2] * self.hop / self.rate_hz, bottom, top)
        )
        axes.set_xlabel("time [s]")
        axes.set_ylabel(label)
        axes.set_title(title)
        axes.figure.colorbar(picture, ax=axes, label=self.unit, fraction=0.05)

    @classmethod
    def simulate(cls, folder: Path, *, seed: int = 0, **size: Any) -> Path:
        """Micro-Doppler of swinging targets before a continuous-wave radar; see `maekit.adapters.micro_doppler`."""
        from maekit.adapters.micro_doppler import simulate_micro_doppler

        return simulate_micro_doppler(folder, seed=seed, **size)
