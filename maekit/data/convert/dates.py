"""Dates and times of day as text, to whole nanoseconds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Zero = Literal["utc", "local", "midnight", "number", "row"]
"""What a clock counts from: 1970 in UTC or in an unknown zone, midnight, an arbitrary moment, or the first row of a recording."""

_YEAR_FIRST = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T _]\d{1,2}:\d{2}.*)?|\d{8}T\d{4,6}.*")
_DAY_OR_MONTH_FIRST = re.compile(
    r"(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4}|\d{2})(?:(,? |T)(\d{1,2}:\d{2})(:\d{2})?([.,]\d+)?( ?[AaPp][Mm])?)?"
)
_TIME_OF_DAY = re.compile(r"\d{1,3}:\d{2}:\d{2}([.,]\d+)?|\d{1,4}:\d{2}[.,]\d+")
_DURATION = re.compile(
    r"[-+]?\d+ days?,?( [-+]?\d{1,2}:\d{2}:\d{2}([.]\d+)?)?|\d+([.]\d+)? ?(s|secs?|seconds?|ms|us|µs|ns|min|minutes?|h|hr|hours?)"
)
_ELAPSED = re.compile(r"(%H:)?%M:%S([.]%f)?|%H:%M")
"""Formats of times of day that also tell times of more than a day or an hour."""
_TWELVE_HOURS = re.compile(r"\d{1,2}:\d{2}(:\d{2})?([.]\d+)? ?[AaPp][Mm]")
_ZONE = r"[T _]\d{1,2}[\d:.,]* ?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
_MONTH_NAMES = (
    "%d-%b-%Y %H:%M:%S.%f",
    "%d-%b-%Y %H:%M:%S",
    "%d %b %Y %H:%M:%S.%f",
    "%d %b %Y %H:%M:%S",
    "%d-%b-%Y %H:%M",
    "%b %d %Y %H:%M:%S",
    "%b %d, %Y %H:%M:%S",
    "%d %B %Y %H:%M:%S",
    "%a %b %d %H:%M:%S %Y",
)
_YEAR_FIRST_FORMATS = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")


class Dates(NamedTuple):
    """Times in nanoseconds since `zero`."""

    nanoseconds: NDArray[np.int64]
    zero: Zero


def parse_dates(
    cells: Sequence[str], time_format: str | None, locate: Callable[[int], str], zone: str | None = None
) -> Dates:
    """Read ISO 8601 dates, dates with a month's name, times of day, or dates of a stated format.

    Args:
        cells: text, one a row.
        time_format: as of `strptime`; None for forms that can be read in one way only.
        locate: place of a row, for error messages.
        zone: of dates that have none, by name or as +02:00.

    Raises:
        UserError: a blank cell, text in no such form, or one that could be read in two ways, such as 01/02/2020.
    """
    from pandas import Series

    texts = Series(cells, dtype=object).str.strip().str.strip("\"'[]")
    blank = (texts == "").to_numpy()
    if blank.any():
        raise UserError(
            "a time stamp is missing",
            location=locate(int(np.argmax(blank))),
            expected="a time in every row",
            hint="If the device's clock is steady and no row was left out, leave `time` out and state `rate_hz`.",
        )
    dates = _parse_texts(texts, time_format, locate)
    return dates if zone is None else _in_zone(dates, zone, locate)


def _parse_texts(texts: Any, time_format: str | None, locate: Callable[[int], str]) -> Dates:
    if time_format is not None:
        return _of_format(texts, time_format, locate)
    first = str(texts.iloc[0])
    if _YEAR_FIRST.fullmatch(first):
        return _year_first(texts, locate)
    if _TIME_OF_DAY.fullmatch(first):
        whole = texts.str.replace(",", ".", regex=False)
        return Dates(_durations("0:" + whole if first.count(":") == 1 else whole, locate), "midnight")
    if _DURATION.fullmatch(first):
        return Dates(_durations(texts.str.replace(",", "", regex=False), locate), "number")
    if _TWELVE_HOURS.fullmatch(first):
        seconds = ":%S" * (first.count(":") == 2)
        fraction = ".%f" * ("." in first)
        return _of_format(texts, f"%I:%M{seconds}{fraction}{' ' * (' ' in first)}%p", locate)
    if match := _DAY_OR_MONTH_FIRST.fullmatch(first):
        longest = _DAY_OR_MONTH_FIRST.fullmatch(str(texts[texts.str.len().idxmax()])) or match
        raise _ambiguous(match, longest, locate(0))
    for pattern in _MONTH_NAMES:
        times = _parse(texts, pattern, utc=False)
        if not np.isnat(times).any():
            return Dates(times.astype(np.int64), "local")
    raise UserError(
        "a time stamp that is neither a number nor a date in a known form",
        location=locate(0),
        value=first,
        expected="a number, 2016-11-24 13:58:58.081 with or without a zone, or 13:58:58.081",
        hint='State `time_format: "%H:%M"` or `time_format: "%M:%S"` in the stream.'
        if re.fullmatch(r"\d{1,2}:\d{2}", first)
        else 'State its form as of strptime, such as `time_format: "%Y%m%d-%H%M%S.%f"`.',
    )


def _year_first(texts: Any, locate: Callable[[int], str]) -> Dates:
    """ISO 8601 and its relatives with slashes, dots, or a decimal comma."""
    zoned = texts.str.contains(_ZONE, regex=True).to_numpy(dtype=bool)
    if zoned.any() != zoned.all():
        row = int(np.argmax(zoned != zoned[0]))
        raise UserError(
            "time stamps with and without a time zone in one column",
            location=locate(row),
            value=str(texts.iloc[row]),
            expected=f"{'a' if zoned[0] else 'no'} zone, as in the first row",
        )
    plain = texts.str.replace(r"(?<=\d) ?(UTC|GMT)$", "Z", regex=True).str.replace(",", ".", regex=False)
    plain = plain.str.replace(r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})", r"\1-\2-\3", regex=True)
    plain = plain.str.replace(r"^([\d-]+)_", r"\1 ", regex=True)
    times = _parse(plain, "ISO8601", utc=True)
    for pattern in _YEAR_FIRST_FORMATS:
        if np.isnat(times).any():
            other = _parse(plain, pattern, utc=True)
            times = np.where(np.isnat(times), other, times)
    _check_all(times, texts, "a date and time as in the first row", locate)
    return Dates(times.astype(np.int64), "utc" if zoned.all() else "local")


def _of_format(texts: Any, time_format: str, locate: Callable[[int], str]) -> Dates:
    zoned = "%z" in time_format or "%Z" in time_format
    try:
        times = _parse(texts, time_format, utc=zoned)
        if np.isnat(times).any():  # programs leave out a fraction of 0
            without = re.sub(r"[.,]%f", "", time_format)
            other = without if without != time_format else time_format.replace("%S", "%S.%f")
            times = np.where(np.isnat(times), _parse(texts, other, utc=zoned), times)
        if np.isnat(times).any() and _ELAPSED.fullmatch(time_format):  # past 59 minutes or 23 hours
            whole = texts + ":00" if time_format == "%H:%M" else texts if "%H" in time_format else "0:" + texts
            return Dates(_durations(whole, locate), "midnight")
    except (ValueError, re.error) as error:
        raise UserError(
            f"not a format of times ({str(error).splitlines()[0]})",
            location="convert.streams: time_format",
            value=time_format,
            expected="a format of strptime, such as %d/%m/%Y %H:%M:%S.%f",
        ) from None
    _check_all(times, texts, f"text of the form `time_format: {time_format}`", locate)
    if not re.search(r"%[YyGdjxcDF]", time_format):
        return Dates(times.astype(np.int64) % (86_400 * 10**9), "midnight")
    return Dates(times.astype(np.int64), "utc" if zoned else "local")


def _parse(texts: Any, pattern: str, *, utc: bool) -> NDArray[np.datetime64]:
    """(rows,) datetime64[ns], NaT where the text is not of the pattern or outside the years 1678 to 2261."""
    import pandas

    times = pandas.to_datetime(texts, format=pattern, errors="coerce", utc=utc)
    return np.asarray(times.dt.tz_localize(None) if utc else times).astype("datetime64[ns]")


def _durations(texts: Any, locate: Callable[[int], str]) -> NDArray[np.int64]:
    import pandas

    times = np.asarray(pandas.to_timedelta(texts, errors="coerce")).astype("timedelta64[ns]")
    _check_all(times, texts, "a time of day as in the first row", locate)
    return times.astype(np.int64)


def _check_all(times: NDArray[Any], texts: Any, expected: str, locate: Callable[[int], str]) -> None:
    wrong = np.isnat(times)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            "a time stamp in another form",
            location=locate(row),
            value=str(texts.iloc[row]),
            expected=expected,
            hint="State `time_format` if all rows have one form that is not recognised; correct the cell otherwise.",
        )


def _in_zone(dates: Dates, zone: str, locate: Callable[[int], str]) -> Dates:
    """Local dates as moments in UTC.

    Raises:
        UserError: they are no local dates, there is no such zone, or the clock stood at this time twice or never.
    """
    from pandas import Series

    if dates.zero != "local":
        raise UserError(
            "a `time_zone` of stamps that are no dates without a zone",
            location=locate(0),
            value=zone,
            hint="Leave it out.",
        )
    local = Series(dates.nanoseconds.astype("datetime64[ns]")).dt
    try:
        moments = local.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC").dt.tz_localize(None)
    except (KeyError, ValueError, OSError):
        raise UserError(
            "no such time zone",
            location="convert.streams: time_zone",
            value=zone,
            expected="a name such as Europe/Paris, or +02:00",
        ) from None
    times = np.asarray(moments).astype("datetime64[ns]")
    if (wrong := np.isnat(times)).any():
        raise UserError(
            "a time that a clock in this zone shows twice or never",
            location=locate(int(np.argmax(wrong))),
            value=str(dates.nanoseconds[wrong].astype("datetime64[ns]")[0]),
            expected="a time outside of the change to or from summer time",
            hint='State the zone as hours from UTC, such as `time_zone: "+02:00"`.',
        )
    return Dates(times.astype(np.int64), "utc")


def _ambiguous(match: re.Match[str], longest: re.Match[str], location: str) -> UserError:
    """The error for a date of which day and month cannot be told apart, with the formats to choose from."""
    first, separator, second, year = match.groups()[:4]
    gap, minutes, seconds, fraction, half = longest.groups()[4:]
    time = ""
    if minutes:
        time = f"{gap}{'%I' if half else '%H'}:%M" + ":%S" * bool(seconds) + (f"{fraction[0]}%f" if fraction else "")
        time += f"{' ' * half.startswith(' ')}%p" if half else ""
    forms = [
        separator.join((*order, "%Y" if len(year) == 4 else "%y")) + time
        for order, month in ((("%d", "%m"), second), (("%m", "%d"), first))
        if int(month) <= 12
    ]
    return UserError(
        "a date whose day and month could be exchanged",
        location=location,
        value=match.group(0),
        expected="the year first, or a stated format",
        hint="State " + " or ".join(f'`time_format: "{form}"`' for form in forms) + " in the stream.",
    )
