# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that systemd has booted, with what apt and `xlmt setup` have made of it.

Its packages are installed and nothing is set up; each test goes on where the one before has ended.
Those that CI runs need none of the long ones.
Witnesses: xenstored's own log of each boot, the hypervisor's list, the kernel's threads, and what
systemd knows of the units.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.lab.hosts import SYSTEMD
from tests.lab.libvirt import NAME as LIBVIRT_GUEST
from tests.lab.libvirt import XML
from tests.lab.mtwatch import NODES
from tests.lab.stall import Stall
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, domids, nodes, states, trace, wait_up
from tests.stack.product import assert_node_came_first, assert_node_went_last
from tests.stack.trace import PARSERS, writes

pytestmark = SYSTEMD

SUPERVISOR = "xlmt-supervise.service"
PV = "demo-pv"
STRAY = 900


def shown(lab: Lab, unit: str, *names: str) -> dict[str, str]:
    out = lab.run(f"systemctl show -p {','.join(names)} {unit}", check=True).out
    return dict(line.split("=", 1) for line in out.splitlines())


def began(lab: Lab, unit: str) -> int:
    """When it was started, in microseconds of this boot."""
    name = "InactiveExitTimestampMonotonic"
    return int(shown(lab, unit, name)[name])


def test_one_command_after_apt_protects_the_host(lab: Lab) -> None:
    assert lab.run("xlmt doctor", 60).rc == 6
    lab.run("xlmt setup --yes", 300, check=True)
    done = lab.run("xlmt doctor", 60)
    assert done.rc == 0, done.out
    assert "nothing to do" in lab.run("xlmt setup --yes", 120, check=True).out
    assert shown(lab, SUPERVISOR, "Type", "ActiveState", "StatusText") == {
        "Type": "notify",
        "ActiveState": "active",
        "StatusText": "0 domains, 0 nodes",
    }


@pytest.mark.long
def test_after_a_boot_everything_comes_in_order_and_guests_of_auto_run(lab: Lab) -> None:
    lab.run(f"mkdir -p /etc/xen/auto && ln -sf ../{PV}.cfg /etc/xen/auto/", check=True)
    lab.reboot()
    lab.wait_for("systemctl is-active xendomains", 240)
    wait_up(lab, PV)
    domid = domid_of(lab, PV)
    assert_node_came_first(trace(lab), domid)
    assert lab.run(f"pgrep -x xen-mtwatch-{domid}").rc == 0
    lab.wait_for(f"systemctl is-active {SUPERVISOR}", 120)
    units = ["systemd-modules-load.service", "xen.service", SUPERVISOR, "xendomains.service"]
    times = [began(lab, unit) for unit in units]
    assert times == sorted(times)
    assert lab.run("systemctl --failed --no-legend").out == ""
    assert states(lab) == {domid: "ok"}


@pytest.mark.long
def test_a_supervisor_that_is_killed_or_stops_comes_back_and_goes_on(lab: Lab) -> None:
    before = shown(lab, SUPERVISOR, "MainPID")["MainPID"]
    for signal in ("KILL", "STOP"):  # the second is for the watchdog, of half a minute
        lab.run(f"systemctl kill -s {signal} --kill-whom=main {SUPERVISOR}", check=True)
        now = f"systemctl show -p MainPID --value {SUPERVISOR}"
        up = f"systemctl is-active {SUPERVISOR}"
        lab.wait_for(f"[ $({now}) != {before} ] && [ $({now}) != 0 ] && {up}", 180)
        before = shown(lab, SUPERVISOR, "MainPID")["MainPID"]
    lab.run("xlmt create /etc/xen/demo-pvh.cfg 'name=\"again\"' 'type=\"pv\"'", 240, check=True)
    first = domid_of(lab, "again")
    wait_up(lab, "again")
    lab.run("xl reboot again", check=True)
    lab.wait_for(f"d=$(xl domid again) && [ $d != {first} ]", 240)
    wait_up(lab, "again", 2)
    lab.run(f"systemctl kill -s HUP --kill-whom=main {SUPERVISOR}", check=True)
    lab.run("xlmt destroy again", 240, check=True)
    assert shown(lab, SUPERVISOR, "MainPID")["MainPID"] == before


@pytest.mark.long
@pytest.mark.parametrize("by", ["timer", "cron"])
def test_without_a_supervisor_a_stray_node_goes_within_a_minute(lab: Lab, by: str) -> None:
    cron = "install -m 644 /usr/share/xlmt/hooks/cron/xlmt /etc/cron.d/xlmt"
    lab.run(f"systemctl stop {SUPERVISOR}", 120, check=True)
    try:
        start = "systemctl start xlmt-reconcile.timer" if by == "timer" else cron
        lab.run(f"xenstore-write {NODES}/{STRAY} '' && {start}", check=True)
        lab.wait_for(f"! xenstore-exists {NODES}/{STRAY}", 180)
        kept = {domid_of(lab, PV)}
        assert nodes(lab) == kept
        if by == "timer":
            assert shown(lab, "xlmt-reconcile.service", "Result") == {"Result": "success"}
    finally:
        lab.run("systemctl stop xlmt-reconcile.timer; rm -f /etc/cron.d/xlmt")
        lab.run(f"systemctl start {SUPERVISOR}", 120, check=True)


def test_a_stalled_guest_is_alone_with_it(lab: Lab) -> None:
    lab.run("ip addr replace 10.0.0.1/24 dev br0", check=True)
    with Stall(lab, create=f"xlmt create /etc/xen/{Stall.NAME}.cfg") as stall:
        destroying = lab.spawn(f"xlmt destroy {stall.name}")
        stall.wait_begun(f"xen-mtwatch-{stall.domid}")
        lab.run("xlmt create /etc/xen/demo-pvh.cfg 'name=\"other\"' 'type=\"pv\"'", 240, check=True)
        wait_up(lab, "other")
        lab.run("xlmt destroy other", 240, check=True)
        lab.wait_for("xlmt doctor -o json | grep -q netback-inflight", 60)
        (finding,) = json.loads(lab.run("xlmt doctor -o json", 60).out)["findings"]
        assert (finding["domid"], finding["kind"]) == (stall.domid, Stall.KIND)
        throttled = lab.run("xlmt kernel throttle", 60)
        assert throttled.rc == 0, throttled.err
        lab.run("xlmt release --yes", 120, check=True)
        destroying.wait(120)
    lab.wait_for(f"! xenstore-exists {NODES}/{stall.domid}", 120)


@pytest.mark.long
def test_at_a_shutdown_guests_go_first_and_their_nodes_last(lab: Lab) -> None:
    domid, log = domid_of(lab, PV), lab.run("readlink /run/trace", check=True).out.strip()
    lab.reboot()
    its_own = [
        r
        for r in writes(PARSERS["c"](lab.read(log)))
        if re.search(rf"/({domid})(/|$)", r.path) and not r.error
    ]
    assert (its_own[-1].op, its_own[-1].path) == ("RM", f"{NODES}/{domid}")
    said = lab.run("journalctl -b -1 -p err --no-pager -o cat | grep xlmt").out
    assert not re.sub(".*Watchdog timeout.*\n", "", said)  # that of a test above
    lab.wait_for("systemctl is-active xendomains", 240)
    wait_up(lab, PV)  # restored, or created again
    assert set(states(lab).values()) == {"ok"}


@pytest.mark.long
def test_a_guest_of_libvirtd_has_its_node_first_and_goes_with_it(lab: Lab) -> None:
    virsh = "virsh -q -c xen:///system"
    # By their units, only one of the two runs. So those of /etc/xen/auto are shut down.
    lab.run("systemctl stop xendomains && systemctl start libvirtd.socket", 400, check=True)
    assert domids(lab) == set()
    lab.run(f"{virsh} define {XML} && {virsh} start {LIBVIRT_GUEST}", 240, check=True)
    domid = domid_of(lab, LIBVIRT_GUEST)
    assert_node_came_first(trace(lab), domid)
    assert states(lab)[domid] == "ok"
    lab.run(f"{virsh} destroy {LIBVIRT_GUEST}", 240, check=True)
    lab.wait_for(f"! xenstore-exists {NODES}/{domid}")
    assert_node_went_last(trace(lab), domid)
    lab.run(f"{virsh} undefine {LIBVIRT_GUEST}", check=True)
    lab.run("systemctl stop libvirtd.socket libvirtd.service", 120, check=True)


@pytest.mark.long
def test_what_setup_has_done_is_undone_and_purged(lab: Lab) -> None:
    lab.run("systemctl stop xendomains", 400, check=True)
    assert domids(lab) == set()
    lab.run("apt-get purge -qy xlmt xen-mtwatch-dkms", 600, check=True)
    left = lab.run(
        "ls -d /etc/systemd/system/*/xlmt.conf /etc/modules-load.d/xen_mtwatch.conf"
        " /usr/local/sbin/xl /etc/libvirt/hooks/libxl.d /var/lib/xlmt /run/xlmt"
    )
    assert left.out == ""
