"""Verdict on a run: whether it is better than predictors without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Verdict(NamedTuple):
    """A sentence, and whether the result is good; None if there was nothing to compare with."""

    text: str
    good: bool | None = None


def pretraining_verdict(rows: Sequence[Mapping[str, Any]], average: str = "the mean patch") -> Verdict:
    """Compare the loss with predictors without training.

    Args:
        rows: logged metrics.
        average: name of the predictor of the target's mean.
    """
    measured = [row for row in rows if row["kind"] == "validation"] or [
        row for row in rows if "loss_mean_patch" in row or "partner_rank" in row
    ]
    if not measured:
        return Verdict("Nothing was measured yet.")
    last = measured[-1]
    names = {"loss_mean_patch": average, "loss_interpolation": "interpolation from visible patches"}
    trivial = {label: last[name] for name, label in names.items() if name in last}
    joint = _joint_sentences(last)
    if not trivial:
        return Verdict(joint.strip() or f"The loss is {last['loss']:.3f}; there is nothing to compare it with.")
    is_better = last["loss"] < min(trivial.values())
    others = ", ".join(f"{label} {value:.3f}" for label, value in trivial.items())
    where = (
        "on the validation split"
        if last["kind"] == "validation"
        else "on a training batch (there is no validation split)"
    )
    verb = "is below" if is_better else "is NOT below"
    return Verdict(
        f"The loss of {last['loss']:.3f} {where} {verb} that of the trivial predictors ({others}).{joint}", is_better
    )


def _joint_sentences(row: Mapping[str, Any]) -> str:
    """Describe the metrics that exist only for pretraining on several signals."""
    text = ""
    if losses := {name.removeprefix("together_"): row[name] for name in row if name.startswith("together_")}:
        listed = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        text += f" With all signals seen the loss of each is: {listed}."
    if "partner_rank" in row:
        text += (
            f" The other signal of the same moment is likelier than {1 - row['partner_rank']:.0%} of those of other moments (chance: 50%), and "
            f"the likeliest of all for {row['partner_first']:.1%}."
        )
    return text
