# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt list`, `repair` and `reconcile` print: tables, lines, documents. Pure.

And how the supervisor says that the host is.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from xlmt.model import Thread
from xlmt.nodes.model import Listing, Outcome, Plan, Result, Row, Snapshot, State, Verb
from xlmt.text import SCHEMA, aligned, cut, doing_json, duration, printable

_MEANING = {
    State.MISSING: "has no node: xlmt repair",
    State.TRANSITION: "being created or destroyed; if it stays, see xlmt-list(8)",
    State.LINGERING: "gone, the kernel still holds",
    State.ORPHAN: "gone, its node is left over: xlmt reconcile",
    State.UNPROTECTED: "gone, without a node; the kernel still holds",
}
#: SGR codes: ECMA-48, 8.3.117.
_GREEN, _YELLOW, _RED = "32", "33", "31"
_COLOUR = {
    "ok": _GREEN,
    "transition": _YELLOW,
    "dying": _YELLOW,
    "lingering": _YELLOW,
    "orphan": _YELLOW,
    "missing": _RED,
    "unprotected": _RED,
    "unknown": _RED,
}
_PARTICIPLE = {Verb.ADD: "added", Verb.REPAIR: "repaired", Verb.REMOVE: "removed"}

# --- list ----------------------------------------------------------------------------------


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
        "shutdown": row.shutdown,
        "guarded": row.guarded,
    }


def _thread_json(thread: Thread | None) -> dict[str, Any] | None:
    if thread is None:
        return None
    return {
        "name": thread.name,
        "pid": thread.pid,
        "state": thread.state,
        "stalled_s": thread.stalled_s,
        "doing": doing_json(thread.doing),
    }


def list_table(
    listing: Listing, *, screen: tuple[int, int] | None = None, colour: bool = False
) -> str:
    """Return the table of `xlmt list`, without a final newline; names are made printable.

    `screen` is the terminal's columns and lines: the table is then made to fit its width, and
    what is not in order comes first if not all fits on it. `colour` is for the states.
    """
    columns, lines = screen or (None, None)
    rows = listing.rows
    crowded = lines is not None and len(rows) + len(listing.foreign) + 2 > lines
    if crowded:
        rows = tuple(sorted(rows, key=lambda row: row.state is State.OK))
    head = ("DOMID", "NAME", "STATE", "NODE", "THREAD", "")
    text = aligned([head, *map(_cells, rows)], columns, _COLOUR if colour else None)
    text += [
        cut(f"foreign  {printable(name)}  no domid; left alone", columns)
        for name in listing.foreign
    ]
    if crowded:
        text.append(cut(_summary(rows), columns))
    return "\n".join(text)


def _summary(rows: Sequence[Row]) -> str:
    counts = Counter(map(_state, rows))
    return f"{len(rows)} domids: " + ", ".join(f"{n} {state}" for state, n in counts.items())


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row.domid),
        printable(row.name) if row.name else "-",
        _state(row),
        {True: "yes", False: "no", None: "?"}[row.node],
        _thread(row.thread),
        _meaning(row),
    )


def _thread(thread: Thread | None) -> str:
    if thread is None:
        return "-"
    doing = thread.doing
    what = f" {printable(doing.callback)} {duration(doing.age_s)}" if doing else ""
    return f"{thread.state} {thread.pid}{what}"


def _state(row: Row) -> str:
    if row.state:
        return row.state
    read = None not in (row.hypervisor, row.xenstore, row.node, row.backends)
    return "dying" if read else "unknown"


def _meaning(row: Row) -> str:
    match row.state:
        case None:
            return {"unknown": "not everything could be read"}.get(_state(row), "")
        case State.OK:
            guarded = "guarded" if row.guarded else ""
            return f"has shut down: {row.shutdown}" if row.shutdown else guarded
        case State.MISSING:
            return f"{_MEANING[row.state]} {row.domid}"
        case State.TRANSITION if row.half_made:
            return f"has never run; if it stays: xlmt destroy {row.domid}"
        case State.LINGERING | State.UNPROTECTED:
            return " ".join([_MEANING[row.state], *map(printable, row.backends or ())])
        case _:
            return _MEANING.get(row.state, "")


# --- repair, reconcile ---------------------------------------------------------------------


def plan_json(plan: Plan, outcomes: Iterable[Outcome], *, dry_run: bool) -> str:
    """Return the document of `xlmt reconcile -o json`."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "actions": [
            _outcome_json(outcome) for outcome in outcomes if outcome.result is not Result.UNNEEDED
        ],
        "kept": [
            {"domid": kept.domid, "state": kept.state, "reason": kept.reason} for kept in plan.kept
        ],
        "foreign": list(plan.foreign),
        "refused": plan.refusal is not None,
        "complete": plan.complete,
        "problems": list(plan.problems),
        "dry_run": dry_run,
    }
    return json.dumps(document, indent=2)


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    action = outcome.action
    return {
        "domid": action.domid,
        "node": action.node,
        "action": action.verb,
        "state": action.state,
        "reason": action.reason,
        "result": outcome.result,
        "error": outcome.error,
    }


def outcome_line(outcome: Outcome) -> str:
    """Return what became of an action, for people."""
    action = outcome.action
    done = _PARTICIPLE[action.verb]
    became = {Result.DONE: done, Result.PLANNED: f"to be {done}"}.get(outcome.result, f"not {done}")
    reason = outcome.error or action.reason
    return f"node {printable(action.node)} {became}: {printable(reason, 300)}"


def untouched_line(row: Row) -> str:
    """Return why `xlmt repair` has nothing to do for a domid, for people."""
    held = ", ".join(row.backends or ())
    why = {
        "ok": "in order",
        "transition": "unchanged: the domain is being created or destroyed; try again",
        "lingering": f"kept: the domain is gone, but the kernel still holds {held}",
        "unprotected": f"not added: the domain is gone; the kernel still holds {held}",
        "dying": "not added: the domain is dying",
        "unknown": "unchanged: not everything could be read",
    }.get(_state(row), "unchanged")
    return f"node {row.domid} {printable(why, 300)}"


# --- supervise -----------------------------------------------------------------------------


def status_line(seen: Snapshot, plan: Plan) -> str:
    """Return how the host is after a pass, for who looks at the supervisor."""
    if not plan.complete:
        return f"cannot read everything: {'; '.join(plan.problems)}"
    kept = f", {len(plan.kept)} of them kept: the kernel holds devices" if plan.kept else ""
    return f"{len(seen.domains or ()) - 1} domains, {len(seen.nodes or ())} nodes{kept}"
