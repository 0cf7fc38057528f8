"""The exception for mistakes that a user can correct, and hints that name what was probably meant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from maekit.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNSTATED = object()


class UserError(Exception):
    """A mistake that the user can correct: exit code 2, one paragraph, no traceback.

    Args:
        problem: what is wrong, in one clause.
        location: `file:line:column`, a file, `file:/dataset`, or a command-line option.
        value: the offending value (shown with `repr`, cut at 120 characters).
        expected: what would have been accepted.
        hint: what to do about it.
    """

    def __init__(
        self, problem: str, *, location: str = "", value: object = _UNSTATED, expected: str = "", hint: str = ""
    ) -> None:
        problem, location, expected = visible(problem), visible(location), visible(expected)
        hint = visible(hint, keep="\n")  # several errors stand below each other in one hint
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
        """Pickle the finished text, for worker processes; the default would pass it to `__init__` as the problem."""
        return _unpickle, (type(self), str(self), self.__dict__)


class UnreadableError(UserError):
    """A sample that cannot be read while others can: a recipe may tolerate some of them (`data.bad_samples`)."""


def _unpickle(kind: type[UserError], text: str, state: dict[str, Any]) -> UserError:
    error = kind.__new__(kind, text)
    error.__dict__.update(state)
    return error


RENAMED = {
    "--beside": "--compare",
    "--lowest-score": "--score-threshold",
    "--over": "--sweep",
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
"""Former names of recipe keys, plug-ins and command-line options, with the names that replaced them."""

MOVED = {
    "color_jitter": "{name: color_jitter, strength: 0.4}",
    "crop": "{name: crop, kind: random, scale: [0.2, 1.0]}",
    "erasing": "{name: erasing, share: 0.25}",
    "flip": "flip",
    "gain_jitter": "{name: gain, share: 0.2}",
    "gain_jitter_db": "{name: gain, db: 3}",
    "mirror_azimuth": "{name: mirror, axis: azimuth}",
    "mirror_doppler": "{name: mirror, axis: doppler}",
    "noise_re_mean_db": "{name: noise, snr_db: 20}",
    "noise_re_median_db": "{name: noise, snr_db: 20, reference: median}",
    "noise_snr_db": "{name: noise, snr_db: 20}",
    "randaugment": "{name: rand_augment, config: rand-m9-mstd0.5-inc1}",
    "scale": "{name: crop, kind: random, scale: [0.2, 1.0]}",
    "shift": "{name: shift, bins: [8, 8]}",
    "shift_s": "{name: time_shift, seconds: 0.3}",
    "sign_flip": "polarity",
    "time_stretch": "{name: time_stretch, share: 0.1}",
    "wander_std": "{name: baseline_wander, std: 1.0}",
}
"""Former options of adapters that are augmentations now, with an entry of a recipe's `augment` list for each."""


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant by `name`: the one that replaced it (`RENAMED`), or the closest spelling.

    Returns:
        One of the candidates, or None where none is close.
    """
    names = list(candidates)
    if (renamed := RENAMED.get(name)) in names:
        return renamed
    matches = get_close_matches(name, names, n=1, cutoff=0.6) or get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return matches[0] if matches else None


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A hint with the candidate that was probably meant by `name`; see `closest`.

    Returns:
        One sentence, or an empty string where no candidate is close.
    """
    if name in MOVED:
        return f"It is an augmentation now; in the recipe: `augment: [{MOVED[name]}]`."
    match = closest(name, candidates)
    if match is None:
        return ""
    return f"It is now called {match!r}." if RENAMED.get(name) == match else f"Did you mean {match!r}?"
