# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose device a stuck thread is at, by the threads beside it; and what is said of it."""

import pytest

from xlmt.doctor import findings, render
from xlmt.doctor.actions import Level, Network
from xlmt.doctor.causes import Cause, Kind, Verdict, cause_of
from xlmt.doctor.findings import Finding, Surroundings
from xlmt.doctor.holders import Disk, Holder, Lender, Link, What
from xlmt.doctor.model import Host
from xlmt.doctor.traces import Report, Trace
from xlmt.kernel.diagnose import View
from xlmt.model import Spinner

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


LENDER = Lender("web", 3, 24, down=True)


@pytest.mark.parametrize(
    ("vifs", "domid"),
    [
        ([LENDER], 3),
        ([LENDER, Lender("vif4.0", 4, 9)], 3),  # is up: its packets are on their way
        ([LENDER, Lender("vif4.0", 4, 0, down=True)], 3),
        ([LENDER, Lender("vif4.0", 4, 9, down=True)], None),
        ([], None),
    ],
)
def test_an_interface_that_is_down_and_has_lent_tells_whose_packets_are_out(
    vifs: list[Lender], domid: int | None
) -> None:
    stall = Finding(VIF, Cause(Kind.NETBACK_INFLIGHT, Verdict.STALL))
    (told,) = findings.with_guests([stall], (), vifs)
    assert told.domid == domid
    assert told.evidence == ("web is down and has lent 24 packets" if domid else "")


def test_a_thread_that_spins_says_more_than_interfaces() -> None:
    stall = Finding(VIF, Cause(Kind.NETBACK_INFLIGHT, Verdict.STALL))
    (told,) = findings.with_guests([stall], [SPINNER._replace(domid=4)], [LENDER])
    assert told.domid == 4


STALL = Finding(VIF, Cause(Kind.NETBACK_INFLIGHT, Verdict.STALL, "xenvif_disconnect_data"))
SINK = Holder(What.QUEUE, "sink0", "netem", packets=37)
PORT = Link("sink0", 4, "dummy", master="br0")
AROUND = Surroundings(
    [SPINNER],
    Network([PORT, Link("vif3.0", 5, master="br0")], [Lender("vif3.0", 3)]),
    [SINK],
    backends={3: ("vbd-3-51712", "vif-3-0")},
)


def test_a_stall_is_told_with_its_device_its_holder_and_its_way_out() -> None:
    (found,) = findings.of_host([STALL], AROUND)
    assert (found.domid, found.device) == (3, "vif-3-0")
    assert found.holders == (SINK._replace(on_path=True),)
    assert [action.level for action in found.actions] == [Level.PACKETS]


def test_of_two_devices_none_is_named() -> None:
    around = AROUND._replace(backends={3: ("vif-3-0", "vif-3-1")})
    assert findings.of_host([STALL], around)[0].device is None


HUNG_DISK = Disk("nbd0", "nbd", (), 4, stands=True, guests=frozenset({1}))


def of_disks(*them: Disk, workers: str) -> list[Finding]:
    """xenwatch waits for domain 1's disk; these guests' threads wait."""
    traces = [XENWATCH, *(worker(f"{domid}.xvda-0") for domid in workers)]
    found = [Finding(trace, cause_of(trace)) for trace in traces]
    return findings.of_host(found, Surroundings(disks={disk.name: disk for disk in them}))


def test_the_storage_below_two_guests_is_to_blame() -> None:
    first, *_ = of_disks(HUNG_DISK, workers="12")
    assert first.shared == (1, 2)
    assert {action.level for action in first.actions} == {Level.SAID}
    said = render.host_text(Host(View(names={1: "web", 2: "db"}), (first,)))
    below = "nbd0 is below the disks of web (domain 1) and db (domain 2)"
    assert f"; {below}: the storage is to blame, and no guest is" in said


def test_a_guest_whose_disk_is_another_one_is_not_counted() -> None:
    slow = Disk("sdb", "scsi", (), 9, guests=frozenset({2}))
    first, *_ = of_disks(HUNG_DISK, slow, workers="12")
    assert first.shared == ()


def test_two_disks_that_hang_are_no_common_cause() -> None:
    first, *_ = of_disks(HUNG_DISK, HUNG_DISK._replace(name="nbd1"), workers="12")
    assert first.shared == ()


def test_one_guest_alone_may_lose_its_own_data() -> None:
    first, *_ = of_disks(HUNG_DISK, workers="1")
    assert (first.domid, first.shared) == (1, ())
    assert [action.level for action in first.actions] == [Level.DATA]
