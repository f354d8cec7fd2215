# SPDX-License-Identifier: LGPL-2.1-or-later
"""One look at this host: who is stuck, in what, because of which guest. Reads only.

proc(5) and sysfs take no lock of a blocked thread's; holders.py has deadlines.
"""

from collections.abc import Sequence
from typing import NamedTuple

from xlmt.doctor import holders
from xlmt.doctor.causes import Kind, cause_of
from xlmt.doctor.findings import Finding, with_guests
from xlmt.doctor.traces import Report, Trace
from xlmt.kernel import diagnose, manage, proc
from xlmt.kernel.diagnose import View, Watcher
from xlmt.model import Thread


class Host(NamedTuple):
    """What was seen: the threads of the kernel half and xenwatch, and all that is stuck."""

    view: View
    findings: tuple[Finding, ...]


def look() -> Host:
    """Take one look; two seconds where something is blocked. Raises NoXenError without Xen."""
    view = manage.look()
    found = [_of_watcher(watcher, view) for watcher in diagnose.stuck(view)]
    found += map(_of_worker, proc.blocked_workers(manage.LOOK_S))
    found, problems = _with_holders(with_guests(found, view.spinners))
    return Host(
        view._replace(names=_names(view, found), problems=(*view.problems, *problems)), tuple(found)
    )


def _with_holders(found: list[Finding]) -> tuple[list[Finding], tuple[str, ...]]:
    """Return the findings with what may hold packets, and what could not be asked for that."""
    if not any(finding.cause.kind is Kind.NETBACK_INFLIGHT for finding in found):
        return found, ()
    queues, problems = holders.queues()
    return [
        f._replace(holders=queues) if f.cause.kind is Kind.NETBACK_INFLIGHT else f for f in found
    ], problems


def _of_watcher(watcher: Watcher, view: View) -> Finding:
    frames = view.frames.get(watcher.pid or 0, ())
    trace = Trace(watcher.name, frames, Report.HUNG, watcher.pid, int(watcher.stuck_s))
    return Finding(trace, cause_of(trace), watcher.domid or None)


def _of_worker(thread: Thread) -> Finding:
    frames = proc.frames(thread.pid)
    trace = Trace(thread.name, frames, Report.HUNG, thread.pid, int(thread.stalled_s))
    return Finding(trace, cause_of(trace))


def _names(view: View, found: Sequence[Finding]) -> dict[int, str]:
    missing = {f.domid for f in found if f.domid is not None} - view.names.keys()
    return {**view.names, **manage.names(missing)}
