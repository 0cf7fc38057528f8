"""A modality from outside: greenhouse climate, as somebody would write it for `--plugin greenhouse.py`."""

import h5py
import numpy as np

from maekit.adapter import Adapter
from maekit.core import GridPatchifier
from maekit.plugins import register


@register("adapters", "greenhouse")
class Greenhouse(Adapter):
    """Hourly temperature and humidity; a patch is six hours."""

    def __init__(self, info, *, hours: int = 6):
        super().__init__(info, GridPatchifier(info.shape, (hours,), ("time",)))

    def draw(self, axes, x, *, title=""):
        axes.plot(x.T)
        axes.set(xlabel="hours", ylabel="°C, %", title=title)

    @classmethod
    def simulate(cls, folder, *, seed=0):
        folder.mkdir(parents=True, exist_ok=True)
        hours, rng = np.arange(24 * 60), np.random.default_rng(seed)
        with h5py.File(folder / "greenhouse.h5", "w") as file:
            for house in range(4):
                day = np.sin(2 * np.pi * (hours - 9) / 24)
                climate = np.stack([18 + 6 * day, 70 - 15 * day], axis=1) + rng.standard_normal((len(hours), 2))
                file[f"house{house}/climate"] = climate
        return folder
