# SPDX-License-Identifier: LGPL-2.1-or-later
"""The screens of xlmt-doctor(8), which came out of the lab: the code says the same of such hosts.

In the manual their lines are broken: the words are what is compared.
"""

import re
from datetime import datetime
from pathlib import Path

from xlmt.doctor import render
from xlmt.doctor.actions import Network
from xlmt.doctor.causes import cause_of
from xlmt.doctor.findings import Finding, Surroundings, of_host
from xlmt.doctor.holders import Disk, Holder, Lender, Link, What
from xlmt.doctor.model import Check, Host, State, Zombie
from xlmt.doctor.traces import Report, Trace
from xlmt.kernel.diagnose import Half, View
from xlmt.kernel.status import Module, Share, Status
from xlmt.model import Doing, Spinner, Thread

MANUAL = Path(__file__).parents[3] / "man/xlmt-doctor.8"
SCREEN = re.compile(r"^# xlmt doctor\n(.*?)^\.Ed$", re.MULTILINE | re.DOTALL)
CHECKS = (
    *("nodes", "supervisor", "xenstored", "drivers", "hotplug", "interposer", "hung tasks"),
    *("persistent grants", "guard", "rescue"),
)
WELL = tuple(Check(name, State.OK, "") for name in CHECKS)
IDLE = Thread("xenwatch", 36, "S")
BARE = View(release="6.12.118+deb13-amd64", threads=(IDLE,))
FRAMES = (
    *("kthread_stop", "xenvif_disconnect_queue", "xenvif_disconnect_data"),
    *("backend_disconnect", "set_backend_state", "frontend_changed"),
)
OF_A_DISK = ("kthread_stop", "xen_blkif_disconnect", "xen_blkbk_remove", "xenbus_dev_remove")
OF_A_WORKER = ("blk_mq_get_tag", "submit_bio_noacct_nocheck", "xen_blkif_schedule", "kthread")


def loaded(*shares: Share) -> View:
    status = Status(Module("0.1", "on"), domains=shares)
    return BARE._replace(half=Half.MODULE, version="0.1", status=status)


def of_packets(view: View, domid: int, trace: Trace, spins: str, packets: int, at: str) -> Host:
    """A guest is destroyed while the queue of a bridge's port has packets of it."""
    vif = f"vif{domid}.0"
    around = Surroundings(
        [Spinner(spins, 342, vif, domid, 0.99)] if spins else [],
        Network(
            [Link(vif, 7, master="br0"), Link("sink0", 5, "dummy", "br0"), Link("br0", 3)],
            [Lender(vif, domid, packets, down=True)],
        ),
        [Holder(What.QUEUE, "sink0", "netem", packets=packets)],
        backends={domid: (f"vif-{domid}-0",)},
    )
    owner = None if spins else domid  # a thread of a guest's own says whose it is
    found = of_host([Finding(trace, cause_of(trace), owner)], around)
    zombie = Zombie(domid, 0, (f"vif-{domid}-0",))
    return Host(view, tuple(found), WELL, (zombie,), datetime.fromisoformat(at).timestamp())


def well() -> Host:
    return Host(loaded(Share(3, 465)), (), WELL)


def exposed() -> Host:
    return Host(BARE, (), WELL)


def by_packets() -> Host:
    view = BARE._replace(threads=(IDLE._replace(state="D", stalled_s=43.2),), frames={36: FRAMES})
    trace = Trace("xenwatch", FRAMES, Report.HUNG, 36, 43)
    return of_packets(view, 4, trace, "vif4.0-q0-dealloc", 14, "2026-11-28T19:23:40Z")


def by_storage() -> Host:
    """A guest is destroyed whose disk is on a suspended one; it does not say any more on which."""
    view = BARE._replace(
        threads=(IDLE._replace(state="D", stalled_s=37.0),), frames={36: OF_A_DISK}
    )
    traces = (
        Trace("xenwatch", OF_A_DISK, Report.HUNG, 36, 37),
        Trace("1.xvda-0", OF_A_WORKER, Report.HUNG, 333, 37),
    )
    devices = ("console-1-0", "vbd-1-51712")
    disks = {
        "dm-0": Disk("dm-0", "dm", ("loop1",), state="suspended", detail="stall"),
        "loop4": Disk("loop4", "loop", ("dm-0",), requests=4, stands=True),
    }
    around = Surroundings(disks=disks, backends={1: devices})
    found = of_host([Finding(trace, cause_of(trace)) for trace in traces], around)
    at = datetime.fromisoformat("2026-11-29T08:27:41Z").timestamp()
    return Host(view, tuple(found), WELL, (Zombie(1, 2048, devices),), at)


def contained() -> Host:
    doing = Doing("frontend_changed", "/local/domain/1/device/vif/0/state", 27.7, 2)
    view = loaded(Share(1, 261, doing=doing), Share(2, 349))
    trace = Trace("xen-mtwatch-1", FRAMES, Report.HUNG, 261, 27)
    return of_packets(view, 1, trace, "", 42, "2026-11-28T19:21:06Z")


def xenbus_gone() -> Host:
    """What asks for an answer itself waits for ever."""
    gone = Trace("xenbus", (), Report.CRASH)
    asks = Trace("modprobe", ("xs_talkv", "xs_single"), Report.HUNG, 1658, 22)
    found = of_host([Finding(trace, cause_of(trace)) for trace in (gone, asks)], Surroundings())
    at = datetime.fromisoformat("2026-11-29T08:33:06Z").timestamp()
    return Host(BARE._replace(xenbus=False), tuple(found), WELL, at=at)


#: In the manual's order.
HOSTS = (well, exposed, by_packets, by_storage, contained, xenbus_gone)


def test_the_manual_shows_what_is_printed() -> None:
    shown = [" ".join(text.split()) for text in SCREEN.findall(MANUAL.read_text())]
    assert shown == [" ".join(render.host_text(host()).split()) for host in HOSTS]
