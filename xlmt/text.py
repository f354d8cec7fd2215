# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text, for people and programs: what several commands print in the same way. Pure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import category, east_asian_width

if TYPE_CHECKING:
    from xlmt.model import Doing

#: The version of all JSON documents.
SCHEMA = 1
#: A name is cut rather than the column after it, down to this.
_SHORTEST_NAME = 8


def aligned(
    rows: Sequence[Sequence[str]],
    columns: int | None = None,
    colours: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the rows as lines, cut to so many columns; the second may be cut for the others.

    `colours` are the SGR codes (ECMA-48, 8.3.117) for words of the third column.
    """
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    if columns is not None:
        too_wide = sum(widths) + 2 * (len(widths) - 1) - columns
        widths[1] = min(widths[1], max(_SHORTEST_NAME, widths[1] - max(too_wide, 0)))
    return [_line(row, widths, columns, colours or {}) for row in rows]


def _line(
    cells: Sequence[str],
    widths: Sequence[int],
    columns: int | None,
    colours: Mapping[str, str],
) -> str:
    padded = [_padded(cut(cell, w), w) for cell, w in zip(cells, widths, strict=True)]
    line = cut("  ".join(padded).rstrip(), columns)
    start, state = len(padded[0]) + len(padded[1]) + 4, cells[2]
    if state in colours and line.startswith(state, start):
        end = start + len(state)
        line = f"{line[:start]}\x1b[{colours[state]}m{state}\x1b[0m{line[end:]}"
    return line


def _width(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    wide = sum(east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(category(c) in {"Mn", "Me"} for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def cut(text: str, width: int | None) -> str:
    """Return the text, cut to so many columns of a terminal."""
    if width is None or _width(text) <= width:
        return text
    while _width(text) >= width and text:
        text = text[:-1]
    return text + "…"


def guest(name: str | None, domid: int) -> str:
    """Return how people call a domain: its name, if it has one, and its domid."""
    return f"{printable(name)} (domain {domid})" if name else f"domain {domid}"


def duration(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def printable(name: str, longest: int = 60) -> str:
    """Return a name that no terminal can mistake for a command to itself, and not too long."""
    safe = name if name.isprintable() else "".join(map(_visible, name))
    return safe if len(safe) <= longest else safe[: longest - 1] + "…"


def _visible(character: str) -> str:
    """Return a character as itself, or as the byte or the code point that it is."""
    if character.isprintable():
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # surrogateescape: a byte that is no UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}"


def doing_json(doing: "Doing | None") -> dict[str, Any] | None:
    """Return what a thread does, for all documents that have it."""
    if doing is None:
        return None
    return {
        "callback": doing.callback,
        "path": doing.path,
        "age_s": doing.age_s,
        "depth": doing.depth,
    }


def dumped(values: Mapping[str, Any]) -> bytes:
    """Return values as what is kept in a file: JSON, in which odd names survive."""
    import json  # noqa: PLC0415 - the shortest commands print safe text, and nothing else

    text = json.dumps({"schema": SCHEMA, **values}, ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape")
