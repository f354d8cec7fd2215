# SPDX-License-Identifier: LGPL-2.1-or-later
"""xlmt on a real Xen. Witnesses: xenstored's own log, the hypervisor's own list, the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.stall import DiskStall
from tests.lab.vm import Lab
from tests.lab.witness import (
    domid_of,
    domids,
    leave_nothing,
    nodes,
    states,
    trace,
    wait_gone,
    wait_up,
)
from tests.stack.product import assert_node_came_first, assert_node_went_last
from tests.stack.trace import writes

PV = "/etc/xen/demo-pv.cfg"
NO_VIF = f"{PV} 'vif=[]'"
# The stack tier has the contract on both daemons; here a few show that dom0's kernel gets on with
# the other one, too.


@pytest.fixture(autouse=True)
def _no_guests_left(lab: Lab) -> Iterator[None]:
    yield
    leave_nothing(lab)


@pytest.mark.parametrize(
    ("lab", "kind"),
    [
        ("c", "pv"),
        *(pytest.param(host, "pv", marks=pytest.mark.long) for host in ("c-bookworm", "ocaml")),
        *(pytest.param("c-one", kind, marks=pytest.mark.long) for kind in ("pvh", "hvm")),
    ],
    indirect=["lab"],
    scope="session",
)
def test_a_guest_has_its_node_from_first_to_last(lab: Lab, kind: str) -> None:
    create = f"xlmt create /etc/xen/demo-{kind}.cfg"
    lab.run(create, 120, check=True)
    domid = domid_of(lab, f"demo-{kind}")
    assert_node_came_first(trace(lab), domid)
    assert "n0" in lab.run(f"xenstore-ls -p /local/domain/0/mtwatch | grep '^{domid} '").out
    assert states(lab) == {domid: "ok"}
    refused = lab.run(create, 120)
    assert refused.rc == 1
    assert "already exists" in refused.err
    assert domids(lab) == {domid} == nodes(lab)
    wait_up(lab, f"demo-{kind}")
    lab.run(f"xlmt destroy demo-{kind}", 120, check=True)
    assert_node_went_last(trace(lab), domid)
    assert nodes(lab) == set()
    wait_gone(lab)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("'kernel=\"/nowhere\"'", id="missing-kernel", marks=pytest.mark.long),
        pytest.param("'disk=[\"phy:/dev/nowhere,xvda,w\"]'", id="missing-disk"),
    ],
)
def test_a_creation_that_fails_leaves_nothing(lab: Lab, fault: str) -> None:
    failed = lab.run(f"xlmt create {NO_VIF} {fault}", 180)
    assert failed.rc == 1
    assert "nowhere" in failed.err
    assert "Traceback" not in failed.err
    wait_gone(lab)
    assert nodes(lab) == set()


def test_the_console_is_there_until_a_guest_powers_off_and_takes_its_node_along(lab: Lab) -> None:
    extra = "'extra=\"console=hvc0 quiet xlmt.do=poweroff\"'"
    lab.push("/run/watch", f"exec xlmt create -c {NO_VIF} {extra}\n")
    watch = lab.spawn("script -qefc 'sh /run/watch' /run/typescript")
    assert watch.wait(180).rc == 0
    assert "GUEST UP" in lab.read("/run/typescript")
    lab.wait_for("! xl domid demo-pv", 120)
    lab.wait_for("! xenstore-list /local/domain/0/mtwatch | grep .", 30)
    wait_gone(lab)


@pytest.mark.long
def test_a_crashed_guest_that_is_preserved_keeps_its_node(lab: Lab) -> None:
    extra = "'extra=\"console=hvc0 quiet xlmt.do=crash\"' 'on_crash=\"preserve\"'"
    lab.run(f"xlmt create {NO_VIF} {extra}", 120, check=True)
    domid = domid_of(lab, "demo-pv")
    lab.wait_for("grep 'crash.*preserve' /var/log/xen/xlmt-supervise.log", 120)
    assert nodes(lab) == {domid}
    assert states(lab) == {domid: "ok"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("lab", "kind"),
    [("c", "pv"), ("c-one", "pvh"), ("c-one", "hvm")],
    indirect=["lab"],
    scope="session",
)
def test_the_real_xl_under_the_hook(lab: Lab, kind: str) -> None:
    """The guest is shut down by its own hand, so it has run on after it was saved."""
    name = f"demo-{kind}"
    lab.run(f"xlmt xl create /etc/xen/{name}.cfg 'vif=[]'", 120, check=True)
    first = domid_of(lab, name)
    assert_node_came_first(trace(lab), first)
    wait_up(lab, name)
    lab.run(f"xlmt xl save {name} /var/lib/xen/saved", 120, check=True)
    assert_node_went_last(trace(lab), first)
    lab.run("xlmt xl restore /var/lib/xen/saved && rm /var/lib/xen/saved", 120, check=True)
    second = domid_of(lab, name)
    assert_node_came_first(trace(lab), second)
    lab.run(f"xlmt xl shutdown -w {name}", 240, check=True)
    wait_gone(lab)
    assert_node_went_last(trace(lab), second)
    assert nodes(lab) == set()


def changed(lab: Lab, command: str) -> tuple[str, list[tuple[str, str]]]:
    """Run it; return what it said and what the daemon's log says it sent of changes."""
    before = len(trace(lab))
    said = lab.run(command, 60, check=True).out
    return said, [(r.op, r.path) for r in writes(trace(lab)[before:])]


@pytest.mark.long
def test_what_plain_xl_leaves_out_is_found_and_put_right(lab: Lab) -> None:
    lab.run(f"xl create {NO_VIF}", 120, check=True)
    domid = domid_of(lab, "demo-pv")
    wait_up(lab, "demo-pv")
    node = f"/local/domain/0/mtwatch/{domid}"
    assert states(lab) == {domid: "missing"}
    assert lab.run("xlmt reconcile --dry-run").rc == 3
    said, changes = changed(lab, "xlmt reconcile")
    assert said == f"node {domid} added: demo-pv (domain {domid}) runs without a node\n"
    assert [change for change in changes if change[1].startswith("/local/domain/0/mtwatch/")] == [
        ("MKDIR", node),
        ("SET_PERMS", node),
    ]
    assert states(lab) == {domid: "ok"}
    assert "n0" in lab.run(f"xenstore-ls -p /local/domain/0/mtwatch | grep '^{domid} '").out
    lab.run(f"xenstore-chmod {node} b0 && xenstore-write {node} x", check=True)
    assert "repaired" in lab.run("xlmt repair demo-pv", check=True).out
    assert "in order" in lab.run("xlmt repair demo-pv", check=True).out
    lab.run("xl destroy demo-pv", 120, check=True)
    wait_gone(lab)
    assert states(lab) == {domid: "orphan"}
    said, changes = changed(lab, "xlmt reconcile")
    assert said.startswith(f"node {domid} removed: domain {domid} is gone")
    assert changes == [("RM", node)]
    assert lab.run("xlmt reconcile").out == ""


@pytest.mark.long
def test_a_backend_that_is_off_its_bus_keeps_the_node_until_the_kernel_lets_go(lab: Lab) -> None:
    with DiskStall(lab, create="xlmt create -e /etc/xen/stall-disk.cfg") as stall:
        vbd = f"vbd-{stall.domid}-51712"
        # Its removal would wait behind the disk's, on the bus, and keep the node by itself.
        lab.run(f"xenstore-rm /local/domain/0/backend/console/{stall.domid}", check=True)
        lab.wait_for(f"! test -e /sys/devices/console-{stall.domid}-0")
        assert vbd in lab.run("xlmt destroy stall-disk", 120).err
        assert "xen_blkbk_remove" in stall.wait_begun()
        assert lab.run("ls /sys/bus/xen-backend/devices").out == ""
        assert nodes(lab) == {stall.domid}
        assert states(lab) == {stall.domid: "lingering"}
        assert vbd in lab.run("xlmt list", check=True).out
        assert lab.run("xlmt reconcile", 60, check=True).out == ""
        assert nodes(lab) == {stall.domid}
        stall.release()
        lab.wait_for(f"! test -e /sys/devices/{vbd}", 60)
        wait_gone(lab)
        assert "removed" in lab.run("xlmt reconcile", 60, check=True).out
        assert nodes(lab) == set()
