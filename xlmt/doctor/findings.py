# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was found: a task, why it waits, whose device that is, and what holds it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from xlmt.doctor.actions import Action, Network, actions_of
from xlmt.doctor.causes import Cause, Kind, Verdict, cause_of
from xlmt.doctor.holders import Disk, Holder, Lender, of_packets, of_requests
from xlmt.doctor.traces import Trace
from xlmt.kernel.status import WORKER
from xlmt.model import Spinner

_WRONG = {Verdict.STALL, Verdict.CONTAINED, Verdict.WILL_STALL, Verdict.GONE}
_BLKBACK = {Kind.BLKBACK_IO, Kind.BLKBACK_GRANTS}
_DEVICES = {Kind.NETBACK_INFLIGHT: "vif-", Kind.BLKBACK_IO: "vbd-", Kind.BLKBACK_GRANTS: "vbd-"}


class Finding(NamedTuple):
    """A trace, and what it means; `domid` is whose device it is, `evidence` what tells that.

    `device` is that device in sysfs, where it can be only one. `holders` are what may have what it
    waits for, the likeliest first, and `actions` what ends that, the mildest first. `shared` are
    the guests that wait for the same storage, which is to blame then.
    """

    trace: Trace
    cause: Cause
    domid: int | None = None
    evidence: str = ""
    device: str | None = None
    holders: tuple[Holder, ...] = ()
    actions: tuple[Action, ...] = ()
    shared: tuple[int, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether there is something to be done about it."""
        return self.cause.verdict in _WRONG

    @property
    def is_stuck(self) -> bool:
        """Whether a thread that serves watches does not go on."""
        return self.cause.verdict in {Verdict.STALL, Verdict.CONTAINED}


class Surroundings(NamedTuple):
    """What was seen beside the tasks: `backends` are the devices in sysfs, by domid."""

    spinners: Sequence[Spinner] = ()
    network: Network = Network()
    held: Sequence[Holder] = ()
    disks: Mapping[str, Disk] = MappingProxyType({})
    backends: Mapping[int, Sequence[str]] = MappingProxyType({})


def of_traces(traces: Sequence[Trace]) -> tuple[Finding, ...]:
    """Return what each trace means, in their order."""
    found = with_guests([Finding(trace, cause_of(trace)) for trace in traces])
    return tuple(_with_actions(finding, Network()) for finding in found)


def of_host(found: Sequence[Finding], around: Surroundings) -> list[Finding]:
    """Return the same with whose they are, what holds it, and what ends that."""
    named = with_guests(found, around.spinners, around.network.vifs)
    return [_with_holders(finding, named, around) for finding in named]


# --- whose ---------------------------------------------------------------------------------


def with_guests(
    found: Sequence[Finding], spinners: Iterable[Spinner] = (), vifs: Iterable[Lender] = ()
) -> list[Finding]:
    """Return the same with whose devices they are, as far as threads and interfaces tell.

    A backend's worker is named after its guest. xenwatch is not: it waits for a worker, and if
    those of one guest only can be meant, it is that guest's.
    """
    named = [_by_name(finding) for finding in found]
    told = {
        (finding.cause.kind, finding.domid, f"by its thread {finding.trace.task}")
        for finding in named
        if finding.evidence
    }
    told |= {(Kind.NETBACK_INFLIGHT, s.domid, f"by its thread {s.name}") for s in spinners}
    if not any(kind is Kind.NETBACK_INFLIGHT for kind, _, _ in told):
        told |= {
            (Kind.NETBACK_INFLIGHT, v.domid, f"{v.name} is down and has lent {v.lent} packets")
            for v in vifs
            if v.lent and v.down
        }
    return [f if f.domid is not None else _by_evidence(f, told) for f in named]


def _by_name(finding: Finding) -> Finding:
    match = WORKER.fullmatch(finding.trace.task)
    if finding.cause.verdict is not Verdict.WILL_STALL or not match:
        return finding
    return finding._replace(domid=int(match["domid"]), evidence="by its name")


def _by_evidence(finding: Finding, told: set[tuple[Kind, int | None, str]]) -> Finding:
    kinds = _BLKBACK if finding.cause.kind in _BLKBACK else {finding.cause.kind}
    meant = [(domid, by) for kind, domid, by in told if kind in kinds and domid is not None]
    if finding.cause.verdict is not Verdict.STALL or len({domid for domid, _ in meant}) != 1:
        return finding
    domid, by = min(meant)
    return finding._replace(domid=domid, evidence=by)


# --- what holds it -------------------------------------------------------------------------


def _with_holders(finding: Finding, found: Sequence[Finding], around: Surroundings) -> Finding:
    kind, domid = finding.cause.kind, finding.domid
    if kind is Kind.NETBACK_INFLIGHT:
        own = [vif.name for vif in around.network.vifs if vif.domid == domid]
        held = of_packets(around.held, around.network.links, own)
        finding = finding._replace(holders=held)
    elif kind in _BLKBACK:
        held = of_requests(around.disks, domid, _waiting(found))
        finding = finding._replace(holders=held, shared=_shared(found, held, around.disks))
    devices = around.backends.get(domid, ()) if domid is not None else ()
    own_kind = [name for name in devices if name.startswith(_DEVICES.get(kind, "\0"))]
    finding = finding._replace(device=own_kind[0] if len(own_kind) == 1 else None)
    return _with_actions(finding, around.network)


def _waiting(found: Sequence[Finding]) -> set[int]:
    """Return the guests whose disks do not go on."""
    return {f.domid for f in found if f.cause.kind in _BLKBACK and f.domid is not None}


def _shared(
    found: Sequence[Finding], held: Sequence[Holder], disks: Mapping[str, Disk]
) -> tuple[int, ...]:
    """Return the guests that wait for one and the same disk of dom0, if there are several.

    A disk that is being taken from its guest does not say any more on what it is; but if dom0 has
    one disk only that does not answer, there is no other that it can wait for.
    """
    if len(held) != 1:
        return ()
    elsewhere = {domid for disk in disks.values() for domid in disk.guests} - {*held[0].guests}
    waiting = _waiting(found) - elsewhere
    return tuple(sorted(waiting)) if len(waiting) > 1 else ()


def _with_actions(finding: Finding, network: Network) -> Finding:
    if not finding.is_wrong:
        return finding
    holders = finding.holders
    if finding.shared:  # of each it is another guest's as well
        holders = tuple(h._replace(guests=finding.shared) for h in holders)
    return finding._replace(actions=actions_of(finding.cause.kind, finding.domid, holders, network))
