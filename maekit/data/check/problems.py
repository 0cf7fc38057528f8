"""What `data check` finds wrong, how bad it is, and the order in which people read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Training would be wrong; it may be; a person should know. Worst first."""
_MAX_NAMES = 8


@dataclass(frozen=True)
class Problem:
    """Something wrong with a recording, or with how recordings go together.

    Attributes:
        severity: `error` where training would be wrong.
        text: what is wrong, the same for every recording that it is wrong with.
        location: the recording.
        detail: numbers of this recording.
        hint: what to do about it.
    """

    severity: Severity
    text: str
    location: str
    detail: str = ""
    hint: str = ""


def by_severity(problems: Iterable[Problem]) -> list[str]:
    """A line for each kind of problem, worst first, with the recordings that have it."""
    kinds: dict[tuple[int, str, str], list[Problem]] = {}
    for problem in problems:
        key = (SEVERITIES.index(problem.severity), problem.text, problem.hint)
        kinds.setdefault(key, []).append(problem)
    ranked = sorted(kinds.items(), key=lambda item: (item[0][0], -len(item[1])))
    return [
        f"{SEVERITIES[rank]} {text}: {_places(found)}.{f' {hint}' if hint else ''}"
        for (rank, text, hint), found in ranked
    ]


def abbreviate(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _places(problems: Sequence[Problem]) -> str:
    places = [f"{problem.location} ({problem.detail})" if problem.detail else problem.location for problem in problems]
    return abbreviate([place for place in places if place])
