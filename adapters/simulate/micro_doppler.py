"""Rotating blades before a continuous-wave radar: the micro-Doppler that tells them apart.

Chen, The Micro-Doppler Effect in Radar (2011), chapter 3: a blade tip at radius L and rotation rate f has the
radial velocity 2 pi f L cos(2 pi f t); a reflector at radius r of that blade a share r / L of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maekit.adapters.radar.fmcw import SPEED_OF_LIGHT
from maekit.config.data_spec import find_spec
from maekit.data.hdf5.writing import replacing_hdf5
from maekit.files import write_text

CLASSES = {"one blade": 1, "two blades": 2, "three blades": 3}


def simulate_micro_doppler(
    folder: Path,
    *,
    drones: int = 6,
    seconds: float = 2.0,
    rate_hz: float = 16_000.0,
    carrier_hz: float = 10e9,
    seed: int = 0,
) -> Path:
    """Write `micro_doppler.h5` (one recording for each drone and number of blades) and its data spec.

    Args:
        folder: made when missing.
        drones: each with its own blade length (8-14 cm), rotation rate (30-60 Hz), drift and noise (10-20 dB).
        seconds: length of a recording.
        rate_hz: complex samples a second.
        carrier_hz: of the radar.
        seed: everything is a function of it.

    Returns:
        The data spec.
    """
    wavelength = SPEED_OF_LIGHT / carrier_hz
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    with replacing_hdf5(folder / "micro_doppler.h5") as file:
        for drone in range(drones):
            for name, blades in CLASSES.items():
                rng = np.random.default_rng((seed, drone, blades))
                length_m, turns_hz = rng.uniform(0.08, 0.14), rng.uniform(30, 60)
                body_m = rng.uniform(-0.5, 0.5) * time
                iq = 2 * np.exp(4j * np.pi * body_m / wavelength)
                for blade in range(blades):
                    angle = 2 * np.pi * (turns_hz * time + blade / blades) + rng.uniform(0, 0.1)
                    for share in np.linspace(0.2, 1.0, 9):
                        path_m = body_m + share * length_m * np.sin(angle)
                        iq = iq + np.exp(4j * np.pi * path_m / wavelength) / 9
                noise = 10 ** (-rng.uniform(10, 20) / 20) / np.sqrt(2)
                iq = iq + noise * (rng.standard_normal(len(time)) + 1j * rng.standard_normal(len(time)))
                record = file.create_group(f"drone_{drone:02d}_{blades}")
                record.attrs.update({"drone": f"d{drone:02d}", "label": name})
                record.attrs.update({"blade_m": length_m, "turns_hz": turns_hz})
                record.create_dataset("iq", data=iq.astype(np.complex64)).attrs["rate_hz"] = rate_hz
    spec = folder / "simulated_micro_doppler.yaml"
    write_text(spec, find_spec("simulated_micro_doppler").read_text())
    return spec
