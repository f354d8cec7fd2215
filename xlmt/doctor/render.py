# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt doctor` prints: the same facts for people, for programs, and for Nagios. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from xlmt.doctor import judge
from xlmt.doctor.actions import COSTS, MOST_HOLDERS, Action, Level
from xlmt.doctor.causes import Cause, Verdict
from xlmt.doctor.findings import Finding
from xlmt.doctor.holders import Holder, What
from xlmt.doctor.model import IDS, Check, Host, State, Zombie
from xlmt.doctor.traces import Trace
from xlmt.doctor.words import ADVICE
from xlmt.kernel import diagnose, summary
from xlmt.kernel.diagnose import Verdict as OfHost
from xlmt.kernel.diagnose import Watcher
from xlmt.text import SCHEMA, duration, guest, printable

_MEANS = {
    Verdict.STALL: "no guest can be created or destroyed",
    Verdict.WILL_STALL: "xenwatch will wait for it as soon as this device is torn down",
    Verdict.COLLATERAL: "it is not the cause",
}
_NAGIOS = {
    OfHost.HEALTHY: (0, "OK"),
    OfHost.EXPOSED: (1, "WARNING"),
    OfHost.CONTAINED: (1, "WARNING"),
    OfHost.UNKNOWN: (3, "UNKNOWN"),
}
_CRITICAL = (2, "CRITICAL")
#: Of which nothing is known, as of the one that a pasted trace is from.
_NOWHERE = Host(diagnose.View())
Names = Mapping[int, str]


# --- text ----------------------------------------------------------------------------------


def host_text(host: Host, *, only_wrong: bool = False) -> str:
    """Return what `xlmt doctor` prints of this host: the verdict, and a paragraph per trouble.

    A host that is well is one line, and none with `only_wrong`.
    """
    names = host.view.names
    paragraphs = [_paragraph(f, host) for f in host.findings if f.is_wrong or not only_wrong]
    paragraphs += [_check(c) for c in host.checks if c.state is State.PROBLEM]
    paragraphs += [_zombie(zombie, names) for zombie in host.zombies]
    skipped = [_labelled([("skipped", _skip(c))]) for c in host.checks if c.state is State.SKIPPED]
    if not only_wrong:
        paragraphs += ["\n".join(skipped)] if skipped else []
        if paragraphs and (well := [c.name for c in host.checks if c.state is State.OK]):
            paragraphs.append(_labelled([("ok", ", ".join(well))]))
    verdict = judge.verdict(host)
    if only_wrong and not paragraphs and verdict is OfHost.HEALTHY:
        return ""
    return "\n\n".join([judge.headline(host), *paragraphs])


def stack_text(found: Sequence[Finding]) -> str:
    """Return the paragraphs of `xlmt doctor --stack`, without a final newline."""
    return "\n\n".join(_paragraph(finding) for finding in found)


def nagios(host: Host) -> tuple[int, str]:
    """Return the exit status and the line that Nagios's plugins have."""
    verdict = judge.verdict(host)
    status, word = _NAGIOS.get(verdict, _CRITICAL)
    wrong = [c for c in host.checks if c.state is State.PROBLEM]
    if not status and judge.troubles(host):
        status, word = 1, "WARNING"
    said = [judge.headline(host), *(c.status for c in wrong)]
    said += [cause_text(f, host.view.names) for f in host.findings if f.is_wrong]
    said += [_remains(zombie, host.view.names) for zombie in host.zombies]
    line = "; ".join(said).replace("|", "/")
    return status, f"XLMT {word} - {line}"


def _paragraph(finding: Finding, host: Host = _NOWHERE) -> str:
    trace, cause, names, at = finding.trace, finding.cause, host.view.names, host.at
    lines = [("task", _task(trace)), ("state", _state(cause))]
    if trace.blocked_s is not None:
        when = f", since {_time(at - trace.blocked_s)}" if at else ""
        lines.append(("since", f"at least {duration(trace.blocked_s)}{when}"))
    if whose := _whose(finding, names):
        lines.append(("guest", whose))
    lines.append(("status", _sentence(finding, host)))
    lines += [("holder", holder_text(holder)) for holder in finding.holders[:MOST_HOLDERS]]
    lines += [("action", action_text(action)) for action in finding.actions]
    if finding.is_stuck and (release := _release(finding)):
        lines.append(("action", release))
    lines.append(("see", f"{ADVICE[cause.kind].id} in xlmt-doctor(8)"))
    return _labelled(lines)


def _release(finding: Finding) -> str | None:
    """Return what carries the actions out, the mildest of them at least."""
    least = min((action.level for action in finding.actions), default=Level.SAID)
    if least is Level.SAID:
        return None
    most = f" --most {least.word}" if least > Level.PACKETS else ""  # what it does unless told
    return f"xlmt release{most}   # does these one by one, and looks whether it goes on"


def _check(check: Check) -> str:
    lines = [("check", check.name), ("status", check.status)]
    lines += [("action", action) for action in check.actions]
    return _labelled([*lines, ("see", f"{check.id} in xlmt-doctor(8)")])


def _skip(check: Check) -> str:
    return f"{check.name}: {printable(check.status, 300)}"


def _zombie(zombie: Zombie, names: Names) -> str:
    lines = [
        ("zombie", guest(names.get(zombie.domid), zombie.domid)),
        ("status", _remains(zombie, names)),
    ]
    lines += [("holder", printable(keeper)) for keeper in (*zombie.backends, *zombie.processes)]
    return _labelled([*lines, ("see", f"{IDS['zombies']} in xlmt-doctor(8)")])


def _remains(zombie: Zombie, names: Names) -> str:
    who = guest(names.get(zombie.domid), zombie.domid)
    lost = f"has {zombie.memory_kb / 1024:.0f} MiB of memory"
    if zombie.backends:
        return f"{who} is destroyed and still {lost}: dom0's kernel has devices of it"
    if zombie.processes:
        return f"{who} is destroyed and still {lost}: a program of dom0 has it mapped"
    return f"{who} is destroyed and still {lost}: something in dom0 has pages of it"


def holder_text(holder: Holder) -> str:
    """Return what holds something, in a clause."""
    near = ", which is on its way" if holder.on_path else ""
    device = printable(holder.device)
    match holder.what:
        case What.QUEUE:
            where = f" in the network namespace of process {holder.pid}" if holder.pid else ""
            some = _some(holder.packets, "packet")
            return f"{some} in the queue ({printable(holder.kind)}) of {device}{where}{near}"
        case What.CARD:
            return f"{_some(holder.bytes, 'byte')} with the card {device}{near}"
        case What.PROGRAM:
            some = _some(holder.packets, "packet")
            return f"{some} in {device}: its program ({holder.kind}) has not decided about them"
        case What.TAP:
            who = f"{printable(holder.kind)} (pid {holder.reader})"
            return f"{who} reads nothing from {device}{near}, and may have packets there"
    state = f"is {holder.state}" if holder.state else "does not answer"
    requests = f", {_some(holder.requests, 'request')} in flight" if holder.requests else ""
    kind = f" ({printable(holder.kind)})" if holder.kind else ""
    return f"{device}{kind} {state}{requests}{near}"


def _some(number: int, thing: str) -> str:
    return f"a {thing} is" if number == 1 else f"{number} {thing}s are"


def action_text(action: Action) -> str:
    """Return what is to be typed, with what it costs as a comment of the shell."""
    cost = f"   # {COSTS[action.level]}" if action.level in COSTS else ""
    return f"{printable(action.typed, 400)}{cost}"


def _labelled(lines: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{label:<7} {text}" for label, text in lines)


def cause_text(finding: Finding, names: Names) -> str:
    """Return who is stuck, because of whom, and what may hold that, in one line."""
    whose = _whose(finding, names)
    because = f" because of {whose}" if whose else ""
    held = "".join(f"; {holder_text(h)}" for h in finding.holders[:1])
    return f"{_task(finding.trace)} is stuck{because}: it {ADVICE[finding.cause.kind].waits}{held}"


def _task(trace: Trace) -> str:
    name = printable(trace.task) if trace.task else "not named"
    return f"{name} (pid {trace.pid})" if trace.pid else name


def _state(cause: Cause) -> str:
    return "well" if cause.verdict is Verdict.NO else f"{cause.verdict}, {cause.kind}"


def _whose(finding: Finding, names: Names) -> str:
    if finding.domid is None:
        return ""
    known, by = guest(names.get(finding.domid), finding.domid), finding.evidence
    device = f", {printable(finding.device)}" if finding.device else ""
    return f"{known}{device}, {printable(by, 80)}" if by else f"{known}{device}"


def _sentence(finding: Finding, host: Host) -> str:
    trace, cause = finding.trace, finding.cause
    who = printable(trace.task) if trace.task else "the task"
    where = f" (in {printable(cause.decided_by)})" if cause.decided_by else ""
    means = f"; {text}" if (text := _consequence(finding, host)) else ""
    blame = _blame(finding, host.view.names)
    return f"{who} {ADVICE[cause.kind].waits}{where}{means}{blame}"


def _consequence(finding: Finding, host: Host) -> str | None:
    stalls = finding.cause.verdict is Verdict.STALL and finding.trace.task == diagnose.XENWATCH
    if stalls and diagnose.protects(host.view):
        return summary.SOME_WAIT
    if finding.cause.verdict is Verdict.CONTAINED:
        return summary.AFFECTED[diagnose.serves(finding.trace.task)]
    return _MEANS.get(finding.cause.verdict)


def _blame(finding: Finding, names: Names) -> str:
    if not finding.shared:
        return ""
    waiting = " and ".join(guest(names.get(domid), domid) for domid in finding.shared)
    disk = printable(finding.holders[0].device)
    return f"; {disk} is below the disks of {waiting}: the storage is to blame, and no guest is"


# --- JSON ----------------------------------------------------------------------------------


def host_json(host: Host, *, only_wrong: bool = False) -> str:
    """Return the document of `xlmt doctor -o json`."""
    view, names = host.view, host.view.names
    found = [f for f in host.findings if f.is_wrong or not only_wrong]
    by_task = {(f.trace.task, f.trace.pid): f for f in host.findings}
    main = diagnose.xenwatch(view)
    document = {
        "schema": SCHEMA,
        "verdict": judge.verdict(host),
        "status": judge.headline(host),
        "kernel": {"release": view.release, "mtwatch": view.half},
        "xenwatch": _watcher(main, by_task) if main else None,
        "threads": [
            {**_watcher(w, by_task), "serves": diagnose.serves(w.name)}
            for w in diagnose.watchers(view)
        ],
        "zombies": [_zombie_json(zombie, names) for zombie in host.zombies],
        "blocked": [
            {"task": f.trace.task, "pid": f.trace.pid, "blocked_s": f.trace.blocked_s}
            for f in host.findings
            if f.cause.verdict is Verdict.COLLATERAL
        ],
        "advice": [*dict.fromkeys(_advice(host))],
        "findings": [_json(finding, host) for finding in found],
        "checks": [
            {
                "name": c.name,
                "id": c.id,
                "state": c.state,
                "status": c.status,
                "actions": list(c.actions),
            }
            for c in host.checks
            if c.state is State.PROBLEM or not only_wrong
        ],
        "problems": list(view.problems),
    }
    return json.dumps(document, indent=2)


def stack_json(found: Sequence[Finding]) -> str:
    """Return the document of `xlmt doctor --stack -o json`."""
    return json.dumps({"schema": SCHEMA, "traces": [_json(finding) for finding in found]}, indent=2)


def _advice(host: Host) -> Iterator[str]:
    for finding in host.findings:
        yield from (action.typed for action in finding.actions)
    for check in host.checks:
        yield from check.actions


def _watcher(watcher: Watcher, found: Mapping[tuple[str, int | None], Finding]) -> dict[str, Any]:
    finding = found.get((watcher.name, watcher.pid))
    cause = None
    stalled = watcher.stuck_s
    if finding:
        cause = {
            "kind": finding.cause.kind,
            "domid": finding.domid,
            "device": finding.device,
            "frames": list(finding.trace.frames),
        }
        stalled = max(stalled, float(finding.trace.blocked_s or 0))
    return {
        "name": watcher.name,
        "domid": watcher.domid if watcher.name != diagnose.XENWATCH else None,
        "pid": watcher.pid,
        "state": watcher.state,
        "stalled_s": stalled,
        "cause": cause,
    }


def _zombie_json(zombie: Zombie, names: Names) -> dict[str, Any]:
    return {
        "domid": zombie.domid,
        "name": names.get(zombie.domid),
        "memory_kb": zombie.memory_kb,
        "backends": list(zombie.backends),
        "processes": list(zombie.processes),
        "status": _remains(zombie, names),
    }


def _json(finding: Finding, host: Host = _NOWHERE) -> dict[str, Any]:
    trace, cause, names, at = finding.trace, finding.cause, host.view.names, host.at
    return {
        "task": trace.task or None,
        "pid": trace.pid,
        "report": trace.report,
        "blocked_s": trace.blocked_s,
        "since": _time(at - trace.blocked_s) if at and trace.blocked_s is not None else None,
        "id": ADVICE[cause.kind].id,
        "kind": cause.kind,
        "verdict": cause.verdict,
        "domid": finding.domid,
        "name": names.get(finding.domid) if finding.domid is not None else None,
        "device": finding.device,
        "evidence": finding.evidence or None,
        "decided_by": cause.decided_by,
        "status": _sentence(finding, host),
        "shared": list(finding.shared),
        "holders": [_holder_json(holder) for holder in finding.holders],
        "actions": [action.typed for action in finding.actions],
        "levels": [action.level.word for action in finding.actions],
        "frames": list(trace.frames),
    }


def _holder_json(holder: Holder) -> dict[str, Any]:
    return {**holder._asdict(), "guests": list(holder.guests), "status": holder_text(holder)}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
