# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stalls of a stock kernel, each made of stock parts: doctor names them, release ends them.

Without the module, so that nobody but the kernel's own files tells whose a stall is. Witnesses:
the stack and the state of xenwatch.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.dmesg import quiet, stalls_are_meant
from tests.lab.hosts import BOTH_IF_LONG, BOTH_RELEASES
from tests.lab.stall import (
    BondStall,
    DiskStall,
    FirewallStall,
    FrozenStall,
    NbdStall,
    Stall,
    TapStall,
    VethStall,
)
from tests.lab.table import Row
from tests.lab.vm import Background, Lab
from tests.lab.witness import domid_of, leave_nothing, wait_gone

LONG = pytest.mark.long
STORM_S = int(os.environ.get("XLMT_LAB_DOCTOR_S", "180"))  # 1800 is the long version
GUESTS = ("web", "db", "mail")


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    lab.run("dmesg -n 4", check=True)
    with stalls_are_meant(lab):
        yield
        leave_nothing(lab)


@pytest.fixture
def row(lab: Lab, record_property: Callable[[str, object], None]) -> Row:
    """What a test of a stall measures, for the table at the end of the run."""
    it = Row(linux=lab.run("uname -r | cut -d. -f1,2", check=True).out.strip())
    record_property(Row.NAME, it)
    return it


def doctor(lab: Lab, status: int) -> dict[str, Any]:
    told = lab.run("xlmt doctor -o json", 60)
    assert told.rc == status, told.out + told.err
    document: dict[str, Any] = json.loads(told.out)
    return document


def finding(document: dict[str, Any], task: str = "xenwatch") -> dict[str, Any]:
    return next(f for f in document["findings"] if f["task"] == task)


def created(lab: Lab, name: str, config: str, *more: str) -> int:
    words = " ".join([f"'name=\"{name}\"'", *more])
    lab.run(f"xlmt create -e {config} {words}", 240, check=True)
    return domid_of(lab, name)


def destroyed(lab: Lab, name: str, stall: Stall) -> None:
    """xenwatch is caught by that, and `destroy` says so."""
    lab.run(f"xlmt destroy {name}", 120)
    stall.wait_begun()


def every_command_ends(lab: Lab) -> float:
    """Also while xenwatch does not go on; with what status is no matter here.

    Returns how long the slowest takes.
    """
    took = []
    for command in ("list", "reconcile", "repair --all", "kernel status", "release --dry-run"):
        began = time.monotonic()
        lab.run(f"xlmt {command}", 15)
        took.append(time.monotonic() - began)
    return max(took)


def told_of(lab: Lab, stall: Stall, row: Row) -> dict[str, Any]:
    """What doctor says of the stall, and how long it takes."""
    began = time.monotonic()
    told = finding(doctor(lab, 3))
    row.doctor_s = time.monotonic() - began
    row.stall, row.kind = stall.WHERE, told["kind"]
    row.holder = " ".join(told["holders"][0][key] for key in ("kind", "device"))
    row.guest = " and ".join(f"domain {d}" for d in told["shared"] or [told["domid"]])
    return told


def screen(lab: Lab) -> None:
    """Print what a person sees, for the manual; shown with -s."""
    print(f"# xlmt doctor\n{lab.run('xlmt doctor', 60).out}")


def until_it_goes_on(lab: Lab) -> Background:
    """Have somebody look; prints the milliseconds from now until xenwatch is no longer in D."""
    stuck = "grep -q '^State:.D' /proc/$(pgrep -x xenwatch)/status"
    return lab.spawn(
        f"began=$EPOCHREALTIME; while {stuck}; do sleep 0.1; done; "
        "ended=$EPOCHREALTIME; echo $(((${ended/./} - ${began/./}) / 1000))"
    )


def well_again(lab: Lab, domid: int) -> None:
    lab.wait_for("! grep '^State:.D' /proc/$(pgrep -x xenwatch)/status", 60)
    lab.wait_for(f"! ls /sys/devices | grep -e '-{domid}-'", 90)
    lab.run("xlmt reconcile", 60, check=True)
    assert doctor(lab, 6)["verdict"] == "exposed"


@pytest.mark.parametrize(
    "stalled",
    [
        Stall,
        *(
            pytest.param(other, marks=LONG)
            for other in (BondStall, VethStall, FirewallStall, TapStall)
        ),
    ],
    ids=lambda stalled: stalled.__name__,
)
@BOTH_IF_LONG
def test_whose_packets_hold_the_host_and_where_they_are(
    lab: Lab, stalled: type[Stall], row: Row
) -> None:
    """All three send into the same queue; one of them is destroyed."""
    first, *others = random.sample(GUESTS, 3)
    create = f"xlmt create -e /etc/xen/stall.cfg 'name=\"{first}\"'"
    with quiet(lab), stalled(lab, create=create, name=first) as stall:
        domids = {first: stall.domid}
        for name in others:
            domids[name] = created(lab, name, "/etc/xen/stall.cfg")
            lab.wait_for(Stall.LENT.format(domid=domids[name]), 120)
        guilty = random.choice(GUESTS)
        destroyed(lab, guilty, stall)
        if stalled is Stall:
            row.slowest_command_s = every_command_ends(lab)
            screen(lab)
        told = told_of(lab, stall, row)
        assert [told[key] for key in ("kind", "verdict", "domid", "device")] == [
            *("netback-inflight", "stall", domids[guilty], f"vif-{domids[guilty]}-0")
        ]
        assert told["holders"][0]["device"] == stalled.HOLDER
        assert told["levels"][0] == stalled.LEVEL
        went_on = until_it_goes_on(lab)
        ended = lab.run(f"xlmt release {domids[guilty]} --yes", 120)
        freed_by = stalled.FREED_BY.format(domid=domids[guilty])
        assert freed_by in ended.out
        if stalled.LEVEL == "said":
            assert ended.rc == 3
            assert stall.stack()
            went_on.kill()
            went_on = until_it_goes_on(lab)
            stall.release()
            row.released(f"by hand: {freed_by}", went_on.wait().out)
        else:
            assert ended.rc == 0
            assert ended.out.endswith("nothing is stuck any more\n")
            row.released(f"xlmt release: {freed_by}", went_on.wait().out)
        if stalled.LEVEL == "packets":  # else it is the guest's own, which goes
            assert ",UP" in lab.run(f"ip link show {stalled.HOLDER}", check=True).out
        well_again(lab, domids[guilty])


def disconnected(lab: Lab) -> bool:
    """Give up the network disk. Where the kernel is amid a request it waits for the server first.

    That is said then: it depends on how much the server's socket has room for.
    """
    ended = lab.run("xlmt release --yes --most data", 120)
    if ended.rc == 0:
        return True
    assert ended.rc == 3
    assert "nbd-client -d /dev/nbd0 does not end" in ended.err
    return False


@pytest.mark.parametrize(
    "stalled",
    [DiskStall, NbdStall, FrozenStall],
    ids=lambda stalled: stalled.__name__,
)
@LONG  # the next test has the first of these, too
@BOTH_RELEASES
def test_which_disk_holds_the_host(lab: Lab, stalled: type[DiskStall], row: Row) -> None:
    create = "xlmt create -e /etc/xen/stall-disk.cfg"
    with quiet(lab), stalled(lab, create=create) as stall:
        destroyed(lab, stall.name, stall)
        if stalled is DiskStall:
            row.slowest_command_s = every_command_ends(lab)
            screen(lab)
        told = told_of(lab, stall, row)
        assert [told[key] for key in ("kind", "verdict", "domid", "shared")] == [
            *("blkback-io", "stall", stall.domid, [])
        ]
        assert told["holders"][0]["device"].startswith(stalled.HOLDER)
        assert told["levels"][0] == stalled.LEVEL
        assert lab.run("xlmt release --yes", 120).rc == 3  # which is for packets only
        went_on = until_it_goes_on(lab)
        ended = lab.run("xlmt release --yes --most device", 120)
        if stalled.LEVEL == "device":
            assert ended.rc == 0
            row.released(f"xlmt release --most device: {stalled.FREED_BY}", went_on.wait().out)
        else:  # data is lost only for who says so, and a file system is not ours to thaw
            assert ended.rc == 3
            assert stall.stack()
        if stalled.LEVEL == "said":
            assert "for you to do: fsfreeze --unfreeze /run/fs" in ended.out
        if stalled.LEVEL != "device":
            went_on.kill()
            went_on = until_it_goes_on(lab)
            if stalled.LEVEL == "data" and disconnected(lab):
                row.released(
                    "xlmt release --most data: nbd-client -d /dev/nbd0", went_on.wait().out
                )
            else:
                stall.release()
                row.released(f"by hand: {stalled.FREED_BY}", went_on.wait().out)
        well_again(lab, stall.domid)


@LONG
@BOTH_RELEASES
def test_storage_below_two_guests_is_to_blame_and_no_guest_is(lab: Lab, row: Row) -> None:
    create = "xlmt create -e /etc/xen/stall-disk.cfg"
    with quiet(lab), DiskStall(lab, create=create) as stall:
        lab.run(stall.RELEASE, check=True)  # a guest has to see its disk before that hangs
        lab.run("losetup --direct-io=on /dev/loop6 /dev/mapper/stall", check=True)
        lab.run("echo 4 > /sys/block/loop6/queue/nr_requests", check=True)
        lab.run("echo 2 > /sys/block/loop6/queue/nomerges", check=True)
        other = created(lab, "db", "/etc/xen/stall-disk.cfg", "'disk=[\"phy:/dev/loop6,xvda,w\"]'")
        lab.wait_for(stall.WRITES.format(domid=other), 120)
        lab.run(stall.HANG, check=True)
        for domid in (stall.domid, other):
            lab.wait_for(stall.LENT.format(domid=domid), 120)
        destroyed(lab, stall.name, stall)
        told = told_of(lab, stall, row)
        assert told["shared"] == sorted([stall.domid, other])
        assert "the storage is to blame, and no guest is" in told["status"]
        assert told["holders"][0]["state"] == "suspended"
        screen(lab)
        went_on = until_it_goes_on(lab)
        lab.run("xlmt release --yes --most device", 120, check=True)
        row.stall += ", of two guests"
        row.released(f"xlmt release --most device: {stall.FREED_BY}", went_on.wait().out)
        lab.run("xlmt destroy db", 120, check=True)
        wait_gone(lab)
        lab.run("losetup -d /dev/loop6", check=True)
        well_again(lab, stall.domid)


def test_a_host_that_is_well_says_so_and_each_fault_is_named(lab: Lab) -> None:
    """Faults that stall nothing: each by itself, and gone again."""
    lab.run("xlmt kernel load", 60, check=True)
    well = lab.run("xlmt doctor", 60)
    assert (well.rc, len(well.out.splitlines())) == (0, 1), well.out
    assert lab.run("xlmt doctor -x", 60, check=True).out == ""
    assert lab.run("xlmt doctor -o nagios", 60, check=True).out.startswith("XLMT OK - ")
    assert "nothing is stuck" in lab.run("xlmt release", 60, check=True).out

    def problems() -> set[str]:
        return {c["name"] for c in doctor(lab, 3)["checks"] if c["state"] == "problem"}

    lab.run("xenstore-write /local/domain/0/mtwatch/77 ''", check=True)
    assert problems() == {"nodes"}
    lab.run("xlmt reconcile", 60, check=True)
    lab.run("xl create /etc/xen/demo-pv.cfg", 240, check=True)  # and goes on as a daemon
    assert problems() == {"nodes", "interposer"}
    lab.run("xlmt reconcile", 60, check=True)
    lab.run("xlmt destroy demo-pv", 120, check=True)
    wait_gone(lab)
    lab.run("modprobe -r xen-netback", check=True)
    assert problems() == {"drivers"}
    lab.run("modprobe xen-netback", check=True)
    lab.run("pkill -STOP xenstored", check=True)
    silent = lab.run("xlmt doctor -o json", 60)
    lab.run("pkill -CONT xenstored", check=True)
    assert silent.rc == 3
    assert json.loads(silent.out)["verdict"] == "silent"
    assert lab.run("xlmt doctor -x", 60, check=True).out == ""
    lab.run("xlmt kernel unload", 90, check=True)


STORM = """
until [ -e /run/enough ]; do
    xlmt create -e /etc/xen/demo-pv.cfg "name='$1'" "disk=['phy:$2,xvda,w']" \\
        'extra="console=hvc0 quiet xlmt.write=xvda"' || exit
    sleep 5
    xlmt destroy "$1" || exit
done
"""
DISKS = {"one": "/dev/loop2", "two": "/dev/loop3"}


@LONG
@pytest.mark.timeout(2400 + 4 * STORM_S)
def test_a_host_that_is_busy_is_not_said_to_be_stuck(lab: Lab) -> None:
    """Guests come and go, and write as fast as they can; doctor looks all the while."""
    lab.push("/run/storm", STORM, executable=True)
    lab.run("truncate -s 64M /run/disk2 /run/disk3; rm -f /run/enough", check=True)
    for disk in DISKS.values():
        lab.run(f"losetup {disk} /run/disk{disk[-1]}", check=True)
        lab.run(f"echo 4 > /sys/block/{disk[5:]}/queue/nr_requests", check=True)
    storms = [lab.spawn(f"bash /run/storm {name} {disk}") for name, disk in DISKS.items()]
    looks = f"""
        end=$((SECONDS + {STORM_S})) wrong=0
        while [ $SECONDS -lt $end ]; do
            status=0
            xlmt doctor > /run/said 2>&1 || status=$?
            [ $status = 6 ] || {{ echo "status $status"; cat /run/said; wrong=1; }}
            echo looked
        done
        exit $wrong"""
    try:
        seen = lab.spawn(looks).wait(STORM_S + 120)
    finally:
        lab.run("touch /run/enough")
    print(f"{seen.out.count('looked')} looks in {STORM_S} s")
    assert seen.rc == 0, seen.out
    assert seen.out.count("looked") > STORM_S / 60
    assert [storm.wait(240).rc for storm in storms] == [0, 0]  # or it was no storm
    leave_nothing(lab)
    lab.run("losetup -d /dev/loop2; losetup -d /dev/loop3; rm -f /run/disk2 /run/disk3")


@LONG
@pytest.mark.ends_host
def test_a_xenbus_that_has_crashed_is_said_to_be_gone(lab: Lab) -> None:
    lab.spawn("modprobe mtwcrash")
    lab.wait_for("! pgrep -x xenbus", 60)
    told = doctor(lab, 3)
    assert told["verdict"] == "gone"
    assert [finding(told, "xenbus")[key] for key in ("kind", "verdict")] == ["xenbus-gone", "gone"]
    assert told["xenwatch"]["state"] == "S"  # which is all that one would see of it
    every_command_ends(lab)
    screen(lab)
