# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guarded guest cannot stall xenwatch by its packets, on stock kernels without any module.

Witnesses: netback's own count of what it has lent, the queue that has the packets, and the state of
xenwatch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

import pytest

from tests.lab.dmesg import quiet, stalls_are_meant
from tests.lab.hosts import KERNELS, KERNELS_IF_LONG
from tests.lab.stall import BondStall, FirewallStall, Stall, TapStall, VethStall
from tests.lab.test_supervise import LOG, supervising
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, leave_nothing, wait_gone, wait_up

LONG = pytest.mark.long
OTHERS = (BondStall, VethStall, FirewallStall, TapStall)
CONFIG = f"/etc/xen/{Stall.NAME}.cfg"
PV = "/etc/xen/demo-pv.cfg"


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    assert lab.run("lsmod | grep xen_mtwatch").out == ""
    with quiet(lab), stalls_are_meant(lab):
        yield
        leave_nothing(lab)
        lab.run("rm -rf /var/lib/xlmt", check=True)


def forget(lab: Lab, stall: Stall) -> None:
    """Have the queue drop what it has, and keep what comes from now on."""
    lab.run(stall.RELEASE, check=True)
    lab.run("tc qdisc replace dev sink0 root netem delay 270s rate 8bit limit 100000", check=True)


def counted(lab: Lab, domid: int) -> dict[str, int]:
    """What netback has lent (sent), and what of that came back: used (success), copied (fail)."""
    said = lab.run(f"ethtool -S vif{domid}.0", check=True).out
    return {
        what: sum(map(int, re.findall(rf"zerocopy_{what}: (\d+)", said)))
        for what in ("sent", "success", "fail")
    }


def lent(lab: Lab, domid: int) -> int:
    """How many packets are lent just now: the least of some looks, as one may be on its way."""
    looks = [counted(lab, domid) for _ in range(5)]
    return min(look["sent"] - look["success"] - look["fail"] for look in looks)


def state(lab: Lab) -> str:
    return lab.run("ps -o stat= -C xenwatch").out.strip()


def nothing_stalls(lab: Lab, stall: Stall) -> None:
    """It is destroyed while a queue has its packets, and other guests come and go."""
    assert stall.held() > 0
    lab.run("xlmt destroy stall", 120, check=True)
    if stall.OUTLAST:
        assert stall.held() > 0
    assert state(lab) == "S"
    lab.wait_for(f"! ls /sys/devices | grep -e '-{stall.domid}-'", 30)
    lab.run(f"xl create {PV}", 120, check=True)
    lab.run("xl destroy demo-pv", 120, check=True)


def nothing_was_ever_lent(lab: Lab, stall: Stall) -> None:
    """Neither by now, nor before its queue had a packet."""
    stall.wait_more()
    # Not each frame is one that would be lent: those that fit into a header never are.
    lab.wait_for(f"ethtool -S vif{stall.domid}.0 | grep 'zerocopy_fail: [1-9]'")
    assert lent(lab, stall.domid) == 0
    assert counted(lab, stall.domid)["success"] == 0


@LONG
@KERNELS
def test_a_guest_that_is_not_guarded_stalls_xenwatch(lab: Lab) -> None:
    with supervising(lab), Stall(lab) as stall:
        destroying = lab.spawn("xlmt destroy stall")
        assert "kthread_stop" in stall.wait_begun()
        assert state(lab) == "D"
        stall.release()
        destroying.wait(120)


@pytest.mark.parametrize(
    "stalled",
    [Stall, *(pytest.param(other, marks=LONG) for other in OTHERS)],
    ids=lambda stalled: stalled.__name__,
)
@KERNELS_IF_LONG
def test_a_guarded_guest_does_not_stall_xenwatch(lab: Lab, stalled: type[Stall]) -> None:
    """Wherever its packets are kept; that one without a guard does is shown in test_doctor.py."""
    with supervising(lab):
        assert lab.run("xlmt guard on", check=True).out == "guard: on for all guests\n"
        with stalled(lab, guarded=True) as stall:
            nothing_was_ever_lent(lab, stall)
            shown = lab.run("xlmt guard", check=True).out
            assert re.search(
                rf"^{stall.domid} +stall +yes +vif{stall.domid}.0$", shown, re.MULTILINE
            )
            assert re.search(rf"^{stall.domid} .* guarded$", lab.run("xlmt list").out, re.MULTILINE)
            nothing_stalls(lab, stall)
        assert f"guarding vif{stall.domid}.0 of stall" in lab.read(LOG)


@LONG
@KERNELS
def test_from_the_moment_that_the_guard_is_on_nothing_more_is_lent(lab: Lab) -> None:
    with supervising(lab), Stall(lab) as stall:
        stall.wait_more()
        assert lent(lab, stall.domid) > 0
        lab.run("xlmt guard on stall", check=True)
        before, copied = lent(lab, stall.domid), counted(lab, stall.domid)["fail"]
        stall.wait_more()
        assert lent(lab, stall.domid) == before  # what was lent stays lent
        assert counted(lab, stall.domid)["fail"] > copied
        forget(lab, stall)
        stall.wait_more()
        assert lent(lab, stall.domid) == 0
        nothing_stalls(lab, stall)


@LONG
@KERNELS
def test_a_supervisor_that_is_killed_guards_again_once_it_is_back(lab: Lab) -> None:
    lab.run("xlmt guard on")
    lab.spawn("exec xlmt supervise")
    lab.wait_for("xlmt guard", 60)
    with Stall(lab, guarded=True) as stall:
        lab.run("kill -KILL $(cat /run/xlmt/supervise.pid)", check=True)
        lab.wait_for("! xlmt guard", 30)
        stall.wait_more()
        assert lent(lab, stall.domid) > 0
        with supervising(lab):
            lab.run("xlmt guard", check=True)
            forget(lab, stall)
            stall.wait_more()
            assert lent(lab, stall.domid) == 0
            nothing_stalls(lab, stall)


@LONG
@KERNELS
def test_a_guest_that_reboots_is_guarded_in_each_of_its_lives(lab: Lab) -> None:
    words = "xlmt.ping=10.0.0.9 xlmt.do=reboot xlmt.after=40"
    extra = f"'extra=\"console=hvc0 quiet {words}\"'"
    with supervising(lab, "--restart-limit 0"):
        lab.run("xlmt guard on stall")
        with Stall(lab, f"xlmt create {CONFIG} {extra}", guarded=True) as stall:
            nothing_was_ever_lent(lab, stall)
            wait_up(lab, "stall", 2)
            stall.domid = domid_of(lab, "stall")
            nothing_was_ever_lent(lab, stall)
            nothing_stalls(lab, stall)
            wait_gone(lab)


class Redirected(Stall):
    """Its packets never come to the bridge: tc(8) takes them from the vif to the queue."""

    MODULES: ClassVar = f"{Stall.MODULES} sch_ingress cls_matchall act_mirred"

    def _lend(self) -> None:
        vif = f"vif{self.domid}.0"
        self._lab.run(
            f"tc qdisc add dev {vif} handle ffff: ingress && tc filter add dev {vif} parent ffff: "
            "matchall action mirred egress redirect dev sink0",
            check=True,
        )
        self._lab.run(f"xl unpause {self.name}", check=True)
        super()._lend()


@LONG
@KERNELS
def test_a_vif_that_tc_redirects_is_guarded_as_well(lab: Lab) -> None:
    with supervising(lab):
        lab.run("xlmt guard on", check=True)
        with Redirected(lab, f"xl create -p {CONFIG}", guarded=True) as stall:
            nothing_was_ever_lent(lab, stall)
            nothing_stalls(lab, stall)
