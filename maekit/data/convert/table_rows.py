"""The rows of a text table that are whole: torn lines, repeated heads and what stands below the last row are left out or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maekit.data.convert.cells import is_number
from maekit.data.convert.table_layout import COMMENT_MARKS
from maekit.data.convert.text_lines import count_cells, lines, split_cells
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.data.convert.table_layout import Layout, TableOptions

TEXT_BETWEEN = "Text between rows of numbers: another table or recording in one file? Split it there."


def sound_rows(content: bytes, layout: Layout, location: str, options: TableOptions) -> tuple[bytes, int, list[str]]:
    """The text without the lines that the options leave out, the number of its rows, and what was found.

    Raises:
        UserError: a row of another length, which pandas would fill with missing values, or NUL bytes, with the line.
    """
    width, number, end = len(layout.names), layout.first, end_of_text(content, b" \n")
    comment = options.comment.encode() if options.comment else None
    footer = _footer(content, layout.delimiter)
    torn_end = options.torn is not None and not content.endswith(b"\n")
    every = b"\0" in content or comment is not None or torn_end
    heads = _repeated_heads(content, layout)
    left_out: list[tuple[int, int]] = []
    rows = 0
    torn: list[int] = []
    first_torn: UserError | None = None
    for block in count_cells(content, layout.delimiter, layout.offset):
        doubtful = every | (block.cells != width) | (block.starts >= footer) | np.isin(block.starts, heads)
        for row in np.flatnonzero(doubtful & (block.cells > 0)).tolist():
            start, stop = int(block.starts[row]), int(block.stops[row])
            line, last = content[start:stop], stop >= end
            beside = start >= footer or (comment and line.lstrip().startswith(comment))
            if start in heads and not beside and options.torn != "any":
                raise _repeated_head(location, number + row + 1, line)
            if beside or start in heads:
                left_out.append((start, stop))
                continue
            cut = b"\0" in line or block.cells[row] < width or (last and torn_end)
            if not cut and block.cells[row] == width:
                continue
            error = _unsound(content, location, number + row + 1, line, int(block.cells[row]), layout, last, options)
            if not (cut and (options.torn == "any" or (options.torn == "last" and last))):
                raise error
            first_torn = first_torn or error
            left_out.append((start, stop))
            torn.append(number + row + 1)
        number, rows = number + len(block.cells), rows + int(np.count_nonzero(block.cells))
    if first_torn is not None and 2 * len(torn) > rows > 2:
        raise first_torn  # the table is another one than was found
    if rows == len(left_out) and not options.may_be_empty:
        raise UserError("no rows that are whole", location=location, expected="rows of numbers")
    findings = []
    if heads:
        findings = [
            f"{len(heads)} line{'s' * (len(heads) > 1)} of the head, again between the rows, left out of {location}"
        ]
    if torn:
        shown = ", ".join(map(str, torn[:5])) + (" ..." if len(torn) > 5 else "")
        findings += [f"{len(torn)} torn line{'s' * (len(torn) > 1)} left out of {location}: line {shown}"]
    return _without(content, left_out), rows - len(left_out), findings


def _repeated_heads(content: bytes, layout: Layout) -> list[int]:
    """Offsets of lines below the first row that are one of those above it, as of a logger that started again."""
    offsets = []
    for head in {line for line in content[: layout.offset].split(b"\n") if line.strip()}:
        if any(
            is_number(cell, layout.decimal) for cell in split_cells(head.decode(errors="replace"), layout.delimiter)
        ):
            continue
        at = content.find(b"\n" + head + b"\n", layout.offset - 1)
        while at >= 0:
            offsets.append(at + 1)
            at = content.find(b"\n" + head + b"\n", at + 1)
    return sorted(offsets)


def _repeated_head(location: str, number: int, line: bytes) -> UserError:
    return UserError(
        "a line from above the table again between its rows",
        location=f"{location}:{number}",
        value=line[:60].decode(errors="replace"),
        expected="rows of numbers",
        hint="A logger that started again? State `torn: skip`, with `time`, to leave out such lines. If another recording begins there, split "
        "the file.",
    )


def _footer(content: bytes, delimiter: str) -> int:
    """Offset of the comment lines and of the lines of delimiters alone below the last row."""
    end = end_of_text(content, b" \n")
    marks = tuple(mark.encode() for mark in COMMENT_MARKS)
    blanks = b' \t"' + (delimiter.encode() if len(delimiter) == 1 else b"")
    while end:
        start = content.rfind(b"\n", 0, end) + 1
        line = content[start:end]
        if not line.lstrip().startswith(marks) and line.strip(blanks):
            break
        end = end_of_text(content[:start], b" \n")
    return end


def end_of_text(content: bytes, blanks: bytes) -> int:
    """Length without blanks at the end."""
    end = len(content)
    while end and content[end - 1] in blanks:
        end -= 1
    return end


def _without(content: bytes, spans: list[tuple[int, int]]) -> bytes:
    """Bytes without some spans; the newlines after them stay, so that line numbers do."""
    if not spans:
        return content
    kept, start = [], 0
    for first, last in spans:
        kept.append(content[start:first])
        start = last
    return b"".join([*kept, content[start:]])


def _unsound(
    content: bytes,
    location: str,
    number: int,
    line: bytes,
    cells: int,
    layout: Layout,
    last: bool,
    options: TableOptions,
) -> UserError:
    """The error for a line that is no row of the table."""
    width = len(layout.names)
    where, skip = f"{location}:{number}", "State `torn: skip` to leave it out."
    if b"\0" in line:
        problem = "NUL bytes, as in a file whose end was never written" if last else "NUL bytes in a row"
        count = content.count(b"\0")
        hint = skip if last else "State `torn: skip`, with `time`, to leave out such lines."
        return UserError(problem, location=where, value=f"{count} of {len(content)} bytes", expected="text", hint=hint)
    if last and cells < width:
        return UserError(
            "a torn last line",
            location=where,
            value=line[:40].decode(errors="replace"),
            expected=f"{width} cells, as the first row has",
            hint=f"The file was cut off while it was written, it seems. {skip}",
        )
    hint = "Give `delimiter` if it was taken for another one."
    text = next(lines(line), (0, ""))[1]
    if not any(is_number(cell, options.decimal) for cell in split_cells(text, layout.delimiter) if cell):
        hint = TEXT_BETWEEN
    mark = line.lstrip()[:1].decode(errors="replace")
    if mark in ("#", "%", ";", "/"):
        hint = f'State `comment: "{mark}"` to leave out such lines.'
    elif cells < width and options.torn == "last":
        hint = "Lines that are torn between others are left out with `time`, by which what follows keeps its place; correct the file otherwise."
    elif cells < width:
        hint += " A torn line, or a message of the device? State `torn: skip`, with `time`, to leave out such lines."
    return UserError(
        "a row of another length",
        location=where,
        value=f"{cells} cells: {text[:60]}",
        expected=f"{width}, as the first row has",
        hint=hint,
    )
