# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt doctor` prints: the same facts for people, and for programs. Pure."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from xlmt.doctor.causes import Cause, Verdict
from xlmt.doctor.findings import Finding, Queue
from xlmt.doctor.traces import Trace
from xlmt.doctor.words import ADVICE
from xlmt.kernel import diagnose, summary
from xlmt.kernel.diagnose import View
from xlmt.text import SCHEMA, duration, guest, printable

_MEANS = {
    Verdict.STALL: "no guest can be created or destroyed",
    Verdict.CONTAINED: "other guests are not affected",
    Verdict.WILL_STALL: "xenwatch will wait for it as soon as this device is torn down",
    Verdict.COLLATERAL: "it is not the cause",
}
#: So many holders are shown; a queue of which there are more fuller ones is not the one.
_HOLDERS = 3


def host_text(view: View, found: Sequence[Finding]) -> str:
    """Return what `xlmt doctor` prints of this host: the verdict, and a paragraph per finding."""
    paragraphs = [_paragraph(finding, view.names) for finding in found]
    return "\n\n".join([summary.headline(view), *paragraphs])


def host_json(view: View, found: Sequence[Finding]) -> str:
    """Return the document of `xlmt doctor -o json`."""
    document = {
        "schema": SCHEMA,
        "verdict": diagnose.judge(view),
        "status": summary.headline(view),
        "kernel": {"release": view.release, "mtwatch": view.half},
        "findings": [_json(finding, view.names) for finding in found],
        "problems": list(view.problems),
    }
    return json.dumps(document, indent=2)


def stack_text(found: Sequence[Finding]) -> str:
    """Return the paragraphs of `xlmt doctor --stack`, without a final newline."""
    return "\n\n".join(_paragraph(finding, {}) for finding in found)


def stack_json(found: Sequence[Finding]) -> str:
    """Return the document of `xlmt doctor --stack -o json`."""
    return json.dumps(
        {"schema": SCHEMA, "traces": [_json(finding, {}) for finding in found]}, indent=2
    )


def _paragraph(finding: Finding, names: Mapping[int, str]) -> str:
    trace, cause = finding.trace, finding.cause
    lines = [("task", _task(trace)), ("state", _state(cause))]
    if trace.blocked_s is not None:
        lines.append(("since", f"at least {duration(trace.blocked_s)}"))
    if whose := _whose(finding, names):
        lines.append(("guest", whose))
    lines.append(("status", _sentence(finding)))
    lines += [("holder", _holder(queue)) for queue in finding.holders[:_HOLDERS]]
    if finding.is_wrong:
        lines += [("action", action) for action in _actions(finding)]
    lines.append(("see", f"{ADVICE[cause.kind].id} in xlmt-doctor(8)"))
    return "\n".join(f"{label:<7} {text}" for label, text in lines)


def _holder(queue: Queue) -> str:
    where = f" in the network namespace of process {queue.pid}" if queue.pid else ""
    some = "a packet is" if queue.packets == 1 else f"{queue.packets} packets are"
    return f"{some} in the queue ({printable(queue.kind)}) of {printable(queue.device)}{where}"


def _actions(finding: Finding) -> Sequence[str]:
    """Return what to type: of the queues that have packets rather than of any."""
    return [*map(_drops, finding.holders[:_HOLDERS])] or ADVICE[finding.cause.kind].actions


def _drops(queue: Queue) -> str:
    """Return the command that drops what is in a queue, of all guests."""
    device, enter = shlex.quote(printable(queue.device)), ""
    if queue.pid:
        enter = f"nsenter -n -t {queue.pid} "
    return f"{enter}ip link set {device} down; {enter}ip link set {device} up"


def _task(trace: Trace) -> str:
    name = printable(trace.task) if trace.task else "not named"
    return f"{name} (pid {trace.pid})" if trace.pid else name


def _state(cause: Cause) -> str:
    return "well" if cause.verdict is Verdict.NO else f"{cause.verdict}, {cause.kind}"


def _whose(finding: Finding, names: Mapping[int, str]) -> str:
    if finding.domid is None:
        return ""
    known, by = guest(names.get(finding.domid), finding.domid), finding.evidence
    return f"{known}, {printable(by, 60)}" if by else known


def _sentence(finding: Finding) -> str:
    trace, cause = finding.trace, finding.cause
    who = printable(trace.task) if trace.task else "the task"
    where = f" (in {printable(cause.decided_by)})" if cause.decided_by else ""
    means = f"; {_MEANS[cause.verdict]}" if cause.verdict in _MEANS else ""
    return f"{who} {ADVICE[cause.kind].waits}{where}{means}"


def _json(finding: Finding, names: Mapping[int, str]) -> dict[str, Any]:
    trace, cause = finding.trace, finding.cause
    return {
        "task": trace.task or None,
        "pid": trace.pid,
        "report": trace.report,
        "blocked_s": trace.blocked_s,
        "id": ADVICE[cause.kind].id,
        "kind": cause.kind,
        "verdict": cause.verdict,
        "domid": finding.domid,
        "name": names.get(finding.domid) if finding.domid is not None else None,
        "evidence": finding.evidence or None,
        "decided_by": cause.decided_by,
        "status": _sentence(finding),
        "holders": [queue._asdict() for queue in finding.holders],
        "actions": list(_actions(finding)) if finding.is_wrong else [],
        "frames": list(trace.frames),
    }
