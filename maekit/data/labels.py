"""One label for each window, from whatever a file holds: an attribute, a row, a slice, or times of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data import safety
from maekit.errors import UserError, nearest

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

    from maekit.data.spec import Label

Reducer = Callable[[Any, float], float]


def _majority(values: NDArray[Any], seconds: float) -> float:
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()])


BUILT_IN: Mapping[str, Reducer] = {
    "first": lambda values, seconds: float(values[0]),
    "mean": lambda values, seconds: float(np.mean(values)),
    "median": lambda values, seconds: float(np.median(values)),
    "majority": _majority,
}


class LabelReader:
    """Reads the labels of one recording after the other, then checks them as a whole.

    Args:
        label: what the data spec says of them.
        reducers: those an adapter brings, beside the built-in ones.
    """

    def __init__(self, label: Label, reducers: Mapping[str, Reducer]) -> None:
        known = {**BUILT_IN, **reducers}
        if label.reduce not in known:
            raise UserError(
                "no such reducer", place="label.reduce in the data spec", value=label.reduce,
                expected="one of " + ", ".join(known), mend=nearest(label.reduce, known),
            )  # fmt: skip
        self.label, self.reduce = label, known[label.reduce]

    def read(
        self, group: h5py.Group, place: str, starts: NDArray[np.int64], length: int, points: int, rate_hz: float | None
    ) -> NDArray[np.float64]:
        """Labels of the windows that begin at `starts`; NaN where a window has none that can be used."""
        values, where = self._values(group, place)
        seconds = length / rate_hz if rate_hz else float("nan")
        if self.label.events:
            if rate_hz is None:
                raise UserError("event times need a sampling rate", place=where, expected="`signal.rate_hz`")
            begins = starts / rate_hz
            inside = [values[(values >= begin) & (values < begin + seconds)] - begin for begin in begins]
        elif values.ndim == 0 or (len(values) == 1 and points != 1):
            inside = [np.atleast_1d(values)] * len(starts)
        elif len(values) == points:
            inside = [values[start : start + length] for start in starts]
        else:
            raise UserError(
                "labels and samples differ in number", place=where, value=len(values), expected=f"{points}, one a row",
                mend="Give one label a row, one for the whole recording, or `events: true` for times in seconds.",
            )  # fmt: skip
        return np.array([self.reduce(part, seconds) for part in inside], dtype=np.float64)

    def finish(self, values: NDArray[np.float64], place: str) -> NDArray[Any]:
        """All labels together: float64 values, or int64 class indices."""
        classes = self.label.classes
        if classes is None:
            return values
        indices = values.astype(np.int64)
        wrong = (indices != values) | (indices < 0) | (indices >= len(classes))
        if wrong.any():
            raise UserError(
                "labels outside the classes", place=place, value=sorted(set(values[wrong].tolist()))[:8],
                expected=f"whole numbers from 0 to {len(classes) - 1}",
            )  # fmt: skip
        if len(set(indices.tolist())) < 2:
            raise UserError("only one class occurs", place=place, value=classes[indices[0]],
                            expected="at least two of " + ", ".join(classes))  # fmt: skip
        return indices

    def _values(self, group: h5py.Group, place: str) -> tuple[NDArray[Any], str]:
        label = self.label
        if label.attribute is not None:
            where = f"{place}@{label.attribute}"
            if label.attribute not in group.attrs:
                raise UserError("no label", place=place, value=f"attribute {label.attribute!r} is missing",
                                mend=nearest(label.attribute, list(group.attrs)))  # fmt: skip
            return self._numbers(np.asarray(group.attrs[label.attribute]), where), where
        where = f"{place}/{label.path}"
        data = safety.dataset(group, label.path or "", place)
        return self._numbers(np.asarray(data.asstr()[()] if data.dtype.kind == "O" else data[()]), where), where

    def _numbers(self, values: NDArray[Any], where: str) -> NDArray[Any]:
        if values.dtype.kind in "iufb":
            return values.astype(np.float64)
        names = np.char.decode(values) if values.dtype.kind == "S" else values.astype(str)
        classes = self.label.classes
        if classes is None:
            raise UserError("labels are words", place=where, value=names.ravel()[:3].tolist(),
                            expected="numbers, or `label.classes` with these words in the data spec")  # fmt: skip
        unknown = sorted(set(names.ravel().tolist()) - set(classes))
        if unknown:
            raise UserError("a class that the data spec does not name", place=where, value=unknown[0],
                            expected="one of " + ", ".join(classes), mend=nearest(unknown[0], classes))  # fmt: skip
        return np.vectorize(classes.index, otypes=[np.float64])(names)
