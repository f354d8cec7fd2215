# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a host is, all that was seen taken together; and the exit status that says so. Pure."""

from xlmt.doctor.causes import Verdict as Of
from xlmt.doctor.findings import Finding
from xlmt.doctor.model import Host, State
from xlmt.kernel import diagnose, summary
from xlmt.kernel.diagnose import Verdict
from xlmt.text import printable

_NOTHING_STUCK = {Verdict.HEALTHY, Verdict.EXPOSED}


def verdict(host: Host) -> Verdict:
    """Return the worst that is to be said: of xenbus and of xenstored, too."""
    told = diagnose.judge(host.view)
    if told in _NOTHING_STUCK and _worst(host):
        return Verdict.STALLED
    if told in _NOTHING_STUCK and _is_silent(host):
        return Verdict.SILENT
    return told


def headline(host: Host) -> str:
    """Return the verdict in one line."""
    if verdict(host) is diagnose.judge(host.view):
        return summary.headline(host.view)
    if stuck := _worst(host):
        who = printable(stuck.trace.task)
        return f"{who} is stuck, and no guest can be created or destroyed"
    return "xenstored does not answer, and no guest can be created or destroyed"


def troubles(host: Host) -> bool:
    """Whether there is something to be done, beside a kernel half that is not at work."""
    wrong = any(finding.is_wrong for finding in host.findings)
    return wrong or bool(host.zombies) or any(c.state is State.PROBLEM for c in host.checks)


def _worst(host: Host) -> Finding | None:
    return next((f for f in host.findings if f.cause.verdict is Of.STALL), None)


def _is_silent(host: Host) -> bool:
    return any(c.name == "xenstored" and c.state is State.PROBLEM for c in host.checks)
