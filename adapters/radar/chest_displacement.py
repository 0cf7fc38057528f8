"""Displacement of a chest in mm from raw radar data, with the choices made and the problems found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maekit.adapters.radar.fmcw import FMCW
from maekit.adapters.radar.phase import circle_fit, demodulated, displacement_mm, steep_steps
from maekit.adapters.radar.range_profile import (
    bins_within,
    combined,
    image_side_db,
    most_variable_bin,
    noise_between_bins,
    range_axis_m,
    range_profile,
)
from maekit.errors import UserError

Array = NDArray[Any]

ECHO_BINS = 5
"""Bins over which a Hann window spreads an echo; together they hold all of its energy."""
MIRRORED_DB = 10.0
"""Ratio of energy at negative to positive beat frequencies from which I and Q count as swapped."""
CLIPPED = 0.01
"""Share of a frame's samples at full scale from which the frame counts as not measured."""
LOW_SNR_DB = 6.0
"""Signal-to-noise ratio of the circle that is reported as low; pure noise gives about 3 dB."""
ZERO_SAMPLES = 24
"""Samples of zero in succession that count as lost: noise of a running radar does not leave so many."""
BLOCK_VALUES = 1 << 22
"""Samples that are examined and transformed at a time."""
SHORT_ARC = 1 / 8
"""Arc in turns below which the circle's centre is uncertain."""


@dataclass(frozen=True)
class ChestDisplacement:
    """Displacement and its quality.

    Args:
        displacement_mm: (frame,) from its mean; NaN where nothing was measured.
        range_m: range of the selected bin.
        range_bin: index of the selected bin.
        wavelength_m: by which phase was converted into displacement.
        snr_db: of the combined samples, radius of the circle over the radial scatter. A low value means noise, or several moving
            reflectors.
        arc_turns: difference between the largest and the smallest phase, in turns.
        steep_steps: number of steps of more than a quarter of a turn, where unwrapping is unreliable.
        missing_frames: number of frames that are NaN, lost or clipped.
        findings: problems to report, in sentences.
    """

    displacement_mm: NDArray[np.float64]
    range_m: float
    range_bin: int
    wavelength_m: float
    snr_db: float
    arc_turns: float
    steep_steps: int
    missing_frames: int
    findings: tuple[str, ...]

    def numbers(self) -> dict[str, float]:
        """Everything but the displacement and the findings, for the attributes of a recording."""
        return {
            name: getattr(self, name)
            for name in ("range_m", "range_bin", "wavelength_m", "snr_db", "arc_turns", "steep_steps", "missing_frames")
        }


class Cube(Protocol):
    """ADC samples (frame, chirp, receiver, sample), given a few frames at a time: an array, or a file in another order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the four axes."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: slice, /) -> Array: ...


def chest_displacement(
    cube: Cube,
    radar: FMCW,
    *,
    within_m: tuple[float, float],
    full_scale: float | None = None,
    lost_frames: Array | None = None,
) -> ChestDisplacement:
    """Displacement from the raw samples of an FMCW radar.

    The chirps of a frame, which are milliseconds apart, are averaged; a range FFT and `profile_displacement` follow. Frames are
    read in blocks, and only the bins that can be selected are kept.

    Args:
        cube: (frame, chirp, receiver, sample), complex, or real from a radar without a Q channel. A frame with NaN, or with a
            stretch of zeros (a lost packet), counts as missing; a receiver with zeros only is inactive.
        radar: gives the range axis and the wavelength.
        within_m: nearest and farthest range of the person.
        full_scale: largest value of the ADC; frames with more than 1 % of their samples there count as missing.
        lost_frames: (frame,) mask of frames of which packets are known to be lost.

    Raises:
        UserError: a cube of another shape; I and Q swapped; errors of `profile_displacement`.
    """
    if len(cube.shape) != 4 or cube.shape[-1] != radar.samples:
        raise UserError(
            "not a cube of this radar", value=cube.shape, expected=f"(frame, chirp, receiver, {radar.samples})"
        )
    findings = []
    silent, broken, clipped = _examine(cube, full_scale)
    switched_off = silent.all(axis=(0, 1))
    lost = np.asarray(((silent | broken) & ~switched_off).any(axis=(1, 2)) | switched_off.all())
    if lost.any():
        findings.append(
            f"{_runs(lost)} hold zeros only for {ZERO_SAMPLES} samples or more, as packets that were lost leave them"
        )
    if lost_frames is not None and lost_frames.any():
        findings.append(f"{_runs(lost_frames)} lack packets, according to their numbers")
        lost |= lost_frames
    if clipped.any():
        findings.append(
            f"{_runs(clipped > 0)} touch full scale ({clipped.max():.1%} of a frame's samples at most): lower the gain"
        )
        lost |= clipped > CLIPPED
    kept, profile, energy = _profiles(cube, lost, radar, within_m)
    if cube[:1].dtype.kind == "c" and within_m[1] < radar.max_range_m / 2 and np.isfinite(energy).all():
        mirrored = image_side_db(np.sqrt(energy))
        if mirrored > MIRRORED_DB:
            raise UserError(
                "I and Q seem to be swapped: the echoes lie at negative beat frequencies",
                value=f"{mirrored:.0f} dB more there",
                expected="more energy at positive ones",
                hint="Turn `iq_order` round. If the echoes really lie beyond half of the radar's range, say so with `within_m`.",
            )
    noise = noise_between_bins(radar.samples, ECHO_BINS)
    displacement = profile_displacement(
        profile,
        range_axis_m(radar, len(energy))[kept],
        radar.wavelength_m,
        within_m=within_m,
        noise=noise,
        findings=tuple(findings),
    )
    return replace(displacement, range_bin=displacement.range_bin + kept.start)


def _blocks(cube: Cube) -> Iterator[tuple[slice, Array]]:
    frames = max(1, BLOCK_VALUES // max(1, prod(cube.shape[1:])))
    for start in range(0, len(cube), frames):
        block = slice(start, min(start + frames, len(cube)))
        yield block, np.asarray(cube[block])


def _examine(cube: Cube, full_scale: float | None) -> tuple[Array, Array, Array]:
    """Look for zeros and clipping.

    Returns:
        (frame, chirp, receiver) masks of chirps of zeros only, and of chirps with `ZERO_SAMPLES` zeros in succession; (frame,)
        share of samples at full scale.
    """
    silent = np.zeros(cube.shape[:3], np.bool_)
    broken, clipped = np.zeros_like(silent), np.zeros(len(cube))
    stretches = cube.shape[-1] // ZERO_SAMPLES
    for frames, part in _blocks(cube):
        zero = part == 0
        silent[frames] = zero.all(axis=-1)
        if stretches:  # of twice that length, one lies within the borders of these in any case
            inside = zero[..., : stretches * ZERO_SAMPLES]
            broken[frames] = inside.reshape(*zero.shape[:-1], stretches, ZERO_SAMPLES).all(axis=-1).any(axis=-1)
        if full_scale is not None:
            # Not by |x|: the absolute value of the lowest int16 is itself.
            rails = [(x >= full_scale) | (x <= -full_scale) for x in (part.real, part.imag)]
            clipped[frames] = (rails[0] | rails[1]).mean(axis=(1, 2, 3))
    return silent, broken, clipped


def _profiles(
    cube: Cube, lost: Array, radar: FMCW, within_m: tuple[float, float]
) -> tuple[slice, Array, NDArray[np.float64]]:
    """Range profiles of frames, NaN where they are lost.

    Returns:
        the bins that are kept: those within the ranges, and as many beside them as an echo covers; profiles (frame, receiver,
        bin); mean energy of all bins (NaN without any frame).
    """
    profiles: list[Array] = []
    kept, energy, count = slice(0, 0), np.zeros(0), 0
    for frames, part in _blocks(cube):
        mean = part.mean(axis=1, dtype=np.complex64 if np.iscomplexobj(part) else np.float32)
        mean[lost[frames]] = np.nan
        profile = range_profile(mean)
        if not profiles:
            inside = np.flatnonzero(bins_within(range_axis_m(radar, profile.shape[-1]), within_m))
            kept = slice(max(0, int(inside[0]) - ECHO_BINS // 2), int(inside[-1]) + ECHO_BINS // 2 + 1)
            energy = np.zeros(profile.shape[-1])
        measured = profile[np.isfinite(profile).all(axis=(1, 2))]
        energy += (np.abs(measured) ** 2).sum(axis=(0, 1), dtype=np.float64)
        count += measured.shape[0] * measured.shape[1]
        profiles.append(profile[..., kept].copy())
    return kept, np.concatenate(profiles), energy / count if count else np.full_like(energy, np.nan)


def profile_displacement(
    profile: Array,
    range_m: Array,
    wavelength_m: float,
    *,
    within_m: tuple[float, float],
    noise: Array | None = None,
    findings: tuple[str, ...] = (),
) -> ChestDisplacement:
    """Displacement from range profiles over time, of any coherent radar (FMCW, pulsed coherent, UWB).

    The bin with the largest variance in the mask is combined with its neighbours over all receivers; the circle's centre is
    subtracted and the angle unwrapped. Swapped I and Q cannot be detected here; they only change the sign.

    Args:
        profile: (frame, receiver, bin) complex; a frame with NaN counts as missing.
        range_m: (bin,) ranges of the bins.
        wavelength_m: at the centre of the band.
        within_m: nearest and farthest range of the person.
        noise: (n, n) covariance of noise over n neighbouring bins, which are then combined; by default the selected bin is used
            alone.
        findings: of earlier steps.

    Raises:
        UserError: no bin within the ranges, fewer than ten valid frames, or no motion.
    """
    inside = bins_within(range_m, within_m)
    missing = ~np.isfinite(profile).all(axis=(1, 2))
    if np.count_nonzero(~missing) < 10:
        raise UserError(
            "too few frames were measured",
            value=int(np.count_nonzero(~missing)),
            expected="ten or more",
            hint=" ".join(findings),
        )
    measured = profile[~missing]
    chosen = most_variable_bin(measured, inside)
    noise = np.eye(1) if noise is None else noise
    first = max(chosen - len(noise) // 2, 0)
    near = measured[..., first : chosen + len(noise) // 2 + 1]
    iq = combined(near, noise[: near.shape[-1], : near.shape[-1]])
    centre, radius = circle_fit(iq)
    phase = np.full(len(profile), np.nan)
    phase[~missing] = demodulated(iq, centre)
    scatter = float(np.std(np.abs(iq - centre)))
    snr_db = float(20 * np.log10(radius / max(np.sqrt(2) * scatter, 1e-12 * radius)))
    turns, steep = float(np.ptp(phase[~missing]) / (2 * np.pi)), int(np.count_nonzero(steep_steps(phase)))
    problems = list(findings)
    if missing.any():
        problems.append(f"{_runs(missing)} not measured; across a pause displacement may jump by half wavelengths")
    if steep:
        problems.append(
            f"{steep} steps of phase of more than a quarter turn a frame: unwrapping is ambiguous there (frames too rare, or no person)"
        )
    if snr_db < LOW_SNR_DB:
        problems.append(f"samples lie on no clear circle ({snr_db:.1f} dB): nobody there, or several things that move")
    if turns < SHORT_ARC:
        problems.append(f"phase covers {turns:.2f} turns: the circle's centre, and with it the scale, is uncertain")
    return ChestDisplacement(
        displacement_mm(phase, wavelength_m),
        float(range_m[chosen]),
        chosen,
        wavelength_m,
        snr_db,
        turns,
        steep,
        int(np.count_nonzero(missing)),
        tuple(problems),
    )


def _runs(which: Any) -> str:
    """`12 frames in 2 stretches, the first at 40`."""
    starts = np.flatnonzero(np.diff(np.r_[False, which].astype(int)) == 1)
    return f"{np.count_nonzero(which)} of {len(which)} frames ({len(starts)} stretches, the first at frame {starts[0]})"
