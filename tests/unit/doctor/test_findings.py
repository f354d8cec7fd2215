# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose device a stuck thread is at, by the threads beside it; and what is said of it."""

import json

import pytest

from xlmt.doctor import findings, render
from xlmt.doctor.causes import Cause, Kind, Verdict
from xlmt.doctor.findings import Finding
from xlmt.doctor.traces import Report, Trace
from xlmt.kernel.diagnose import View
from xlmt.model import Spinner, Thread

XENWATCH = Trace(
    "xenwatch", ("kthread_stop", "xen_blkif_disconnect", "xenwatch_thread"), Report.HUNG, 57, 30
)
VIF = XENWATCH._replace(frames=("kthread_stop", "xenvif_disconnect_data", "xenwatch_thread"))
SPINNER = Spinner("vif3.0-q0-deall", 900, "vif3.0", 3, 0.9)


def worker(name: str) -> Trace:
    return Trace(name, ("io_schedule", "xen_blkif_schedule", "kthread"), Report.HUNG, 812, 30)


def whose(*traces: Trace) -> tuple[int | None, str]:
    first, *_ = findings.of_traces(traces)
    return first.domid, first.evidence


def test_a_worker_is_named_after_its_guest() -> None:
    assert whose(worker("12.xvda-0")) == (12, "by its name")


def test_xenwatch_waits_for_the_guest_of_the_only_worker_that_waits() -> None:
    assert whose(XENWATCH, worker("1.xvda-0")) == (1, "by its thread 1.xvda-0")
    assert whose(XENWATCH, worker("1.xvda-0"), worker("1.xvda-1"))[0] == 1


@pytest.mark.parametrize(
    "others", [(), (worker("1.xvda-0"), worker("2.xvda-0"))], ids=["none", "two-guests"]
)
def test_no_guest_is_blamed_on_a_guess(others: tuple[Trace, ...]) -> None:
    assert whose(XENWATCH, *others) == (None, "")


def test_a_worker_of_a_disk_says_nothing_of_a_network_card() -> None:
    assert whose(VIF, worker("1.xvda-0")) == (None, "")


def test_netbacks_thread_that_spins_tells_whose_packets_are_out() -> None:
    stall = Finding(VIF, Cause(Kind.NETBACK_INFLIGHT, Verdict.STALL))
    (told,) = findings.with_guests([stall], [SPINNER])
    assert (told.domid, told.evidence) == (3, "by its thread vif3.0-q0-deall")


def test_a_stall_is_said_with_its_guest_and_what_to_type() -> None:
    (found,) = findings.with_guests(
        [Finding(VIF, Cause(Kind.NETBACK_INFLIGHT, Verdict.STALL, "xenvif_disconnect_data"))],
        [SPINNER],
    )
    view = View(threads=(Thread("xenwatch", 57, "D", 30.0),), names={3: "web1\x1b[2J"})
    said = render.host_text(view, [found])
    assert "\x1b" not in said
    labels = [line.split()[0] for line in said.splitlines()[2:]]
    assert labels == ["task", "state", "since", "guest", "status", "action", "action", "see"]
    assert "(domain 3), by its thread vif3.0-q0-deall" in said
    assert "XLMT-1001" in said


def test_a_document_has_the_same() -> None:
    found = findings.of_traces([XENWATCH, worker("1.xvda-0")])
    stack = json.loads(render.stack_json(found))["traces"]
    assert [(t["task"], t["kind"], t["verdict"], t["domid"]) for t in stack] == [
        ("xenwatch", "blkback-io", "stall", 1),
        ("1.xvda-0", "blkback-io", "will-stall", 1),
    ]
    host = json.loads(render.host_json(View(threads=()), found))
    assert host["findings"] == stack
    assert host["verdict"] == "gone"
