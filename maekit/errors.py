"""The one exception that speaks to the person at the keyboard."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNSTATED = object()


class UserError(Exception):
    """Something the person running maekit can mend: exit code 2, one paragraph, no traceback.

    Args:
        problem: what is wrong, in one clause.
        location: where: `file:line:column`, a file, `file:/dataset`, a command-line option.
        value: what was found there (shown with `repr`, cut at 120 characters).
        expected: what would have been right.
        hint: what to do about it.
    """

    def __init__(
        self, problem: str, *, location: str = "", value: object = _UNSTATED, expected: str = "", hint: str = ""
    ) -> None:
        self.problem, self.location, self.expected, self.hint = problem, location, expected, hint
        sentences = [f"{location}: {problem}" if location else problem]
        if value is not _UNSTATED:
            shown = repr(value)
            sentences.append(f"got {shown if len(shown) <= 120 else shown[:117] + '...'}")
        if expected:
            sentences.append(f"expected {expected}")
        text = "; ".join(sentences) + "."
        super().__init__(f"{text} {hint}" if hint else text)

    def __reduce__(self) -> tuple[Any, ...]:
        """Word for word through a pipe, for worker processes; an exception would be made anew from its text."""
        return _received, (type(self), str(self), self.__dict__)


class UnreadableError(UserError):
    """One sample that cannot be read, where the others may be: a recipe can allow for some (`data.bad_samples`)."""


def _received(kind: type[UserError], text: str, state: dict[str, Any]) -> UserError:
    error = kind.__new__(kind, text)
    error.__dict__.update(state)
    return error


RENAMED = {
    "accumulation": "gradient_accumulation_steps",
    "beside": "auxiliary",
    "comb": "harmonic_cnn",
    "detail": "skip_channels",
    "epoch_samples": "samples_per_epoch",
    "fewest": "min_samples",
    "lowest": "score_threshold",
    "most": "max_detections",
    "narrowest": "sigma_min",
    "overlay": "mix",
    "predicted_share": "cross_mask_ratio",
    "reach": "eps",
    "suppress_above": "nms_threshold",
    "taps": "offsets",
    "tolerances": "kappa",
    "trust": "trust_coefficient",
    "widest": "sigma_max",
}
"""Former names of recipe keys and of options, with the names that replaced them."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the entry of `known` that was probably meant: the one that replaced `name`, or the closest spelling.

    Returns:
        One sentence, or an empty string where nothing is close.
    """
    names = list(known)
    if RENAMED.get(name) in names:
        return f"It is now called {RENAMED[name]!r}."
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else ""
