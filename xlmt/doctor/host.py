# SPDX-License-Identifier: LGPL-2.1-or-later
"""One look at this host: who is stuck, in what, because of which guest, held by what. Reads only.

proc(5) and sysfs of the kernel's own threads take no lock that a blocked one may hold. All else
is asked by bounded.py. The checks come first, and go on while it is looked for who is stuck, and
what holds that.
"""

import time
from collections.abc import Iterable, Mapping

from xlmt.doctor import checks, network, storage
from xlmt.doctor.actions import Network
from xlmt.doctor.bounded import Answer, Asked
from xlmt.doctor.causes import Cause, Kind, cause_of
from xlmt.doctor.causes import Verdict as OfTask
from xlmt.doctor.findings import Finding, Surroundings, of_host
from xlmt.doctor.model import Check, Domains, Host
from xlmt.doctor.traces import Report, Trace, bare
from xlmt.kernel import diagnose, manage, proc
from xlmt.kernel.diagnose import View, Watcher
from xlmt.model import Thread

_CHECKS = {
    "xenstored": checks.xenstored,
    "drivers": checks.drivers,
    "hotplug": checks.hotplug,
    "interposer": checks.interposer,
    "hung tasks": checks.hung_tasks,
    "persistent grants": checks.persistent_grants,
    "guard": checks.guard,
    "rescue": checks.rescued,
}
_OF_DOMAINS = ("nodes", "supervisor")
#: For all that is asked at once.
_DEADLINE_S = 5.0
#: For what a check has to say when it is over by the time that we come for it.
_LEAST_S = 0.5
_PACKETS = {
    "queues": network.queues,
    "programs": network.programs,
    "cards": network.cards,
    "taps": network.taps,
    "interfaces": network.links,
    "guests' interfaces": network.lenders,
}
_BLKBACK = {Kind.BLKBACK_IO, Kind.BLKBACK_GRANTS, Kind.MEMORY_RECLAIM}


def look(*, checked: bool = True) -> Host:
    """Take one look; some seconds where something is blocked. Raises NoXenError without Xen.

    Without `checked` only at what is stuck.
    """
    checking = Asked({"domains": checks.domains, **_CHECKS} if checked else {})
    try:
        view, found = _stuck()
        until = time.monotonic() + _DEADLINE_S
        found, problems = _explained(found, view)
        answers = checking.answers(max(until - time.monotonic(), _LEAST_S))
    finally:
        checking.end()
    at = time.time()
    told = answers.pop("domains", Answer(Domains((), ())))
    zombies = told.value.zombies if told.value else ()
    names = _names(view, [f.domid for f in found] + [z.domid for z in zombies])
    return Host(
        view._replace(names=names, problems=(*view.problems, *problems)),
        tuple(found),
        _checks(told, answers) if checked else (),
        zombies,
        at,
    )


# --- who is stuck --------------------------------------------------------------------------


def _stuck() -> tuple[View, list[Finding]]:
    """Look at all tasks; return what was seen of them, and those that do not go on."""
    asked = Asked({"blocked tasks": _blocked})
    try:
        view = manage.look()
        others = asked.answers(_DEADLINE_S)["blocked tasks"]
    finally:
        asked.end()
    found = [_of_watcher(watcher, view) for watcher in diagnose.stuck(view)]
    found += [*_gone(view), *(others.value or ())]
    if others.problem:
        view = view._replace(problems=(*view.problems, f"blocked tasks: {others.problem}"))
    return view, found


def _blocked() -> list[Finding]:
    """Return who else is blocked: xenbus, backends' threads, and who waits for xenwatch."""
    found = [
        _of_task(task)
        for task in proc.blocked(manage.LOOK_S)
        # what is only slow is blocked for a second, too
        if task.stalled_s >= diagnose.STUCK_S
    ]
    return [finding for finding in found if finding.cause.kind is not Kind.NOT_A_STALL]


def _gone(view: View) -> list[Finding]:
    """Return the threads that are not there, and should be."""
    if view.threads is None:
        return []
    gone = []
    if diagnose.xenwatch(view) is None:
        gone.append((diagnose.XENWATCH, Kind.XENWATCH_GONE))
    if not view.xenbus:
        gone.append((diagnose.XENBUS, Kind.XENBUS_GONE))
    return [Finding(Trace(name, (), Report.CRASH), Cause(kind, OfTask.GONE)) for name, kind in gone]


def _of_watcher(watcher: Watcher, view: View) -> Finding:
    frames = tuple(map(bare, view.frames.get(watcher.pid or 0, ())))
    trace = Trace(watcher.name, frames, Report.HUNG, watcher.pid, int(watcher.stuck_s))
    return Finding(trace, cause_of(trace), watcher.domid or None)


def _of_task(task: Thread) -> Finding:
    frames = tuple(map(bare, proc.frames(task.pid)))
    trace = Trace(task.name, frames, Report.HUNG, task.pid, int(task.stalled_s))
    return Finding(trace, cause_of(trace))


# --- what holds it -------------------------------------------------------------------------


def _explained(found: list[Finding], view: View) -> tuple[list[Finding], tuple[str, ...]]:
    """Return the findings with what holds what they wait for; and what could not be asked."""
    kinds = {finding.cause.kind for finding in found}
    questions = dict(_PACKETS) if Kind.NETBACK_INFLIGHT in kinds else {}
    answers = Asked(
        {
            **questions,
            **({"disks": storage.disks} if kinds & _BLKBACK else {}),
            "backends": proc.backends,
        }
        if found
        else {}
    ).answers(_DEADLINE_S)
    problems = tuple(
        f"{name}: {answer.problem}" for name, answer in answers.items() if answer.problem
    )
    value = {name: answer.value for name, answer in answers.items() if answer.value is not None}
    around = Surroundings(
        view.spinners,
        Network(value.get("interfaces", ()), value.get("guests' interfaces", ())),
        [h for name in ("queues", "programs", "cards", "taps") for h in value.get(name, ())],
        value.get("disks", {}),
        value.get("backends", {}),
    )
    return of_host(found, around), problems


# --- the rest ------------------------------------------------------------------------------


def _checks(domains: Answer, answers: Mapping[str, Answer]) -> tuple[Check, ...]:
    if domains.value:
        told = list(domains.value.checks)
    else:
        told = [checks.skipped(name, domains.problem or "") for name in _OF_DOMAINS]
    return tuple(told + [_check(name, answer) for name, answer in answers.items()])


def _check(name: str, answer: Answer) -> Check:
    if isinstance(answer.value, Check):
        return answer.value
    if name == "xenstored" and answer.late:
        return checks.silent(f"no answer within {_DEADLINE_S:.0f} s")
    return checks.skipped(name, answer.problem or "")


def _names(view: View, domids: Iterable[int | None]) -> dict[int, str]:
    missing = {domid for domid in domids if domid is not None} - view.names.keys()
    return {**view.names, **manage.names(missing)}
