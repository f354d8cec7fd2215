# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt kernel status` prints: a table for people, a document for programs. Pure."""

import json
from typing import Any

from xlmt.kernel import diagnose
from xlmt.kernel.diagnose import Half, Serves, View, Watcher
from xlmt.kernel.status import Longest, Module, Share
from xlmt.kernel.summary import headline, named
from xlmt.text import SCHEMA, aligned, doing_json, duration, printable

#: So many functions of a stack tell where a thread is.
_FRAMES = 6
_NO_GUEST = {Serves.DOMAIN_0: "domain 0", Serves.PROGRAMS: "programs"}
#: An answer of xenwatch that is out for less is only on its way.
_SILENT_S = 1.0


# --- the table -----------------------------------------------------------------------------


def status_text(view: View) -> str:
    """Return what `xlmt kernel status` prints for people, without a final newline."""
    lines = [headline(view)]
    rows = _rows(view)
    if rows:
        head = ("THREAD", "GUEST", "PID", "STATE", "QUEUE", "DOING")
        lines += ["", *aligned([head, *rows])]
    if told := _places(view):
        lines += ["", *told]
    if view.status:
        lines += ["", _module_line(view.status.module, view)]
    return "\n".join(lines)


def _rows(view: View) -> list[tuple[str, ...]]:
    rows = [_row(watcher, view) for watcher in diagnose.everybody(view)]
    for spinner in view.spinners:
        name = view.names.get(spinner.domid or 0)
        spins = f"spins: {spinner.cpu:.0%} of a CPU, waits for packets of {spinner.interface}"
        who = printable(name) if name else "-"
        rows.append(
            (printable(spinner.name), who, str(spinner.pid), "R", "-", printable(spins, 90))
        )
    return rows


def _row(watcher: Watcher, view: View) -> tuple[str, ...]:
    share = watcher.share
    depth = share.depth if share else None
    return (
        printable(watcher.name),
        _guest(watcher, view),
        str(watcher.pid or "-"),
        watcher.state or "-",
        "-" if depth is None else str(depth),
        _activity(watcher),
    )


def _guest(watcher: Watcher, view: View) -> str:
    name = view.names.get(watcher.domid or 0)
    return printable(name) if name else _NO_GUEST.get(diagnose.serves(watcher.name), "-")


def _activity(watcher: Watcher) -> str:
    doing, share = watcher.doing, watcher.share
    parts = []
    if doing:
        path = f" {printable(doing.path, 200)}" if doing.path else ""
        parts.append(f"{printable(doing.callback)}{path} for {duration(doing.age_s)}")
    if watcher.silent_s and watcher.silent_s >= _SILENT_S:
        parts.append(f"has not answered for {duration(watcher.silent_s)}")
    if watcher.stuck_s and not parts:
        parts.append(f"blocked for {duration(watcher.stuck_s)}")
    if share and share.phase == "new":
        whose = _NO_GUEST.get(diagnose.serves(watcher.name), "this guest")
        parts.append(f"not started: waits for what xenwatch still has of {whose}")
    if share and share.phase == "draining":
        parts.append("its node is gone; ends with its queue")
    return ", ".join(parts)


def _places(view: View) -> list[str]:
    """Return where those are that are stuck, where to read on, and what helps meanwhile."""
    stuck, lines = diagnose.stuck(view), []
    for watcher in stuck:
        if frames := view.frames.get(watcher.pid or 0):
            where = " < ".join(map(printable, frames[:_FRAMES]))
            lines.append(f"{printable(watcher.name)} is in {where}")
    if stuck:
        lines.append("What it may wait for, and how to release it: man 7 xlmt-mtwatch, lingering")
    if view.spinners:
        lines.append("To limit the spinning thread: xlmt kernel throttle")
    return lines


def _module_line(module: Module, view: View) -> str:
    most = f" of at most {module.max_threads}" if module.max_threads is not None else ""
    parts = [
        f"mode {printable(module.mode)}" if module.mode else "",
        f"{module.threads}{most} threads" if module.threads is not None else "",
        f"{module.adopted} watches from before the load adopted" if module.adopted else "",
        "some devices from before the load are not adopted yet" if module.partial else "",
    ]
    state = printable(module.state or "in an unknown state")
    return f"{named(view)}: " + ", ".join([state, *filter(None, parts)])


# --- JSON ----------------------------------------------------------------------------------


def status_json(view: View) -> str:
    """Return the document of `xlmt kernel status -o json`."""
    main = diagnose.xenwatch(view)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": diagnose.judge(view),
        "summary": headline(view),
        "kernel": {"release": view.release, "mtwatch": view.half},
        "module": _module_json(view),
        "xenwatch": _xenwatch_json(main, view) if main else None,
        "threads": [_watcher_json(watcher, view) for watcher in diagnose.watchers(view)],
        "spinning": [
            {"name": s.name, "pid": s.pid, "interface": s.interface, "domid": s.domid, "cpu": s.cpu}
            for s in view.spinners
        ],
        "problems": list(view.problems),
    }
    return json.dumps(document, indent=2)


def _module_json(view: View) -> dict[str, Any] | None:
    if view.half is not Half.MODULE:
        return None
    told = view.status.module if view.status else Module()
    return {
        "version": told.version or view.version,
        "state": told.state,
        "mode": told.mode or view.parameters.get("mode"),
        "threads": told.threads,
        "max_threads": told.max_threads,
        "idle_s": told.idle_s,
        "warn_s": told.warn_s,
        "adopted": told.adopted,
        "partial": told.partial,
        "passed": told.passed,
        "store_silent_s": told.store_silent_s,
        "parameters": dict(view.parameters),
    }


def _xenwatch_json(watcher: Watcher, view: View) -> dict[str, Any]:
    told = view.status.xenwatch if view.status else None
    return {
        **_thread_json(watcher, view),
        "domid": watcher.domid,
        "silent_s": watcher.silent_s,
        "events": told.events if told else None,
        "longest": _longest_json(told.longest if told else None),
    }


def _watcher_json(watcher: Watcher, view: View) -> dict[str, Any]:
    share = watcher.share or Share()
    return {
        **_thread_json(watcher, view),
        "serves": diagnose.serves(watcher.name),
        "domid": watcher.domid,
        "guest": view.names.get(watcher.domid or 0),
        "phase": share.phase,
        "by": share.by,
        "depth": share.depth,
        "max_depth": share.max_depth,
        "queued": share.queued,
        "done": share.done,
        "merged": share.merged,
        "flushed": share.flushed,
        "rescans": share.rescans,
        "wait_s": share.wait_s,
        "longest": _longest_json(share.longest),
    }


def _thread_json(watcher: Watcher, view: View) -> dict[str, Any]:
    return {
        "name": watcher.name,
        "pid": watcher.pid,
        "state": watcher.state,
        "stalled_s": watcher.stuck_s,
        "doing": doing_json(watcher.doing),
        "frames": list(view.frames.get(watcher.pid or 0, ())),
    }


def _longest_json(longest: Longest | None) -> dict[str, Any] | None:
    if longest is None:
        return None
    return {"callback": longest.callback, "path": longest.path, "took_s": longest.took_s}
