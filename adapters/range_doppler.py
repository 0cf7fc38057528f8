"""Radar maps: range-Doppler, range-azimuth, or clips of them over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
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
Scale = Literal["complex", "magnitude", "power", "db", "log10", "level"]


class MapFront(Front):
    """Whatever a map is stored in, to decibels (or picture levels), not below a floor."""

    def __init__(self, patchifier: GridPatchifier, *, scale: Scale, floor_db: float | None) -> None:
        super().__init__(patchifier)
        self.scale, self.floor_db = scale, floor_db

    def transform(
        self, signal: Shaped[Tensor, "batch *prepared"], valid: Bool[Tensor, "batch *axes"] | None
    ) -> tuple[Float[Tensor, "batch *sample"], Bool[Tensor, "batch *axes"] | None]:
        """Decibels as 20 log10 of magnitudes, 10 log10 of powers, 20 x a stored log10 magnitude."""
        if self.scale in ("complex", "magnitude"):
            signal = 20 * torch.log10(signal.abs() + 1e-12)
        elif self.scale == "power":
            signal = 10 * torch.log10(signal.clamp(min=0) + 1e-24)
        elif self.scale == "log10":
            signal = 20 * signal
        return signal if self.floor_db is None else signal.clamp(min=self.floor_db), valid


class RangeDopplerAdapter(Adapter):
    """Maps over named axes: (range, doppler), (range, azimuth), or a clip with `time` or `frame` first.

    Args:
        info: of the source.
        patch: extent of a patch along each axis, in bins.
        scale: what the stored numbers are: `complex`, `magnitude`, `power`, `db`, `log10` (of the magnitude), or
            `level`, the colour levels of a picture, which stay as they are.
        floor_db: smaller values are lifted to this.
        notch_bins: Doppler bins to either side of zero that are lifted to the map's median: static clutter.
        gain_jitter_db: augmentation: one gain for the whole map (transmit power, antenna, distance).
        noise_db: augmentation: white noise of this standard deviation on the map, in its unit.
        mirror_doppler: augmentation: approaching becomes receding; only where the label does not depend on it.
    """

    def __init__(
        self,
        info: SignalInfo,
        *,
        patch: tuple[int, ...] = (8, 8),
        scale: Scale = "db",
        floor_db: float | None = None,
        notch_bins: int | None = None,
        gain_jitter_db: float = 0.0,
        noise_db: float = 0.0,
        mirror_doppler: bool = False,
    ) -> None:
        if scale not in get_args(Scale):
            raise ValueError(f"scale {scale!r}, expected one of {', '.join(get_args(Scale))}")
        if (scale == "complex") != info.complex:
            raise ValueError(f"scale {scale!r}, but the data spec gives {'complex' if info.complex else 'real'} maps")
        names = tuple(axis.name for axis in info.axes)
        if "doppler" not in names and (mirror_doppler or notch_bins is not None):
            raise ValueError(f"mirror_doppler and notch_bins need an axis called doppler; the data spec gives {names}")
        patchifier = GridPatchifier(info.shape, tuple(patch), names)
        super().__init__(info, patchifier, MapFront(patchifier, scale=scale, floor_db=floor_db))
        self.notch_bins, self.gain_jitter_db, self.noise_db = notch_bins, gain_jitter_db, noise_db
        self.mirror_doppler, self.scale = mirror_doppler, scale
        self.doppler = names.index("doppler") + 1 if "doppler" in names else None
        self.unit = "level" if scale == "level" else "dB"

    def prepare(self, sample: Sample) -> tuple[Array, Valid | None]:
        """(channel, *axes) as stored, the zero-Doppler notch cut."""
        x = np.array(sample.signal, dtype=np.complex64 if self.info.complex else np.float32)
        if self.notch_bins is not None and self.doppler is not None:
            zero = self._zero_doppler()
            lines = slice(max(0, zero - self.notch_bins), zero + self.notch_bins + 1)
            where = tuple(lines if axis == self.doppler else slice(None) for axis in range(x.ndim))
            x[where] = np.median(np.abs(x) if self.info.complex else x)
        return x, sample.valid

    def augment(self, signal: Array, valid: Valid | None, rng: Generator) -> tuple[Array, Valid | None]:
        """Gain, noise and (where asked for) Doppler mirroring. Never a range flip: near and far are not alike."""
        gain_db = self.gain_jitter_db * rng.uniform(-1, 1)
        if self.scale in ("db", "level"):
            signal = signal + gain_db + self.noise_db * rng.standard_normal(signal.shape)
        elif self.scale == "log10":
            signal = signal + (gain_db + self.noise_db * rng.standard_normal(signal.shape)) / 20
        else:
            per = 10 if self.scale == "power" else 20
            signal = signal * 10 ** ((gain_db + self.noise_db * rng.standard_normal(signal.shape)) / per)
        if self.mirror_doppler and self.doppler is not None and rng.random() < 0.5:
            signal = np.flip(signal, axis=self.doppler)
            valid = None if valid is None else np.flip(valid, axis=self.doppler - 1).copy()
        kind = np.complex64 if self.info.complex else np.float32
        return np.ascontiguousarray(signal, dtype=kind), valid

    def draw(self, axes: Axes, x: Array, *, title: str = "") -> None:
        """Range upward and Doppler or azimuth along, with their units; of a clip the middle frame; first channel."""
        across, along = self.info.axes[-2:]
        frames = x[0].reshape(-1, across.length, along.length)
        if len(frames) > 1:
            title = f"{title} (frame {len(frames) // 2 + 1} of {len(frames)})"
        (left, right), (bottom, top) = along.coordinates(), across.coordinates()
        picture = axes.imshow(
            frames[len(frames) // 2], origin="lower", aspect="auto", cmap="viridis", extent=(left, right, bottom, top)
        )
        axes.set_xlabel(f"{along.name} [{along.unit or 'bin'}]")
        axes.set_ylabel(f"{across.name} [{across.unit or 'bin'}]")
        axes.set_title(title)
        axes.figure.colorbar(picture, ax=axes, label=self.unit, fraction=0.05)

    @classmethod
    def simulate(cls, folder: Path, *, seed: int = 0, **size: Any) -> Path:
        """Street scenes before an FMCW radar; see `maekit.adapters.fmcw_scene`."""
        from maekit.adapters.fmcw_scene import simulate_scenes

        return simulate_scenes(folder, seed=seed, **size)

    def _zero_doppler(self) -> int:
        axis = self.info.axes[(self.doppler or 1) - 1]
        if axis.step is None:
            return axis.length // 2
        return round(-axis.start / axis.step)
