# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that systemd has booted, with what apt and `xlmt setup` have made of it.

Its packages are installed and nothing is set up; each test goes on where the one before has ended.
Witnesses: xenstored's own log of each boot, the hypervisor's list, the kernel's threads, and what
systemd knows of the units.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from tests.lab.errors import LabUnavailable
from tests.lab.libvirt import NAME as LIBVIRT_GUEST
from tests.lab.libvirt import XML
from tests.lab.mtwatch import NODES
from tests.lab.stall import Stall
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, domids, nodes, states, trace, wait_up
from tests.stack.product import assert_node_came_first, assert_node_went_last
from tests.stack.trace import PARSERS, writes

pytestmark = pytest.mark.long

SUPERVISOR = "xlmt-supervise.service"
PV = "demo-pv"
STRAY = 900


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    try:
        with Lab("c", systemd=True) as lab:
            yield lab
    except LabUnavailable as lack:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the lab is unavailable: {lack}")


def shown(lab: Lab, unit: str, *names: str) -> dict[str, str]:
    out = lab.run(f"systemctl show -p {','.join(names)} {unit}", check=True).out
    return dict(line.split("=", 1) for line in out.splitlines())


def began(lab: Lab, unit: str) -> int:
    """When it was started, in microseconds of this boot."""
    name = "InactiveExitTimestampMonotonic"
    return int(shown(lab, unit, name)[name])


def test_one_command_after_apt_protects_the_host(host: Lab) -> None:
    assert host.run("xlmt doctor", 60).rc == 6
    host.run("xlmt setup --yes", 300, check=True)
    done = host.run("xlmt doctor", 60)
    assert done.rc == 0, done.out
    assert "nothing to do" in host.run("xlmt setup --yes", 120, check=True).out
    assert shown(host, SUPERVISOR, "Type", "ActiveState", "StatusText") == {
        "Type": "notify",
        "ActiveState": "active",
        "StatusText": "0 domains, 0 nodes",
    }


def test_after_a_boot_everything_comes_in_order_and_guests_of_auto_run(host: Lab) -> None:
    host.run(f"mkdir -p /etc/xen/auto && ln -sf ../{PV}.cfg /etc/xen/auto/", check=True)
    host.reboot()
    host.wait_for("systemctl is-active xendomains", 240)
    wait_up(host, PV)
    domid = domid_of(host, PV)
    assert_node_came_first(trace(host), domid)
    assert host.run(f"pgrep -x xen-mtwatch-{domid}").rc == 0
    host.wait_for(f"systemctl is-active {SUPERVISOR}", 120)
    units = ["systemd-modules-load.service", "xen.service", SUPERVISOR, "xendomains.service"]
    times = [began(host, unit) for unit in units]
    assert times == sorted(times)
    assert host.run("systemctl --failed --no-legend").out == ""
    assert states(host) == {domid: "ok"}


def test_a_supervisor_that_is_killed_or_stops_comes_back_and_goes_on(host: Lab) -> None:
    before = shown(host, SUPERVISOR, "MainPID")["MainPID"]
    for signal in ("KILL", "STOP"):  # the second is for the watchdog, of half a minute
        host.run(f"systemctl kill -s {signal} --kill-whom=main {SUPERVISOR}", check=True)
        now = f"systemctl show -p MainPID --value {SUPERVISOR}"
        up = f"systemctl is-active {SUPERVISOR}"
        host.wait_for(f"[ $({now}) != {before} ] && [ $({now}) != 0 ] && {up}", 180)
        before = shown(host, SUPERVISOR, "MainPID")["MainPID"]
    host.run("xlmt create /etc/xen/demo-pvh.cfg 'name=\"again\"' 'type=\"pv\"'", 240, check=True)
    first = domid_of(host, "again")
    wait_up(host, "again")
    host.run("xl reboot again", check=True)
    host.wait_for(f"d=$(xl domid again) && [ $d != {first} ]", 240)
    wait_up(host, "again", 2)
    host.run(f"systemctl kill -s HUP --kill-whom=main {SUPERVISOR}", check=True)
    host.run("xlmt destroy again", 240, check=True)
    assert shown(host, SUPERVISOR, "MainPID")["MainPID"] == before


@pytest.mark.parametrize("by", ["timer", "cron"])
def test_without_a_supervisor_a_stray_node_goes_within_a_minute(host: Lab, by: str) -> None:
    cron = "install -m 644 /usr/share/xlmt/hooks/cron/xlmt /etc/cron.d/xlmt"
    host.run(f"systemctl stop {SUPERVISOR}", 120, check=True)
    try:
        start = "systemctl start xlmt-reconcile.timer" if by == "timer" else cron
        host.run(f"xenstore-write {NODES}/{STRAY} '' && {start}", check=True)
        host.wait_for(f"! xenstore-exists {NODES}/{STRAY}", 180)
        kept = {domid_of(host, PV)}
        assert nodes(host) == kept
        if by == "timer":
            assert shown(host, "xlmt-reconcile.service", "Result") == {"Result": "success"}
    finally:
        host.run("systemctl stop xlmt-reconcile.timer; rm -f /etc/cron.d/xlmt")
        host.run(f"systemctl start {SUPERVISOR}", 120, check=True)


def test_a_stalled_guest_is_alone_with_it(host: Lab) -> None:
    host.run("ip addr replace 10.0.0.1/24 dev br0", check=True)
    with Stall(host, create=f"xlmt create /etc/xen/{Stall.NAME}.cfg") as stall:
        destroying = host.spawn(f"xlmt destroy {stall.name}")
        stall.wait_begun(f"xen-mtwatch-{stall.domid}")
        host.run(
            "xlmt create /etc/xen/demo-pvh.cfg 'name=\"other\"' 'type=\"pv\"'", 240, check=True
        )
        wait_up(host, "other")
        host.run("xlmt destroy other", 240, check=True)
        host.wait_for("xlmt doctor -o json | grep -q netback-inflight", 60)
        (finding,) = json.loads(host.run("xlmt doctor -o json", 60).out)["findings"]
        assert (finding["domid"], finding["kind"]) == (stall.domid, Stall.KIND)
        throttled = host.run("xlmt kernel throttle", 60)
        assert throttled.rc == 0, throttled.err
        host.run("xlmt release --yes", 120, check=True)
        destroying.wait(120)
    host.wait_for(f"! xenstore-exists {NODES}/{stall.domid}", 120)


def test_at_a_shutdown_guests_go_first_and_their_nodes_last(host: Lab) -> None:
    domid, log = domid_of(host, PV), host.run("readlink /run/trace", check=True).out.strip()
    host.reboot()
    its_own = [
        r
        for r in writes(PARSERS["c"](host.read(log)))
        if re.search(rf"/({domid})(/|$)", r.path) and not r.error
    ]
    assert (its_own[-1].op, its_own[-1].path) == ("RM", f"{NODES}/{domid}")
    said = host.run("journalctl -b -1 -p err --no-pager -o cat | grep xlmt").out
    assert not re.sub(".*Watchdog timeout.*\n", "", said)  # that of a test above
    host.wait_for("systemctl is-active xendomains", 240)
    wait_up(host, PV)  # restored, or created again
    assert set(states(host).values()) == {"ok"}


def test_a_guest_of_libvirtd_has_its_node_first_and_goes_with_it(host: Lab) -> None:
    virsh = "virsh -q -c xen:///system"
    # By their units, only one of the two runs. So those of /etc/xen/auto are shut down.
    host.run("systemctl stop xendomains && systemctl start libvirtd.socket", 400, check=True)
    assert domids(host) == set()
    host.run(f"{virsh} define {XML} && {virsh} start {LIBVIRT_GUEST}", 240, check=True)
    domid = domid_of(host, LIBVIRT_GUEST)
    assert_node_came_first(trace(host), domid)
    assert states(host)[domid] == "ok"
    host.run(f"{virsh} destroy {LIBVIRT_GUEST}", 240, check=True)
    host.wait_for(f"! xenstore-exists {NODES}/{domid}")
    assert_node_went_last(trace(host), domid)
    host.run(f"{virsh} undefine {LIBVIRT_GUEST}", check=True)
    host.run("systemctl stop libvirtd.socket libvirtd.service", 120, check=True)


def test_what_setup_has_done_is_undone_and_purged(host: Lab) -> None:
    assert domids(host) == set()
    host.run("apt-get purge -qy xlmt xen-mtwatch-dkms", 600, check=True)
    left = host.run(
        "ls -d /etc/systemd/system/*/xlmt.conf /etc/modules-load.d/xen_mtwatch.conf"
        " /usr/local/sbin/xl /etc/libvirt/hooks/libxl.d /var/lib/xlmt /run/xlmt"
    )
    assert left.out == ""
