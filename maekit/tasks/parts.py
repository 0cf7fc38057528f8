"""What an experiment offers to a task and to a label kind: its data, and the modules that it can make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from maekit.adapter import Adapter
    from maekit.config.data_spec import DataSpec
    from maekit.core.autoencoder import MaskedAutoencoder
    from maekit.core.encoders.base import Backbone
    from maekit.data.sample import Source
    from maekit.metrics.plane import Plane


class LabelledData(Protocol):
    """Samples with labels, their split, and the adapter of their modality."""

    @property
    def spec(self) -> DataSpec:
        """The data spec."""

    @property
    def source(self) -> Source:
        """All samples."""

    @property
    def split(self) -> Mapping[str, NDArray[np.int64]]:
        """Indices into the source of `train`, `validation` and `test`."""

    @property
    def adapter(self) -> Adapter:
        """The adapter, with its estimators and detectors."""

    @property
    def labels(self) -> NDArray[Any]:
        """Labels of all samples."""


class Parts(LabelledData, Protocol):
    """Labelled data, and what a task's constructor may ask for. Each module is made when its method is called."""

    def make_front(self) -> nn.Module:
        """The front end: prepared signals to standardised samples and patch validity."""

    def make_encoder(self) -> Backbone:
        """The encoder of the recipe, with new weights."""

    def make_autoencoder(self) -> MaskedAutoencoder:
        """The masked autoencoder of the recipe, with new weights."""

    def training_labels(self) -> NDArray[Any]:
        """Labels of the training split; empty where the data are not there."""

    def patch_values(self) -> NDArray[np.float64] | None:
        """Values of the label that the patches stand for, one a patch; None where they stand for none."""

    def plane(self) -> Plane:
        """Coordinates of the cells of a sample.

        Raises:
            UserError: the adapter has none.
        """
