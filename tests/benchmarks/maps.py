"""How long do maps take, beside the bare FFTs that they must do?

    PYTHONPATH=tests python -m benchmarks.maps [--rounds 41]

All contenders take turns in one process on one thread, so that whatever else the machine does meets all alike, and the time
is the thread's own on the processor. Each ratio is the median, round by round, of a contender's time over its limit's:

- range-Doppler maps of 8 frames of 8 receivers, 128 chirps and 256 samples (windows, clutter removal, FFTs, power, decibels)
  over one `torch.fft.fft2` of the same cubes, by receiver and with the receivers' mean power, which a cube's adapter makes;
- range-azimuth maps over the same, for their own sake: they have other transforms to do;
- what the spectrogram's front does with 32 signals of 16,000 samples over `torch.stft` of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import torch

from benchmarks.rows import Row
from maekit.adapters.radar.range_azimuth_map import fft_sines, range_azimuth_map
from maekit.adapters.radar.range_doppler_map import range_doppler_map
from maekit.adapters.spectrogram.spectrogram import SpectrogramAdapter
from maekit.data.sample import Axis, SignalInfo
from maekit.training.device import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 2


def rows(rounds: int = 41) -> list[Row]:
    """Measure every map beside its limit, on one thread."""
    torch.set_num_threads(1)
    keep_freed_memory(torch.device("cpu"))  # as in every run
    works = _radar() | _spectrogram(is_complex=False) | _spectrogram(is_complex=True)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    with torch.inference_mode():
        for turn in range(rounds + WARM_UP):
            for name, (run, limit) in works.items():
                pair = _seconds(run), _seconds(limit)
                if turn >= WARM_UP:
                    times[name].append(pair)
    found = []
    for name, pairs in times.items():
        mine, peer = (
            1000 * statistics.median(own for own, _ in pairs),
            "torch.stft" if "spectrogram" in name else "fft2",
        )
        found.append(Row(f"maps: {name}", mine, "ms", peer, statistics.median(own / its for own, its in pairs)))
    return found


Pair = tuple["Callable[[], object]", "Callable[[], object]"]


def _radar() -> dict[str, Pair]:
    adc, sines = torch.randn(8, 8, 128, 256, dtype=torch.complex64), fft_sines(64)
    works: dict[str, Callable[[], object]] = {
        "range-Doppler maps, each receiver": lambda: range_doppler_map(adc),
        "range-Doppler maps, mean of receivers": lambda: range_doppler_map(adc, average_receivers=True),
        "range-Doppler maps, mean, without clutter": lambda: range_doppler_map(
            adc, average_receivers=True, clutter="mean"
        ),
        "range-azimuth maps": lambda: range_azimuth_map(adc, sines=sines),
        "range-azimuth maps, Capon": lambda: range_azimuth_map(adc, sines=sines, method="capon"),
    }
    return {name: (run, lambda: torch.fft.fft2(adc)) for name, run in works.items()}


def _spectrogram(*, is_complex: bool) -> dict[str, Pair]:
    info = SignalInfo(("",), (Axis("time", 16_000),), "V", is_complex, 16_000.0)
    front = SpectrogramAdapter(info, n_fft=256, hop=64).make_front()
    signal = torch.randn(32, 1, 16_000, dtype=torch.complex64 if is_complex else torch.float32)
    window = torch.hann_window(256)

    def bare() -> object:
        return torch.stft(
            signal[:, 0], 256, 64, window=window, center=False, onesided=not is_complex, return_complex=True
        )

    kind = "complex" if is_complex else "real"
    return {f"spectrogram of {kind} signals": (lambda: front.transform(signal, None), bare)}


def _seconds(run: Callable[[], object]) -> float:
    began = time.thread_time()
    run()
    return time.thread_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    for row in rows(parser.parse_args().rounds):
        print(row)


if __name__ == "__main__":
    main()
