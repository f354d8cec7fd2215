# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own daemon on a real Xen: under the preload library, and with its hook script alone."""

from collections.abc import Iterator

import pytest

from tests.lab.libvirt import NAME, Libvirtd
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, leave_nothing, nodes, states, trace, wait_gone, wait_up
from tests.stack.product import NODES, assert_node_came_first, assert_node_went_last

pytestmark = pytest.mark.parametrize("lab", ["c"], indirect=True, scope="session")


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    yield
    leave_nothing(lab)


def test_under_the_preload_a_guest_has_its_node_from_first_to_last(lab: Lab) -> None:
    with Libvirtd(lab, under="xlmt exec --") as libvirt:
        libvirt.virsh(f"start {NAME}")
        domid = domid_of(lab, NAME)
        assert_node_came_first(trace(lab), domid)
        assert states(lab) == {domid: "ok"}
        libvirt.virsh(f"destroy {NAME}")
        assert_node_went_last(trace(lab), domid)
        assert nodes(lab) == set()


def test_under_the_preload_a_guest_that_reboots_gets_a_new_node_first(lab: Lab) -> None:
    with Libvirtd(lab, under="xlmt exec --") as libvirt:
        libvirt.virsh(f"start {NAME}")
        first = domid_of(lab, NAME)
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
