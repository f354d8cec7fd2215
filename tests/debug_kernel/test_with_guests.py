# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module and guests, which come and go with their devices. And again, silence."""

from collections.abc import Iterator

import pytest

from tests.debug_kernel.checkers import require_alive, require_nothing_lost, start_leak_check
from tests.lab.mtwatch import loaded, wait_ended, wait_status
from tests.lab.stall import Stall
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, leave_nothing, wait_up

PV = "/etc/xen/demo-pv.cfg"


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    yield
    leave_nothing(lab)


def create(lab: Lab) -> int:
    lab.run(f"xlmt create {PV}", 180, check=True)
    wait_up(lab, "demo-pv")
    return domid_of(lab, "demo-pv")


def destroy(lab: Lab) -> None:
    lab.run("xlmt destroy demo-pv", 180, check=True)


def test_a_guest_without_the_module(lab: Lab) -> None:
    """If this is not quiet, it is the kernel's own matter."""
    create(lab)
    destroy(lab)
    start_leak_check(lab)


def test_guests_and_devices_come_and_go(lab: Lab) -> None:
    with loaded(lab):
        for _ in range(2):
            domid = create(lab)
            lab.wait_for(f"pgrep -x xen-mtwatch-{domid}")
            for _ in range(2):
                lab.run("xlmt xl network-attach demo-pv bridge=br0", 120, check=True)
                lab.run("xlmt xl network-detach demo-pv 1", 120, check=True)
            destroy(lab)
            wait_ended(lab, domid)


def test_a_guest_that_was_there_first_is_adopted_and_given_back(lab: Lab) -> None:
    domid = create(lab)
    for _ in range(2):
        with loaded(lab):
            wait_status(lab, "^module .* partial=0 ")
            lab.wait_for(f"pgrep -x xen-mtwatch-{domid}")
            lab.run("xlmt xl network-attach demo-pv bridge=br0", 120, check=True)
            lab.run("xlmt xl network-detach demo-pv 1", 120, check=True)
    destroy(lab)


@pytest.mark.usefixtures("stalls_are_meant")
def test_a_stall_is_one_guests_own(lab: Lab) -> None:
    with loaded(lab), Stall(lab, "xlmt create /etc/xen/stall.cfg") as stall:
        gone = lab.spawn("xlmt destroy stall")
        assert "kthread_stop" in stall.wait_begun(f"xen-mtwatch-{stall.domid}", 120)
        assert stall.stack("xenwatch") == ""
        lab.run(f"xlmt create {PV}", 180)  # libxl's time-outs are short for this kernel
        lab.run("xlmt destroy demo-pv", 180)
        stall.release()
        gone.wait(180)


def test_nothing_is_lost_and_the_checkers_have_seen_it_all(lab: Lab) -> None:
    require_alive(lab)
    require_nothing_lost(lab)
