# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt guard` prints. Pure."""

import json
from typing import Any

from xlmt.guard.model import Row, View
from xlmt.guard.settings import headline
from xlmt.text import SCHEMA, aligned, guest, printable

_HEAD = ("DOMID", "NAME", "GUARDED", "INTERFACE", "")


def text(view: View) -> str:
    """Return the settings and the vifs, for people."""
    lines = [headline(view.settings)]
    if view.rows:
        lines += aligned([_HEAD, *map(_cells, view.rows)])
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    note = {
        (True, False): "should be guarded",
        (False, True): "another program listens to it",
    }.get((row.wanted, row.guarded), "")
    return (
        str(row.vif.domid),
        printable(row.name) if row.name else "-",
        "yes" if row.guarded else "no",
        printable(row.vif.interface),
        note,
    )


def document(view: View) -> str:
    """Return the same for programs."""
    values: dict[str, Any] = {"schema": SCHEMA, **view.settings.values()}
    values |= {"supervisor": view.supervisor, "vifs": [_row_json(row) for row in view.rows]}
    return json.dumps(values, indent=2)


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "domid": row.vif.domid,
        "name": row.name,
        "interface": row.vif.interface,
        "ifindex": row.vif.ifindex,
        "wanted": row.wanted,
        "guarded": row.guarded,
    }


def problem(view: View) -> str | None:
    """Return what keeps the guard from being as it should be, None when it is."""
    if view.settings.active and view.supervisor is None:
        return (
            "nobody is guarded: no supervisor is running; to start it: "
            "systemctl start xlmt-supervise, or: xlmt supervise"
        )
    if not view.wrong:
        return None
    first = view.wrong[0]
    more = f" and {len(view.wrong) - 1} more" if len(view.wrong) > 1 else ""
    what = f"{printable(first.vif.interface)} of {guest(first.name, first.vif.domid)}{more}"
    return f"{what} is not guarded; the supervisor's log says why"
