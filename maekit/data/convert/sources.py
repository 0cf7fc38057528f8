"""Which published file holds what of which recording, as the `convert` section of a data spec says."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from maekit.data.convert import readers
from maekit.errors import UserError

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from maekit.config.conversion import Conversion, Stream

FRAME = "frame"
"""The group of `Conversion.record` that numbers files which hold a frame each."""


class Latest:
    """The content of the file that was read last: several streams may be made of one file."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._content: readers.Content | None = None

    def read(self, key: tuple[Any, ...], read: Callable[[], readers.Content]) -> readers.Content:
        """What `read` gives, unless `key` was the last one asked for."""
        if self._content is None or key != self._key:
            self._key, self._content = None, None  # before reading: two large files need not be in memory at once
            self._content = read()
            self._key = key
        return self._content


@dataclass(frozen=True)
class Source:
    """A file (or zip member) that holds one stream of a recording or of one of its frames, or streams of several."""

    location: str
    read: Callable[[], readers.Content]
    attributes: dict[str, str]


@dataclass
class Files:
    """The files of one stream of a recording: of the whole of it, and of its frames by number."""

    whole: list[Source] = field(default_factory=list)
    frames: dict[int, list[Source]] = field(default_factory=dict)

    def all(self) -> Iterator[Source]:
        """Every one of them."""
        yield from self.whole
        for sources in self.frames.values():
            yield from sources


Index = dict[str, dict[str, Files]]
"""Files by recording and stream."""


def index_of(rules: Conversion, source: Path, archives: ExitStack) -> Index:
    """Which file holds which stream, by recording; nothing but names is looked at.

    Raises:
        UserError: no file, one that is no recording's, two for one place, or a recording without one of its streams.
    """
    index: Index = {}
    latest = Latest()
    for stream, rule in rules.streams.items():
        for path, location, read in _files(rule, source, archives, latest):
            found = re.search(rules.record, path)
            if found is None:
                raise UserError(
                    "a file that the pattern of recordings does not match",
                    location=location,
                    value=path,
                    expected=f"a path that holds {rules.record!r}",
                    hint="Change `convert.record`, or narrow `files` if it is none of the recordings.",
                )
            named = {key: value for key, value in found.groupdict().items() if value is not None}
            number = named.pop(FRAME, None)
            parts = [named.pop(key) for key in list(named) if key.startswith("record")]
            record = ("_".join(parts) or found.group(0)).replace("/", "_")
            files = index.setdefault(record, {}).setdefault(stream, Files())
            there = files.whole if number is None else files.frames.setdefault(_number(number, location), [])
            if there and not rule.several:
                of = f"the recording {record!r}" + (f", frame {number}" if number else "")
                raise UserError(
                    f"two files for {stream!r} of {of}",
                    location=location,
                    value=there[0].location,
                    expected="one",
                    hint="Let the group `record` of `convert.record` take in what tells them apart; "
                    "`several: true` where they belong together.",
                )
            there.append(Source(location, read, named))
    if not index:
        raise UserError(
            "no source file matches",
            location=str(source),
            value=[s.files for s in rules.streams.values()],
            expected="the published files",
            hint="Is this the right folder?",
        )
    for record, streams in index.items():
        for stream, rule in rules.streams.items():
            if stream not in streams and not rule.optional:
                raise UserError(
                    "a recording without one of its streams",
                    location=str(source),
                    value=record,
                    expected=stream,
                    hint="Set `optional: true` on that stream if this is so.",
                )
    return index


def _number(text: str, location: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(
            "not the number of a frame",
            location=location,
            value=text,
            expected="digits, for the group `frame` of `convert.record`",
        ) from None


def _files(
    rule: Stream, source: Path, archives: ExitStack, latest: Latest
) -> Iterator[tuple[str, str, Callable[[], readers.Content]]]:
    """(path for the pattern, place for messages, reading) of every file or zip member of a stream."""
    options: dict[str, Any] = {"delimiter": rule.delimiter, "decimal": rule.decimal}
    # `*` of a glob does not take in hidden files in a shell, nor here: other programs' leftovers are no data.
    paths = (path for path in source.glob(rule.files) if path.is_file() and not path.name.startswith("."))
    for path in sorted(paths):
        if rule.member is None:
            key = (path, rule.format, rule.delimiter, rule.decimal)
            read = partial(readers.read, path, rule.format, **options)
            yield path.relative_to(source).as_posix(), str(path), partial(latest.read, key, read)
            continue
        archive = archives.enter_context(readers.open_zip(path))
        for name in fnmatch.filter(archive.namelist(), rule.member):
            if not name.endswith("/"):
                location = f"{path}!{name}"
                kind = rule.format or readers.kind_of(name, location)
                yield name, location, partial(_read_member, archive, name, location, kind, options)


def _read_member(
    archive: zipfile.ZipFile, name: str, location: str, kind: str, options: dict[str, Any]
) -> readers.Content:
    return readers.parse(readers.read_member(archive, name), location, kind, **options)
