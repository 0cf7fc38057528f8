"""Names, rate and resolution that programs write into the comments above a table.

Known forms: a JSON object with a list of columns and a sampling rate, for one or several devices (OpenSignals), `Labels:= a, b` with
`Sampling Rate (Hz):= 1000` (BioSPPy), `Sample Rate = 250 Hz` (OpenBCI), or names alone in the last comment (numpy.savetxt).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.data.convert.text_lines import split_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MARKS = "#%;/*! \t"
_NAMES = re.compile(r"(?:labels?|columns?|names|channels?|fields|header)\s*(?::=|[:=])\s*(.+)", re.IGNORECASE)
_RATE = re.compile(
    r"(?:sampl\w*[ _-]?(?:rate|freq\w*)|\bfs\b)\s*(?:[\[(]\s*(?P<before>[kM]?Hz)\s*[\])])?\s*(?::=|[:=])?\s*"
    r"(?P<rate>\d+(?:[.]\d*)?(?:e[+-]?\d+)?)(?![\d-])(?![.,]\d)\s*(?P<after>[^\s,;)\]]*)",
    re.IGNORECASE,
)
_HERTZ = {"khz": 1000, "mhz": 10**6, "hz": 1, "": 1}
_OTHER_UNIT = re.compile(r".*(?:/|hz$|min|hour|sec).*|[munµ]?s|h|d")
"""What follows a number that is a period, or a rate in another unit than hertz."""
_JSON_NAMES = ("column", "columns", "names", "labels", "fields", "channels")
_JSON_RATE = re.compile(r"(?:sampl\w*[ _-]?(?:rate|freq\w*)|fs|rate_hz)", re.IGNORECASE)


@dataclass(frozen=True)
class CommentHead:
    """What comments say about the table below them.

    Args:
        names: of the columns, empty for one that has none; an empty list if comments name none.
        rate_hz: sampling rate; None if there is none, or several.
        resolution_bits: of the columns by name.
    """

    names: list[str] = field(default_factory=list)
    rate_hz: float | None = None
    resolution_bits: Mapping[str, int] = field(default_factory=dict)


def read_comments(comments: Sequence[str], delimiter: str, rows: Sequence[Sequence[str]]) -> CommentHead:
    """Read the comments above a table.

    Args:
        comments: lines, with their marks.
        delimiter: between the cells of the table.
        rows: the first rows of the table.
    """
    texts = [comment.lstrip(_MARKS).strip() for comment in comments]
    devices = [device for text in texts for device in _devices(text)]
    rates = {rate for device in devices for rate in _json_rates(device)}
    rates |= {rate for text in texts if not text.startswith("{") for rate in _text_rates(text)}
    rate_hz = rates.pop() if len(rates) == 1 else None
    names, bits = _json_names(devices, rows)
    if not names:
        names = _text_names(texts, delimiter, len(rows[0]))
    return CommentHead(names, rate_hz, bits)


def _devices(text: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a comment that describe a device: the object itself, or those in it."""
    if not text.startswith("{"):
        return
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    inner = [value for value in document.values() if isinstance(value, dict)]
    yield from inner or [document]


def _json_rates(device: Mapping[str, Any]) -> Iterator[float]:
    for key, value in device.items():
        if _JSON_RATE.fullmatch(key) and isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            yield float(value)


def _text_rates(text: str) -> Iterator[float]:
    if not (match := _RATE.search(text)) or not 0 < float(match["rate"]) < np.inf:
        return
    unit = match["before"] or match["after"].rstrip(".:") or ""
    if unit.lower() in _HERTZ and not unit.startswith("mH"):
        yield float(match["rate"]) * _HERTZ[unit.lower()]
    elif not _OTHER_UNIT.fullmatch(unit.lower()):
        yield float(match["rate"])


def _json_names(
    devices: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]]
) -> tuple[list[str], Mapping[str, int]]:
    width = len(rows[0])
    for key in _JSON_NAMES:
        lists = [device[key] for device in devices if isinstance(device.get(key), list)]
        names = [str(name) for entries in lists for name in entries]
        ends_empty = len(names) == width - 1 and all(row[-1] == "" for row in rows if len(row) == width)
        if not names or not (len(names) == width or ends_empty):
            continue
        names = [f"{name}.{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
        bits = [bit for device in devices for bit in (device.get("resolution") or [])]
        whole = len(bits) == len(names) and all(type(bit) is int for bit in bits)
        return names + [""] * ends_empty, dict(zip(names, bits, strict=True)) if whole else {}
    return [], {}


def _text_names(texts: Sequence[str], delimiter: str, width: int) -> list[str]:
    candidates = [match[1] for text in texts if (match := _NAMES.fullmatch(text))][-1:]
    if texts and (width > 1 or len(texts[-1].split()) == 1):
        candidates.append(texts[-1])
    for candidate in candidates:
        for separator in (delimiter, ",", "\t"):
            row = split_cells(candidate, separator)
            if len(row) == width == len(set(row)) and all(row) and not any(map(_is_number, row)):
                return row
    return []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
