# SPDX-License-Identifier: LGPL-2.1-or-later
"""What people and programs get to read: pure functions from values to text."""

import json
from collections.abc import Sequence
from typing import Any

from xlmt.model import Listing, Row, State, Thread

SCHEMA = 1

_MEANING = {
    State.MISSING: "has no node: xlmt repair",
    State.TRANSITION: "being created or destroyed",
    State.LINGERING: "gone, the kernel still holds",
    State.ORPHAN: "gone, its node is left over: xlmt reconcile",
    State.UNPROTECTED: "gone, without a node; the kernel still holds",
}


def list_json(listing: Listing) -> str:
    """Return the document of `xlmt list -o json`."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "domains": [_row_json(row) for row in listing.rows],
        "foreign": list(listing.foreign),
        "problems": list(listing.problems),
    }
    return json.dumps(document, indent=2)


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "domid": row.domid,
        "name": row.name,
        "uuid": row.uuid,
        "hypervisor": row.hypervisor,
        "xenstore": row.xenstore,
        "node": row.node,
        "state": row.state,
        "backends": None if row.backends is None else list(row.backends),
        "thread": _thread_json(row.thread),
    }


def _thread_json(thread: Thread | None) -> dict[str, Any] | None:
    if thread is None:
        return None
    return {"name": thread.name, "pid": thread.pid, "state": thread.state}


def list_table(listing: Listing) -> str:
    """Return the table of `xlmt list`, without a final newline; names are made printable."""
    head = ("DOMID", "NAME", "STATE", "NODE", "THREAD", "")
    lines = _aligned([head, *map(_cells, listing.rows)])
    lines += [f"foreign  {printable(name)}  no domid; left alone" for name in listing.foreign]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    thread = f"{row.thread.state} {row.thread.pid}" if row.thread else "-"
    return (
        str(row.domid),
        printable(row.name) if row.name else "-",
        _state(row),
        {True: "yes", False: "no", None: "?"}[row.node],
        thread,
        _meaning(row),
    )


def _state(row: Row) -> str:
    if row.state:
        return row.state
    read = None not in (row.hypervisor, row.xenstore, row.node, row.backends)
    return "dying" if read else "unknown"


def _meaning(row: Row) -> str:
    match row.state:
        case None:
            return {"unknown": "not everything could be read"}.get(_state(row), "")
        case State.MISSING:
            return f"{_MEANING[row.state]} {row.domid}"
        case State.LINGERING | State.UNPROTECTED:
            return " ".join([_MEANING[row.state], *map(printable, row.backends or ())])
        case _:
            return _MEANING.get(row.state, "")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def printable(name: str, longest: int = 60) -> str:
    """Return a name that no terminal can mistake for a command to itself, and not too long."""
    safe = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)
    return safe if len(safe) <= longest else safe[: longest - 1] + "…"
