"""Which published file holds which stream of which recording, found from names alone."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from maekit.data.convert import readers
from maekit.data.convert.archive import open_zip, read_member
from maekit.data.convert.table_layout import TableOptions
from maekit.errors import UserError

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

    from maekit.config.conversion import Conversion, Stream
    from maekit.data.convert.content import FileContent

FRAME = "frame"
"""The group of `Conversion.record` that numbers files of one frame each, and the dataset of frame numbers."""


class LastFile:
    """Keeps the content of the file that was read last, since several streams may come from one file."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._content: FileContent | None = None

    def read(self, key: tuple[Any, ...], read: Callable[[], FileContent]) -> FileContent:
        """The result of `read`, which is not called again if `key` is the last one."""
        if self._content is None or key != self._key:
            self._key, self._content = None, None  # before reading, so that two large files are never in memory at once
            self._content = read()
            self._key = key
        return self._content


@dataclass(frozen=True)
class SourceFile:
    """A file or zip member that holds a stream of a recording, of one of its frames, or of several recordings.

    Args:
        location: shown in error messages.
        path: below the source folder, or inside the zip file.
        read: reads it.
        attributes: of its recording.
    """

    location: str
    path: str
    read: Callable[[], FileContent]
    attributes: dict[str, Any]


@dataclass
class Files:
    """The files of one stream of a recording: those of the whole recording, and those of its frames by number."""

    whole: list[SourceFile] = field(default_factory=list)
    frames: dict[int, list[SourceFile]] = field(default_factory=dict)

    def all(self) -> Iterator[SourceFile]:
        """Every file."""
        yield from self.whole
        for sources in self.frames.values():
            yield from sources


Index = dict[str, dict[str, Files]]
"""Files by recording and stream."""


class _Match(NamedTuple):
    """What `Conversion.record` finds in a path."""

    record: str
    frame: int | None
    attributes: dict[str, str]


def index_files(rules: Conversion, source: Path, archives: ExitStack) -> Index:
    """Find the files of every recording.

    Args:
        rules: the `convert` section.
        source: folder of the published files.
        archives: keeps zip files open until they have been read.

    Raises:
        UserError: no file matches, a path does not match `record`, two files claim one stream of a recording, or a
            recording lacks a stream.
    """
    index: Index = {}
    last = LastFile()
    for stream, rule in rules.streams.items():
        for path, location, read in _find_files(rule, source, archives, last):
            match = _match(rules.record, path, location)
            files = index.setdefault(match.record, {}).setdefault(stream, Files())
            siblings = files.whole if match.frame is None else files.frames.setdefault(match.frame, [])
            if siblings and not rule.several:
                of = f"the recording {match.record!r}" + (f", frame {match.frame}" if match.frame is not None else "")
                raise UserError(
                    f"two files for {stream!r} of {of}",
                    location=location,
                    value=siblings[0].location,
                    expected="one",
                    hint="Let the group `record` of `convert.record` include what tells them apart; "
                    "`several: true` where they belong together.",
                )
            siblings.append(SourceFile(location, path, read, match.attributes))
    if not index:
        raise UserError(
            "no source file matches",
            location=str(source),
            value=[stream.files for stream in rules.streams.values()],
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
                    hint="Set `optional: true` on that stream if this is so. A table with a row for each recording is joined by "
                    "`table` in `convert`, not by a stream.",
                )
    return index


def _match(pattern: str, path: str, location: str) -> _Match:
    match = re.search(pattern, path)
    if match is None:
        raise UserError(
            "a file that the pattern of recordings does not match",
            location=location,
            value=path,
            expected=f"a path that holds {pattern!r}",
            hint="Change `convert.record`, or narrow `files` if it is none of the recordings.",
        )
    named = {key: value for key, value in match.groupdict().items() if value is not None}
    frame = named.pop(FRAME, None)
    parts = [named.pop(key) for key in list(named) if key.startswith("record")]
    record = ("_".join(parts) or match.group(0)).replace("/", "_")
    if record in ("", "."):
        raise UserError(
            "the pattern of recordings gives a name that no recording can have",
            location=location,
            value=record,
            expected=f"a part of {path!r} that names the recording, from {pattern!r}",
            hint="Let the group `record` of `convert.record` match at least one letter or digit, as "
            "'(?P<record>[^/]+)[.]' does.",
        )
    return _Match(record, None if frame is None else _frame_number(frame, location), named)


def _frame_number(text: str, location: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(
            "not the number of a frame",
            location=location,
            value=text,
            expected="digits, for the group `frame` of `convert.record`",
        ) from None


def _find_files(
    rule: Stream, source: Path, archives: ExitStack, last: LastFile
) -> Iterator[tuple[str, str, Callable[[], FileContent]]]:
    """(path that `record` must match, location for messages, function that reads) for every file or zip member."""
    options = _table_options(rule)
    # Like in a shell, `*` does not match hidden files, which are leftovers of other programs.
    paths = (path for path in source.glob(rule.files) if path.is_file() and not path.name.startswith("."))
    for path in sorted(paths):
        if rule.member is None:
            read = partial(readers.read, path, rule.format, options)
            yield path.relative_to(source).as_posix(), str(path), partial(last.read, (path, rule.format, options), read)
            continue
        archive = archives.enter_context(open_zip(path))
        for name in fnmatch.filter(archive.namelist(), rule.member):
            if not name.endswith("/") and not _is_hidden(name):
                location = f"{path}!{name}"
                kind = rule.format or readers.kind_of(name, location)
                yield name, location, partial(_read_member, archive, name, location, kind, options)


def _is_hidden(member: str) -> bool:
    """Whether a member is a leftover of another program: a hidden file, or what macOS adds to archives."""
    return member.startswith("__MACOSX/") or any(part.startswith(".") for part in member.split("/"))


def _table_options(rule: Stream) -> TableOptions:
    torn: Literal["last", "any"] = "last" if rule.time is None else "any"  # without stamps, what follows would move
    return TableOptions(
        rule.delimiter,
        rule.decimal,
        rule.header,
        rule.encoding,
        rule.skip,
        rule.comment,
        None if rule.torn == "refuse" else torn,
        tuple(rule.first_rows),
        may_be_empty=rule.labels in ("events", "spans"),
    )


def _read_member(archive: zipfile.ZipFile, name: str, location: str, kind: str, options: TableOptions) -> FileContent:
    return readers.parse(read_member(archive, name), location, kind, options)
