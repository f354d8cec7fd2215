# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was found: a task, why it waits, and whose device that is. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xlmt.doctor.causes import Cause, Kind, Verdict, cause_of
from xlmt.doctor.traces import Trace
from xlmt.kernel.status import WORKER
from xlmt.model import Spinner

_WRONG = {Verdict.STALL, Verdict.CONTAINED, Verdict.WILL_STALL, Verdict.GONE}
_BLKBACK = {Kind.BLKBACK_IO, Kind.BLKBACK_GRANTS}


class Queue(NamedTuple):
    """A queue that has packets; `pid` is a process in its network namespace, None for ours."""

    device: str
    kind: str
    packets: int
    pid: int | None = None


class Finding(NamedTuple):
    """A trace, and what it means; `domid` is whose device it is, `evidence` what tells that.

    `holders` are what may have what it waits for, the likeliest first.
    """

    trace: Trace
    cause: Cause
    domid: int | None = None
    evidence: str = ""
    holders: tuple[Queue, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether there is something to be done about it."""
        return self.cause.verdict in _WRONG


def of_traces(traces: Sequence[Trace]) -> tuple[Finding, ...]:
    """Return what each trace means, in their order."""
    return tuple(with_guests([Finding(trace, cause_of(trace)) for trace in traces]))


def with_guests(found: Sequence[Finding], spinners: Iterable[Spinner] = ()) -> list[Finding]:
    """Return the same with whose devices they are, as far as threads tell.

    A backend's worker is named after its guest. xenwatch is not: it waits for a worker, and if
    those of one guest only can be meant, it is that guest's.
    """
    named = [_by_name(finding) for finding in found]
    workers = {(f.cause.kind, f.domid, f.trace.task) for f in named if f.evidence}
    workers |= {(Kind.NETBACK_INFLIGHT, spinner.domid, spinner.name) for spinner in spinners}
    return [f if f.domid is not None else _by_worker(f, workers) for f in named]


def _by_name(finding: Finding) -> Finding:
    match = WORKER.fullmatch(finding.trace.task)
    if finding.cause.verdict is not Verdict.WILL_STALL or not match:
        return finding
    return finding._replace(domid=int(match["domid"]), evidence="by its name")


def _by_worker(finding: Finding, workers: set[tuple[Kind, int | None, str]]) -> Finding:
    kinds = _BLKBACK if finding.cause.kind in _BLKBACK else {finding.cause.kind}
    meant = [(domid, task) for kind, domid, task in workers if kind in kinds and domid is not None]
    if finding.cause.verdict is not Verdict.STALL or len({domid for domid, _ in meant}) != 1:
        return finding
    domid, task = min(meant)
    return finding._replace(domid=domid, evidence=f"by its thread {task}")
