# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own daemon on a real Xen: under the preload library, and with its hook script alone."""

from collections.abc import Iterator

import pytest

from tests.lab.libvirt import HOOKS, NAME, Libvirtd
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, leave_nothing, nodes, states, trace, wait_gone, wait_up
from tests.stack.product import NODES, assert_node_came_first, assert_node_went_last
from tests.stack.trace import writes

SHIPPED = "/usr/local/share/xlmt/hooks"
DAEMON_UNDER_HOOK = f"{SHIPPED}/xl/under-hook"  # as in hooks/xl/libvirtd.conf
INSTALL = f"install -D {SHIPPED}/libvirt/50-xlmt {HOOKS}/50-xlmt"
# Found before the real one by the script: what libvirt waits for must not wait for this.
HELD = """\
#!/bin/sh
[ "$1" != hook ] || until [ -e /run/go ]; do sleep 0.1; done
exec /usr/local/bin/xlmt "$@"
"""


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    yield
    lab.run("touch /run/go")
    lab.wait_for("! pgrep -f '[x]lmt hook'")
    lab.run("rm -f /run/go /usr/local/sbin/xlmt", check=True)
    leave_nothing(lab)


@pytest.mark.long
def test_under_the_preload_a_guest_has_its_node_and_a_new_one_after_a_reboot(
    lab: Lab,
) -> None:
    with Libvirtd(lab, under=DAEMON_UNDER_HOOK) as libvirt:
        libvirt.virsh(f"start {NAME}")
        first = domid_of(lab, NAME)
        assert_node_came_first(trace(lab), first)
        assert states(lab) == {first: "ok"}
        wait_up(lab, NAME)
        libvirt.virsh(f"reboot {NAME}")
        lab.wait_for(f"d=$(xl domid {NAME}) && [ $d != {first} ] && xl list $d | grep -v -- p", 120)
        second = domid_of(lab, NAME)
        assert_node_went_last(trace(lab), first)
        assert_node_came_first(trace(lab), second)
        assert nodes(lab) == {second}
        lab.wait_for(f"[ $(grep -c 'GUEST UP' /var/log/xen/console/guest-{NAME}.log) = 2 ]", 120)
        libvirt.virsh(f"shutdown {NAME}")
        wait_gone(lab)
        lab.wait_for(f"! xenstore-exists {NODES}/{second}")
        assert_node_went_last(trace(lab), second)


@pytest.mark.long
def test_with_the_hook_script_alone_a_guest_gets_its_node_late_and_libvirt_does_not_wait(
    lab: Lab,
) -> None:
    with Libvirtd(lab) as libvirt:
        libvirt.virsh(f"start {NAME}")
        a_new_daemon_gives_a_running_guest_its_node(lab, libvirt)
        lab.push("/usr/local/sbin/xlmt", HELD, executable=True)
        libvirt.virsh(f"start {NAME}")
        domid = domid_of(lab, NAME)
        assert states(lab) == {domid: "missing"}
        lab.run("touch /run/go", check=True)
        lab.wait_for(f"xenstore-exists {NODES}/{domid}")
        assert states(lab) == {domid: "ok"}
        its_node_goes_last(lab, libvirt)


def a_new_daemon_gives_a_running_guest_its_node(lab: Lab, libvirt: Libvirtd) -> None:
    domid = domid_of(lab, NAME)
    libvirt.stop()
    assert states(lab) == {domid: "missing"}
    lab.run(INSTALL, check=True)
    libvirt.start()
    lab.wait_for(f"xenstore-exists {NODES}/{domid}")
    assert states(lab) == {domid: "ok"}
    its_node_goes_last(lab, libvirt)


def its_node_goes_last(lab: Lab, libvirt: Libvirtd) -> None:
    domid = domid_of(lab, NAME)
    libvirt.virsh(f"destroy {NAME}")
    lab.wait_for(f"! xenstore-exists {NODES}/{domid}")
    its_own = [r for r in writes(trace(lab)) if f"/{domid}/" in f"{r.path}/"]
    assert (its_own[-1].op, its_own[-1].path) == ("RM", f"{NODES}/{domid}")
