"""What augmentations ask of the adapter that they are built for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maekit.adapter import Adapter, LinearAmplitude


def amplitude_of(adapter: Adapter) -> LinearAmplitude:
    """How the prepared values relate to amplitude.

    Raises:
        ValueError: they do not.
    """
    if adapter.amplitude is None:
        raise ValueError(
            "levels of a picture say nothing of decibels: give the adapter's level_range_db, or leave this augmentation out"
        )
    return adapter.amplitude


def time_rate_hz(adapter: Adapter) -> float:
    """Sampling rate of a prepared signal whose last axis is time.

    Raises:
        ValueError: another axis, or no rate.
    """
    last = adapter.info.axes[-1].name
    if last != "time" or adapter.rate_hz is None:
        raise ValueError(f"it needs signals over time at one sampling rate, but the last axis is {last}")
    return adapter.rate_hz
