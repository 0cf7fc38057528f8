"""Each shipped recipe made small, on recordings of the right shape that stand in for data that cannot be shipped."""

from __future__ import annotations

from pathlib import Path

from maekit import plugins
from maekit.build.adapters import make_adapters
from maekit.build.experiment import Experiment
from maekit.build.tasks import fit_task, make_task
from maekit.config.data_spec import load_spec
from maekit.config.load import load_recipe
from maekit.config.schema import Recipe, Size
from maekit.config.split_spec import Split
from maekit.core.joint import PRIMARY
from maekit.core.transformer import PRESETS
from maekit.data import splits
from maekit.data.hdf5.source import HDF5Windows
from maekit.data.loading import Batch, collate
from maekit.data.sampler import Key
from maekit.tasks.pretraining import Pretraining
from maekit.tasks.task import Task

SAMPLES = 4


def stand_in_task(name: str, folder: Path, *overrides: str, full_size: bool = False) -> tuple[Task, Batch]:
    """The task of a recipe, and a training batch of stand-ins, which are written to `folder`."""
    smaller = own_tokenizer(name) if full_size else shrunk(name)
    loaded = load_recipe(name, [*smaller, *overrides])
    source = stand_in(loaded.recipe, folder)
    adapters = make_adapters(loaded, source.info, source.auxiliary)
    split = splits.resolve_split(source.groups, Split(), name)
    experiment = Experiment(loaded, source.spec, source, split, **adapters._asdict())
    for signal in (PRIMARY, *experiment.auxiliary):
        experiment.fit_statistics(signal)
    task = make_task(experiment)
    if isinstance(task, Pretraining) and loaded.recipe.model.target.name != "tokens":  # which wants a trained tokenizer
        fit_task(experiment, task)
    samples = experiment.some_samples("train", augment=True)
    return task, collate([samples[Key(0, i)] for i in range(SAMPLES)])


def shrunk(name: str) -> list[str]:
    """Overrides that keep depth, grid and options of a large recipe, and make it narrow: sixteen patches, a few numbers."""
    model, patch = load_recipe(name).recipe.model, load_recipe(name).recipe.adapter.options.get("patch")
    if load_recipe(name).recipe.task.options.get("near"):
        return ["task.near=0"]  # four samples are all near each other
    if model.backbone.name != "transformer" or model.encoder not in ("vit_base", "vit_large", "vit_huge"):
        return []
    decoder = model.decoder
    assert isinstance(decoder, Size)
    overrides = [
        f"adapter.size={4 * int(str(patch))}",
        f"model.encoder={{width: 24, depth: {PRESETS[model.encoder].depth}, heads: 3, drop_path: {model.drop_path}}}",
        f"model.decoder={{width: {decoder.width // 16}, depth: {decoder.depth}, heads: 4}}",
    ]
    return overrides + own_tokenizer(name)


def own_tokenizer(name: str) -> list[str]:
    """Overrides that replace a tokenizer that is trained first by one that is not."""
    if load_recipe(name).recipe.model.target.name != "tokens":
        return []
    return ["model.target={name: tokens, tokenizer: {name: fsq, levels: [8, 8, 5, 5, 5], width: 24, depth: 1}}"]


PUBLISHED_MAPS = {"cruw": (128, 128), "carrada": (256, 256), "raddet": (256, 256), "radarcity": (224, 221)}
"""Cells along range and azimuth of maps that this repository has no file of."""


def stand_in(recipe: Recipe, folder: Path) -> HDF5Windows:
    import h5py
    import numpy as np
    from PIL import Image

    from maekit.data.images.folder import ImageFolderSource

    spec_name, auxiliary = recipe.data.spec, list(recipe.auxiliary)
    spec = load_spec(spec_name)
    rng = np.random.default_rng(0)
    if spec.kind == "image_folder":
        assert isinstance(spec.split, Split)
        for side in [*spec.split.train, *spec.split.validation, *spec.split.test]:
            for label in ("cat", "dog"):
                (folder / side / label).mkdir(parents=True)
                for i in range(3):
                    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(
                        folder / side / label / f"{i}.png"
                    )
        return ImageFolderSource(spec, folder)  # type: ignore[return-value]
    signal = spec.signal
    assert signal is not None
    sizes = {
        "time": 600,
        "frame": 40,
        "range": 128,
        "doppler": 64,
        "azimuth": 64,
        "height": 64,
        "width": 128,
        "gesture": 4,
    }
    if spec_name in PUBLISHED_MAPS:
        sizes["range"], sizes["azimuth"] = PUBLISHED_MAPS[spec_name]
    rate = 8000.0 if spec_name == "spoken_digits" else 50.0
    sizes["time"] = 9000 if spec_name == "spoken_digits" else 600
    with h5py.File(folder / "stand_in.h5", "w") as file:
        for i in range(4):
            group = file.create_group(f"record{i}")
            for one in (signal, *(spec.auxiliary[name] for name in auxiliary)):
                sizes["channel"] = len(one.channels) or 12
                values = rng.standard_normal([sizes[a] for a in one.axes]).cumsum(0)
                if one.unit in ("level", "count") or "width" in one.axes:
                    values = rng.integers(0, 255, values.shape, dtype=np.uint8)
                values = np.abs(values) if one.unit == "amplitude" else values
                data = group.create_dataset(one.path, data=values)
                data.attrs["rate_hz"] = rate
            spec_label, classes = spec.label, spec.label.classes if spec.label else None
            for name in ("subject", "speaker", "drive", "sequence"):
                group.attrs[name] = f"p{i}"
            if spec.group and spec.group.path:
                group[spec.group.path] = np.full(sizes["frame"], i)
            if spec_label and spec_label.attribute:
                group.attrs[spec_label.attribute] = classes[i % len(classes)] if classes else 1.0
            elif spec_label and spec_label.objects:
                known = {"range": 5.0, "azimuth": 10.0, "doppler": 1.0, "class": i % len(classes or "1")}
                group[spec_label.path or ""] = np.full(
                    (sizes["frame"], 2, len(spec_label.objects)), [known.get(n, 1.0) for n in spec_label.objects]
                )
                group[spec_label.path or ""].attrs["columns"] = spec_label.objects
            elif spec_label and spec_label.path:
                group[spec_label.path or ""] = np.arange(0.5, 12, 0.8 + i / 10)
    return HDF5Windows(
        spec.model_copy(update={"files": "*.h5"}),
        folder,
        window=recipe.data.window,
        reducers=plugins.find("adapters", "heart_rate").reducers,
        auxiliary=auxiliary,
    )
