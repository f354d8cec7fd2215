# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that is stuck loads the module by itself, if its administrator wants that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.dmesg import quiet, stalls_are_meant
from tests.lab.hosts import KERNELS
from tests.lab.mtwatch import status, unload, wait_status
from tests.lab.stall import DiskStall, Stall
from tests.lab.test_supervise import LOG, supervising
from tests.lab.vm import Lab
from tests.lab.witness import leave_nothing

PV = "/etc/xen/demo-pv.cfg"
RECORD = "/run/xlmt/rescue.json"


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    lab.run(f"rm -f {RECORD}", check=True)
    with quiet(lab), stalls_are_meant(lab):
        yield
        leave_nothing(lab)
        lab.run(f"rm -f {RECORD}", check=True)


@pytest.mark.long
@KERNELS
def test_a_stuck_host_rescues_itself_once(lab: Lab) -> None:
    with supervising(lab, "--rescue"), DiskStall(lab) as stall:
        destroying = lab.spawn(f"xl destroy {stall.name}")
        stall.wait_begun()
        lab.wait_for(f"grep 'xenwatch is stuck: new guests work now' {LOG}", 120)
        assert re.search(r"xenwatch has been stuck for [67]\d\.\d s: loading", lab.read(LOG))
        record = json.loads(lab.read(RECORD))
        assert (record["result"], record["reason"]) == ("loaded", None)
        assert record["stalled_s"] >= 60
        lab.run(f"xlmt create {PV}", 180, check=True)
        lab.run("xlmt destroy demo-pv", 120, check=True)
        stall.release()
        destroying.wait(120)
        wait_status(lab, "^module .* partial=0 ", 60)
        unload(lab)
        assert lab.read(LOG).count("loading xen_mtwatch") == 1


TRACER = "/sys/kernel/debug/tracing/instances/mine"


@pytest.mark.long
@KERNELS
def test_a_tracer_that_cannot_end_keeps_the_module_out_which_is_told(lab: Lab) -> None:
    """Whoever ends one has ftrace locked until RCU-tasks is through: netback's thread spins."""
    with Stall(lab) as stall:
        lab.run(
            f"set -e; mkdir {TRACER}; cd {TRACER}; echo xenbus_exists > set_ftrace_filter; "
            "echo function > current_tracer",
            check=True,
        )
        destroying = lab.spawn(f"xl destroy {stall.name}")
        stall.wait_begun()
        assert stall.cpu_time() > 100
        ending = lab.spawn(f"echo nop > {TRACER}/current_tracer")
        lab.wait_for("grep -l synchronize_rcu_tasks /proc/[1-9]*/stack", 30)
        told = lab.run("xlmt kernel load", 90)
        assert told.rc != 0
        assert "ftrace is locked: somebody has ended a tracer" in told.err
        assert lab.run("grep -l synchronize_rcu_tasks /proc/[1-9]*/stack").out != ""
        stall.release()
        destroying.wait(120)
        ending.wait(60)
        lab.run(f"rmdir {TRACER}", check=True)
        lab.run("modprobe xen_mtwatch", check=True)
        wait_status(lab, "^module .* partial=0 ", 60)
        unload(lab)


MEMORY = "/sys/devices/system/xen_memory/xen_memory0"
SOCKETS = "/run/xenstored/socket*"


@contextmanager
def without_sockets(lab: Lab) -> Iterator[None]:
    """libxl finds none of xenstored's, as when that has a domain of its own."""
    lab.run(f"mkdir /run/away && mv {SOCKETS} /run/away", check=True)
    try:
        yield
    finally:
        lab.run("mv /run/away/* /run/xenstored/ && rmdir /run/away", check=True)


@pytest.mark.long
@KERNELS
def test_a_stuck_host_makes_room_and_needs_no_socket(lab: Lab) -> None:
    """What creating a guest may need of xenwatch besides: the balloon driver, /dev/xen/xenbus."""
    target = int(lab.read(f"{MEMORY}/target_kb"))
    less = target - (64 << 10)
    with DiskStall(lab) as stall:
        destroying = lab.spawn(f"xl destroy {stall.name}")
        stall.wait_begun()
        lab.run(f"xl mem-set 0 {less >> 10}", 30, check=True)
        assert lab.run(f"sleep 5; cat {MEMORY}/target_kb").out.strip() == str(target)
        lab.run("modprobe xen_mtwatch", check=True)
        lab.run(f"xl mem-set 0 {less >> 10}", 30, check=True)
        lab.wait_for(f"[ $(cat {MEMORY}/info/current_kb) -le {less} ]", 60)
        with without_sockets(lab):
            lab.run(f"xl create {PV}", 180, check=True)
            assert int(status(lab, "users")["done"]) > 0
            lab.run("xl destroy demo-pv", 120, check=True)
        assert stall.stack() != ""
        stall.release()
        destroying.wait(120)
        lab.run(f"xl mem-set 0 {target >> 10}", 30, check=True)
        lab.wait_for(f"[ $(cat {MEMORY}/info/current_kb) -ge {target} ]", 60)
        wait_status(lab, "^module .* partial=0 ", 60)
        unload(lab)
