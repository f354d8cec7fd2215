# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real stall of one guest leaves the others alone, with xen_mtwatch in a stock kernel.

Witnesses: the kernel's own list of threads and their stacks; what a guest itself says of its disk
and its network. How long things take is bench/kernel's: a test would only be flaky.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator

import pytest

from tests.lab.dmesg import quiet, stalls_are_meant
from tests.lab.hosts import UPSTREAM
from tests.lab.mtwatch import loaded, status, wait_ended, wait_status
from tests.lab.stall import DiskStall, Stall
from tests.lab.vm import Lab
from tests.lab.witness import (
    domid_of,
    end_supervisor,
    leave_nothing,
    nodes,
    states,
    wait_gone,
    wait_up,
)

ROUNDS = int(os.environ.get("XLMT_LAB_ROUNDS", "1"))  # more is the long version
CYCLES = int(os.environ.get("XLMT_LAB_CYCLES", "2"))
STALLS = {
    "c-netback": ("c", Stall),
    "c-blkback": ("c", DiskStall),
    "c-bookworm-netback": ("c-bookworm", Stall),
    "c-bookworm-blkback": ("c-bookworm", DiskStall),
    "c-newest-netback": ("c-newest", Stall),
    "c-pvh-blkback": ("c-pvh", DiskStall),
}
PV = "/etc/xen/demo-pv.cfg"
CHECK = (
    f"{PV} 'disk=[\"phy:/dev/loop5,xvda,w\"]'"
    " 'extra=\"console=hvc0 quiet xlmt.check=10.0.0.1,xvda\"'"
)


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    lab.run("dmesg -n 4", check=True)
    lab.run("ip addr replace 10.0.0.1/24 dev br0; truncate -s 16M /run/disk", check=True)
    lab.run("losetup /dev/loop5 || losetup /dev/loop5 /run/disk", check=True)
    with stalls_are_meant(lab):
        yield
        leave_nothing(lab)
    lab.run("losetup -d /dev/loop5; rm -f /run/disk; ip addr del 10.0.0.1/24 dev br0")


def each_stall(in_ci: str) -> pytest.MarkDecorator:
    """All of them; all but one are long."""
    cases = [
        pytest.param(*stall, id=name, marks=[] if name == in_ci else pytest.mark.long)
        for name, stall in STALLS.items()
    ]
    return pytest.mark.parametrize(("lab", "stalled"), cases, indirect=["lab"], scope="session")


def thread_states(lab: Lab, *threads: str) -> list[str]:
    return [lab.run(f"ps -o stat= -C {thread}").out.strip() for thread in threads]


def works(lab: Lab) -> None:
    """A guest is created, reads and writes, sends and receives, and is destroyed."""
    lab.run("rm -f /var/log/xen/console/guest-demo-pv.log")
    lab.run(f"xlmt create {CHECK}", 180, check=True)
    wait_up(lab, "demo-pv")
    said = lab.guest_console("demo-pv")
    assert "DISK OK" in said
    assert "NET OK" in said
    domid = domid_of(lab, "demo-pv")
    lab.run("xlmt destroy demo-pv", 180, check=True)
    lab.wait_for(f"! ls /sys/devices | grep -e '-{domid}-'")


def doctor_says(lab: Lab, stall: Stall, task: str, verdict: str) -> None:
    """Who is stuck, in what, and because of which guest; its name may be gone with its home."""
    told = lab.run("xlmt doctor -o json", 30)
    assert told.rc == 3
    found = {finding["task"]: finding for finding in json.loads(told.out)["findings"]}
    said = [found[task][key] for key in ("kind", "verdict", "domid")]
    assert said == [stall.KIND, verdict, stall.domid]


def the_node_is_kept(lab: Lab, stall: Stall) -> None:
    """It is destroyed, which stalls xenwatch; `destroy` says so, and nobody removes the node."""
    failed = lab.run(f"xlmt destroy {stall.name}", 120)
    stall.wait_begun("xenwatch")
    assert re.search(rf"(vif|vbd)-{stall.domid}-", failed.err)
    assert "node is kept" in failed.err
    assert "xlmt reconcile" in failed.err
    assert states(lab)[stall.domid] in {"lingering", "transition"}
    assert lab.run("xlmt reconcile", 60, check=True).out == ""
    assert nodes(lab) == {stall.domid}


def its_devices_go(lab: Lab, domid: int) -> None:
    lab.wait_for(f"! ls /sys/devices | grep -e '-{domid}-'", 90)
    wait_gone(lab)


def nothing_is_left(lab: Lab, domid: int) -> None:
    its_devices_go(lab, domid)
    lab.run("xlmt reconcile", 60, check=True)
    assert nodes(lab) == set()
    assert lab.run("xenstore-list /local/domain/0/backend").out == ""


@each_stall("c-bookworm-blkback")
def test_a_stalled_guest_is_alone_with_it(lab: Lab, stalled: type[Stall]) -> None:
    create = f"xlmt create -e /etc/xen/{stalled.NAME}.cfg"
    with loaded(lab), stalled(lab, create=create) as stall:
        destroying = lab.spawn(f"xlmt destroy {stall.name}")
        thread = f"xen-mtwatch-{stall.domid}"
        stall.wait_begun(thread)
        for _ in range(ROUNDS):
            works(lab)
        assert thread_states(lab, "xenwatch", thread) == ["S", "D"]
        told = lab.run("xlmt kernel status")
        assert told.rc == 3
        assert told.out.startswith(thread)
        assert "other guests are not affected" in told.out
        view = json.loads(lab.run("xlmt kernel status -o json").out)
        assert [t["domid"] for t in view["threads"] if t["stalled_s"]] == [stall.domid]
        doctor_says(lab, stall, thread, "contained")
        doing = status(lab, "domain", stall.domid)["callback"]
        rows = lab.run("xlmt list").out.splitlines()
        row = next(row for row in rows if row.startswith(f"{stall.domid} "))
        assert re.search(rf" D \d+ {doing} \d", row), row
        refused = lab.run("xlmt kernel unload --timeout 2", 30)
        assert refused.rc == 4
        assert thread in refused.err
        assert nodes(lab) == {stall.domid}
        stall.release()
        destroying.wait(120)
        nothing_is_left(lab, stall.domid)
        wait_ended(lab, stall.domid)


@each_stall("c-blkback")
def test_a_host_that_is_stuck_already_is_rescued(lab: Lab, stalled: type[Stall]) -> None:
    """Without the module no guest can be created; it is loaded then, and new guests work."""
    create = f"xlmt create -e /etc/xen/{stalled.NAME}.cfg"
    with quiet(lab), stalled(lab, create=create) as stall:
        assert stall.stack() == ""
        the_node_is_kept(lab, stall)
        assert "kthread_stop" in stall.stack()
        failed = lab.run(f"xl create {CHECK}", 240)
        assert failed.rc != 0
        assert "unable to add device with path" in failed.err
        told = lab.run("xlmt kernel status")
        assert told.rc == 3
        assert "no guest can be created" in told.out
        doctor_says(lab, stall, "xenwatch", "stall")
        loading = lab.run("xlmt kernel load", 60, check=True)
        assert "xenwatch is stuck: new guests work now" in loading.out
        if stalled is Stall:
            assert stall.cpu_time() > 100
            assert "To limit the spinning thread: xlmt kernel throttle" in told.out
            throttled = lab.run("xlmt kernel throttle", check=True).out
            assert f"vif{stall.domid}.0-q0-deall" in throttled
            assert stall.cpu_time() < 30
            assert lab.run("xlmt kernel throttle", check=True).out == "no thread is spinning\n"
        works(lab)
        assert thread_states(lab, "xenwatch") == ["D"]
        assert lab.run("xlmt kernel unload --timeout 2", 30).rc == 4
        end_supervisor(lab)
        stall.release()
        its_devices_go(lab, stall.domid)
        assert states(lab) == {stall.domid: "orphan"}
        assert "removed" in lab.run("xlmt reconcile", 60, check=True).out
        nothing_is_left(lab, stall.domid)
        wait_status(lab, "^module .* partial=0 ", 60)
        lab.run("xlmt kernel unload", 90, check=True)
        assert lab.run("lsmod | grep xen_mtwatch").out == ""
        lab.run(f"xl create {PV}", 120, check=True)


@pytest.mark.long
def test_the_guest_that_xenwatch_itself_is_caught_in_is_named(lab: Lab) -> None:
    """It has no thread, as plain xl gave it no node."""
    with loaded(lab, "mode=node", "warn_secs=2"), DiskStall(lab) as stall:
        destroying = lab.spawn(f"xl destroy {stall.name}")
        stall.wait_begun()
        warned = rf"xenwatch (pid [0-9]*) has been in .*, of domain {stall.domid}, on .*/51712"
        lab.wait_for(f"dmesg | grep '{warned}'", 30)
        told = lab.run("xlmt kernel status")
        assert told.rc == 3
        assert re.search(rf"^xenwatch .* has been in .*, of guest {stall.domid},? ", told.out)
        stall.release()
        destroying.wait(120)
        nothing_is_left(lab, stall.domid)


#: In place of Xen's hotplug scripts, which take most of a guest's time here.
VIF = """#!/bin/sh
[ "$1" != online ] || xenstore-write "$XENBUS_PATH/hotplug-status" connected
"""
BLOCK = """#!/bin/sh
[ "$1" != add ] || xenstore-write "$XENBUS_PATH/physical-device" 7:5 \\
    "$XENBUS_PATH/hotplug-status" connected
"""


def come_and_go(lab: Lab, cycles: int) -> int:
    """Guests with a node and without, in turn, while the module is loaded so many times."""
    lab.push("/run/vif", VIF, executable=True)
    lab.push("/run/block", BLOCK, executable=True)
    guest = f"{PV} 'vif=[\"script=/run/vif\"]'"
    disk = "format=raw,vdev=xvdb,access=w,script=/run/block,target=loop5"
    enabled = "/sys/module/xen_mtwatch/parameters/enabled"
    going = f"""rm -f /run/enough
        until [ -e /run/enough ]; do
            modprobe xen_mtwatch || exit
            echo on
            sleep 1
            echo 0 > {enabled}
            until rmmod xen_mtwatch 2> /dev/null; do sleep .1; done
        done"""
    module = lab.spawn(going)
    toolstacks = itertools.cycle([("xlmt create -e", "xlmt destroy"), ("xl create", "xl destroy")])
    for create, destroy in itertools.islice(toolstacks, cycles):
        lab.run(f"{create} {guest}", 180, check=True)
        lab.run(f"xl block-attach demo-pv {disk}", 120, check=True)
        lab.wait_for("[ $(cat /sys/bus/xen-backend/devices/*/state | grep -c Connected) -ge 2 ]")
        lab.run("xl block-detach demo-pv xvdb", 120, check=True)
        lab.run(f"{destroy} demo-pv", 180, check=True)
    lab.run("touch /run/enough")
    ended = module.wait(90)
    assert ended.rc == 0
    wait_gone(lab)
    assert lab.run("ls /sys/bus/xen-backend/devices; ps -e | grep mtwatch-").out == ""
    assert lab.run("lsmod | grep xen_mtwatch").out == ""
    return ended.out.count("on\n")


@pytest.mark.long
@pytest.mark.timeout(2400 + 60 * CYCLES)
def test_guests_come_and_go_while_the_module_does(lab: Lab) -> None:
    few = min(CYCLES, 10)  # the kernel's log does not reach back further
    times = []
    for _ in range(0, CYCLES, few):
        with quiet(lab):
            times.append(come_and_go(lab, few))
        assert times[-1] >= few
    print(f"{CYCLES} guests, while the module came and went {sum(times)} times")


@pytest.mark.long
def test_a_guests_kernel_refuses_it(lab: Lab) -> None:
    """Which is what a driver domain is."""
    padded = "truncate -s %512 /run/module"  # a loop device has no half sectors
    lab.run(f"cp $(modinfo -n xen_mtwatch) /run/module && {padded}", check=True)
    lab.run("losetup /dev/loop6 /run/module", check=True)
    disk = "'disk=[\"phy:/dev/loop6,xvda,r\"]' 'extra=\"console=hvc0 xlmt.insmod=xvda\"'"
    lab.run("rm -f /var/log/xen/console/guest-demo-pv.log")
    lab.run(f"xl create {PV} {disk}", 180, check=True)
    wait_up(lab, "demo-pv")
    said = lab.guest_console("demo-pv")
    leave_nothing(lab)
    lab.run("losetup -d /dev/loop6; rm /run/module", check=True)
    assert "xen_mtwatch: refused: this is for dom0, and not for a guest or a driver domain" in said
    assert "No such device" in said


@UPSTREAM
def test_with_the_patches_for_linux_a_stalled_guest_is_alone_without_a_module(lab: Lab) -> None:
    """The kernel's own workers take the place of our threads; no node says for whom."""
    with quiet(lab), Stall(lab) as stall:
        destroying = lab.spawn(f"xl destroy {stall.name}")
        stuck = f"grep -l {stall.PLACE} /proc/[0-9]*/stack"
        lab.wait_for(stuck)
        worker = lab.run(f"cat $({stuck} | sed s/stack/comm/)", check=True).out.strip()
        assert re.fullmatch(rf"kworker/u.*[+]xenwatch-{stall.domid}", worker)
        for _ in range(ROUNDS):
            works(lab)
        assert thread_states(lab, "xenwatch") == ["S"]
        assert lab.run(stuck).rc == 0
        stall.release()
        destroying.wait(120)
        nothing_is_left(lab, stall.domid)


@UPSTREAM
def test_with_the_patches_for_linux_a_directory_may_be_of_any_size(lab: Lab) -> None:
    """The kernel takes one that it cannot read for one that is gone, with the devices below."""
    with quiet(lab):
        lab.run(f"xl create {PV}", 180, check=True)
        wait_up(lab, "demo-pv")
        domid = domid_of(lab, "demo-pv")
        backend = f"/local/domain/0/backend/vif/{domid}"
        many = f"for n in $(seq 1000); do echo {backend}/another-$n; echo 0; done"
        lab.run(f"{many} | xargs -n 200 xenstore-write", 60, check=True)
        assert len(lab.run(f"xenstore-list {backend}", check=True).out) > 2 * 4096
        lab.run(f"xenstore-write {backend} ''", check=True)
        # Its events are handled in order: this one after the other.
        lab.run("xl network-attach demo-pv bridge=br0", 120, check=True)
        devices = lab.run("ls /sys/bus/xen-backend/devices", check=True).out.split()
        assert {f"vif-{domid}-0", f"vif-{domid}-1"} <= set(devices)
