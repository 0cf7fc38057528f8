"""How long does a range-Doppler map take, beside the bare FFTs that it must do?

    python tests/benchmarks/maps.py [--chirps 128] [--samples 256] [--receivers 8] [--frames 8] [--rounds 41] [--threads 1]

In one process, taken in turn, so that whatever else the machine does meets all alike:

- `fft, fft`: torch.fft.fft over the samples, then over the chirps, of the same complex64 tensor;
- `fft2`: both axes in one call, which torch does faster;
- `map`: windows, both FFTs, power and decibels of every receiver; `mean map`: the receivers' mean power, in decibels;
- `azimuth` and `capon`: range-azimuth maps with 64 azimuths, for their own sake: they have other FFTs to do.

Printed: the median time of each and the median, round by round, of its time over both bare ones.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from maekit.adapters.radar.range_azimuth_map import fft_sines, range_azimuth_map
from maekit.adapters.radar.range_doppler_map import range_doppler_map


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"chirps": 128, "samples": 256, "receivers": 8, "frames": 8, "rounds": 41, "threads": 1}
    for name, number in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    adc = torch.randn(options.frames, options.receivers, options.chirps, options.samples, dtype=torch.complex64)
    sines = fft_sines(64)
    contenders = {
        "fft, fft": lambda: torch.fft.fft(torch.fft.fft(adc), dim=-2),
        "fft2": lambda: torch.fft.fft2(adc),
        "map": lambda: range_doppler_map(adc),
        "mean map": lambda: range_doppler_map(adc, average_receivers=True),
        "azimuth": lambda: range_azimuth_map(adc, sines=sines),
        "capon": lambda: range_azimuth_map(adc, sines=sines, method="capon"),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.rounds + 2):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if turn >= 2:
                times[name].append(time.perf_counter() - began)
    print(f"{tuple(adc.shape)} complex64, {options.threads} threads, torch {torch.__version__}")
    for name, seconds in times.items():
        ratios = [
            statistics.median(mine / its for mine, its in zip(seconds, times[bare], strict=True))
            for bare in ("fft, fft", "fft2")
        ]
        print(
            f"  {name:9} {1000 * statistics.median(seconds):7.2f} ms  {ratios[0]:5.2f} x fft, fft  {ratios[1]:5.2f} x fft2"
        )


if __name__ == "__main__":
    main()
