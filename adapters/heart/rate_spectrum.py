"""Heart signals as spectra over the logarithm of the rate, on which another heart rate is a shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import reduce, repeat
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from maekit.adapter import Front
from maekit.adapters.heart.heart_rate import HeartRateAdapter
from maekit.core.losses import masked_mean
from maekit.core.patchify import GridPatchifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from maekit.core.patchify import Patchifier
    from maekit.data.sample import SignalInfo

Array = Any
LEAST_MEASURED = 0.5
"""Share of a window that must have been measured for its spectrum to be valid."""
LARGEST_BURST = 4.0
"""Limit of an envelope, in its medians, so that one movement does not outweigh the beats."""


class RateSpectrumFront(Front):
    """Computes the log power at given rates, of a signal and of its envelopes in frequency bands.

    A Hann window is applied to the measured values, and the spectrum is evaluated at exactly these rates (sums over cosines and
    sines, not an FFT grid). The median of each spectrum is subtracted and the result divided by its standard deviation, which
    removes distance and gain. An envelope is the magnitude of the analytic signal in a band, where a beat is a burst even if
    breathing covers the spectral line of the heart rate itself.

    Args:
        patchifier: of (channel, rate).
        points: of a window.
        rate_hz: its sampling rate.
        lines_hz: rates at which the spectrum is evaluated.
        envelopes_hz: frequency bands; each adds one spectrum per channel.
    """

    window: Tensor
    turns: Tensor
    bands: Tensor

    def __init__(
        self,
        patchifier: Patchifier,
        *,
        points: int,
        rate_hz: float,
        lines_hz: NDArray[np.float64],
        envelopes_hz: tuple[tuple[float, float], ...],
    ) -> None:
        super().__init__(patchifier)
        seconds = torch.arange(points, dtype=torch.float64) / rate_hz
        turns = 2 * torch.pi * seconds[:, None] * torch.as_tensor(lines_hz, dtype=torch.float64)
        self.register_buffer("window", torch.hann_window(points), persistent=False)
        self.register_buffer("turns", torch.cat([turns.cos(), turns.sin()], dim=1).float(), persistent=False)
        gains = [_band_gain(points, rate_hz, *band) for band in envelopes_hz]
        self.register_buffer("bands", torch.stack(gains) if gains else torch.zeros(0, points), persistent=False)

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """(batch, channel, time) -> (batch, channel x (1 + bands), rate), in standard deviations of each spectrum."""
        measured = torch.ones_like(signal[:, :1], dtype=torch.bool) if valid is None else valid[:, None].bool()
        with torch.autocast(signal.device.type, enabled=False):
            x = _centred(signal.float(), measured)
            spectra = [self._log_power(x)]
            for gain in self.bands:
                envelope = torch.fft.ifft(torch.fft.fft(x) * gain).abs()
                burst = torch.where(measured, envelope, torch.nan).nanmedian(dim=-1, keepdim=True).values
                envelope = envelope.clamp(max=LARGEST_BURST * burst.nan_to_num())
                spectra.append(self._log_power(_centred(envelope, measured)))
            levels = torch.cat(spectra, dim=1)
        if valid is None:
            return levels, None
        enough = reduce(measured.float(), "batch 1 time -> batch", "mean") >= LEAST_MEASURED
        return levels, repeat(enough, "batch -> batch rate", rate=levels.shape[-1])

    def _log_power(self, x: Tensor) -> Tensor:
        cosine, sine = ((x * self.window) @ self.turns).chunk(2, dim=-1)
        power = cosine**2 + sine**2
        level = (power + 1e-10 * power.amax(-1, keepdim=True) + torch.finfo(power.dtype).tiny).log()
        level = level - level.median(dim=-1, keepdim=True).values
        return level / (level.std(dim=-1, keepdim=True) + 1e-6)


class RateSpectrumAdapter(HeartRateAdapter):
    """Windows of a heart signal as spectra whose patches stand for heart rates, `bins_per_octave` of them per octave.

    On a logarithmic axis the harmonics of a heart beat lie at fixed distances from the fundamental at every rate, so that a
    convolution learns them once for all rates.

    Args:
        info: of the source; one axis, `time`.
        lowest_hz: frequency of the first bin.
        highest_hz: upper limit of the bins; it should include harmonics of heart rates.
        bins_per_octave: 36 gives steps of 2 %.
        envelopes_hz: frequency bands whose envelopes are transformed too.
        signal: options of the adapter `heart_rate` for the preparation of windows, except `patch_s`.

    Raises:
        ValueError: frequencies that do not rise or that the sampling rate does not hold; what `heart_rate` raises.
    """

    def __init__(
        self,
        info: SignalInfo,
        *,
        lowest_hz: float = 0.45,
        highest_hz: float = 9.6,
        bins_per_octave: int = 36,
        envelopes_hz: tuple[tuple[float, float], ...] = ((3.0, 8.0), (8.0, 20.0)),
        **signal: Any,
    ) -> None:
        rate = signal.get("rate_hz") or info.rate_hz
        super().__init__(info, patch_s=1 / rate if rate else 1.0, **signal)
        for name, (low, high) in (
            ("lowest_hz, highest_hz", (lowest_hz, highest_hz)),
            *((f"envelopes_hz {b}", b) for b in envelopes_hz),
        ):
            if not 0 < low < high < self.rate_hz / 2:
                raise ValueError(
                    f"{name}: {low:g} to {high:g} Hz must rise, between 0 and {self.rate_hz / 2:g} Hz (half of rate_hz)"
                )
        if bins_per_octave < 1:
            raise ValueError(f"bins_per_octave {bins_per_octave}, expected 1 or more")
        octaves = np.arange(int(np.log2(highest_hz / lowest_hz) * bins_per_octave) + 1) / bins_per_octave
        self.lines_hz = lowest_hz * 2.0**octaves
        names = ("", *(f", envelope {low:g}-{high:g} Hz" for low, high in envelopes_hz))
        self.lines = [channel + name for name in names for channel in self.info.channels]
        self.patchifier = GridPatchifier((len(self.lines), len(self.lines_hz)), (1,), ("rate",))
        self.envelopes_hz = envelopes_hz
        self.unit = "standard deviations of the log spectrum"

    def make_front(self) -> RateSpectrumFront:
        """Log power over the logarithm of the rate."""
        return RateSpectrumFront(
            self.patchifier,
            points=self.points,
            rate_hz=self.rate_hz,
            lines_hz=self.lines_hz,
            envelopes_hz=self.envelopes_hz,
        )

    def patch_values(self) -> NDArray[np.float64]:
        """Rates in beats per minute."""
        return 60 * self.lines_hz

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Draw the rate to the right on a logarithmic axis, one line a spectrum."""
        for name, line in zip(self.lines, x, strict=True):
            axes.plot(60 * self.lines_hz, line, linewidth=1.1, label=name.replace("$", r"\$"))
        axes.set_xscale("log", base=2)
        marks = [
            m for m in (15, 30, 60, 90, 120, 180, 240, 360, 480) if 60 * self.lines_hz[0] <= m <= 60 * self.lines_hz[-1]
        ]
        axes.set_xticks(marks, [str(m) for m in marks])
        axes.set_xlim(60 * self.lines_hz[0], 60 * self.lines_hz[-1])
        axes.set_xlabel("rate [1/min]")
        axes.set_ylabel("log power")
        axes.set_title(title)
        axes.legend(frameon=False, fontsize="x-small")


def _centred(x: Float[Tensor, "batch channel time"], measured: Bool[Tensor, "batch 1 time"]) -> Tensor:
    """Remove the mean over measured points; zero elsewhere."""
    return torch.where(measured, x - masked_mean(x, measured, dim=-1), 0.0)


def _band_gain(points: int, rate_hz: float, low_hz: float, high_hz: float) -> Tensor:
    """Gains of FFT bins: a zero-phase Butterworth band-pass of order 2, positive frequencies doubled and negative ones zero."""
    frequency = torch.fft.fftfreq(points, 1 / rate_hz, dtype=torch.float64)
    away = (frequency**2 - low_hz * high_hz) / (frequency.clamp(min=1e-9) * (high_hz - low_hz))
    return torch.where(frequency > 0, 2 / (1 + away**4), 0.0).float()
