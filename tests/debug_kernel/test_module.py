# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module without guests: what it does elsewhere, in bad times. Every test also is one of
silence, and the order matters: the last ones ask whether the checkers have seen it all.
"""

import inspect
from collections.abc import Callable

import pytest

from tests.debug_kernel.checkers import require_alive, require_nothing_lost, start_leak_check
from tests.debug_kernel.failslab import failing_allocations
from tests.lab import test_kernel
from tests.lab import test_module as stock_module
from tests.lab.dmesg import require_quiet
from tests.lab.mtwatch import (
    NODES,
    Watches,
    add_node,
    loaded,
    remove_node,
    set_parameter,
    status,
    unload,
    wait_ended,
    wait_status,
)
from tests.lab.test_storm import storm
from tests.lab.vm import Lab

#: This kernel unwinds its stacks by frame pointers, so that a live patch never comes to its end.
UNFIT = {stock_module.test_beside_a_live_patch_of_the_same_function_whoever_came_first_stays}
STOCK_TESTS: list[Callable[..., None]] = [
    function
    for name, function in (vars(test_kernel) | vars(stock_module)).items()
    if name.startswith("test_")
    and function not in UNFIT
    and "ends_host" not in {mark.name for mark in getattr(function, "pytestmark", ())}
]
#: What the test of a thousand nodes is given: this kernel needs far longer.
OF_A_THOUSAND = {"load": "modprobe xen_mtwatch mode=node", "first": 101, "seconds": 120}
#: Reads of registers that Xen has not; the traces have no headline of a complaint.
BOOT = ("Call Trace:",)
STORM_LOADS = 20
BACKENDS = "/local/domain/0/backend/test"
DEVICES = "/sys/bus/xen-backend/devices"


def make_devices(lab: Lab, domid: int, count: int) -> None:
    """Backend devices of a domain that is not there, which is enough for dom0's kernel."""
    frontend, backend = f"/local/domain/{domid}/device/test/$n", f"{BACKENDS}/{domid}/$n"
    words = f"{frontend}/state 1 {backend}/frontend-id {domid} {backend}/frontend {frontend}"
    lab.run(
        f"set -e; for n in {{1..{count}}}; do xenstore-write {words} {backend}/state 1; done",
        check=True,
    )


def remove_devices(lab: Lab, domid: int, count: int) -> None:
    lab.run(f"for n in {{1..{count}}}; do xenstore-rm {BACKENDS}/{domid}/$n; done", check=True)


def wait_devices(lab: Lab, domid: int, count: int) -> None:
    lab.wait_for(f"[ $(ls {DEVICES} | grep -c '^test-{domid}-') = {count} ]")


def test_loaded_at_boot_it_has_waited_for_xenstored(lab: Lab) -> None:
    assert "xen_mtwatch: loaded, waits for xenstore" in lab.run("dmesg", check=True).out
    wait_status(lab, "^module .* state=on .* partial=0 ")
    lab.run(f"xenstore-write {NODES}/30 ''", check=True)
    lab.wait_for("pgrep -x xen-mtwatch-30")
    unload(lab)


def test_the_kernel_boots_and_its_checkers_work(lab: Lab) -> None:
    require_quiet(lab.run("dmesg", check=True).out, BOOT)
    require_alive(lab)
    start_leak_check(lab)


@pytest.mark.parametrize("test", STOCK_TESTS, ids=lambda test: test.__name__)
def test_what_is_tested_on_stock_kernels(
    lab: Lab, watches: Watches, test: Callable[..., None]
) -> None:
    given = {"lab": lab, "watches": watches, **OF_A_THOUSAND}
    test(**{name: given[name] for name in inspect.signature(test).parameters})


def test_watches_and_nodes_come_and_go_while_the_module_does(lab: Lab, watches: Watches) -> None:
    storm(lab, watches, STORM_LOADS)


def test_events_that_cannot_be_kept_are_made_up_for(lab: Lab) -> None:
    with loaded(lab):
        add_node(lab, 41, 42)
        for domid in (41, 42):
            make_devices(lab, domid, 1)
            wait_devices(lab, domid, 1)
        with failing_allocations(lab, 100):
            make_devices(lab, 41, 8)
            lab.run("sleep 2")
        assert int(status(lab, "domain", 41)["rescans"]) > 0
        wait_devices(lab, 41, 8)
        with failing_allocations(lab, 100):
            remove_devices(lab, 41, 8)
        wait_devices(lab, 41, 0)
        with failing_allocations(lab, 10):
            for _ in range(2):
                make_devices(lab, 42, 8)
                wait_devices(lab, 42, 8)
                remove_devices(lab, 42, 8)
                wait_devices(lab, 42, 0)
        remove_node(lab, 41, 42)
        wait_ended(lab, 41, 42)
    lab.run(f"xenstore-rm {BACKENDS}; xenstore-rm /local/domain/41; xenstore-rm /local/domain/42")


def test_events_while_allocations_fail(lab: Lab, watches: Watches) -> None:
    """Of watches that are there, in threads that may not be."""
    domids, names = (51, 52, 53), "ab"
    for domid in domids:
        watches.watch(domid, "a")
    with loaded(lab, "mode=both", "idle_secs=1"):
        for domid in domids:
            watches.watch(domid, "b")
        with failing_allocations(lab, 30):
            for _ in range(5):
                before = len(watches.calls())
                for domid in domids:
                    watches.write(domid, *names)
                    lab.run(f"xenstore-write {NODES}/{domid} ''", check=True)
                watches.wait_calls(before + len(domids) * len(names))
                lab.run(f"xenstore-rm {NODES}", check=True)
    assert not any(call.concurrent for call in watches.calls())


def test_switching_on_and_off_while_allocations_fail(lab: Lab, watches: Watches) -> None:
    watches.watch(61, "old")
    with loaded(lab):
        watches.watch(61, "new")
        with failing_allocations(lab, 25):
            for _ in range(4):
                set_parameter(lab, "enabled", 0)
                wait_status(lab, "state=off", 60)
                lab.run("echo 1 > /sys/module/xen_mtwatch/parameters/enabled")  # or ENOMEM
        set_parameter(lab, "enabled", 1)
        wait_status(lab, "^module .* state=on .* partial=0 ")
        before = len(watches.calls())
        watches.write(61, "old", "new")
        calls = watches.wait_calls(before + 2)[before:]
        assert {call.task for call in calls} == {"xen-mtwatch-61"}
    before = len(watches.calls())
    watches.write(61, "old", "new")
    assert {call.task for call in watches.wait_calls(before + 2)[before:]} == {"xenwatch"}


@pytest.mark.usefixtures("stalls_are_meant")
def test_a_stuck_host_with_more_backends_than_xenstored_lists(lab: Lab, watches: Watches) -> None:
    """All domids up to the highest of them have to wait for xenwatch, but a new domain does not."""
    watches.watch(8, "a")
    watches.tell(f"hold {watches.node(8, 'a')}")
    watches.write(8, "a")
    watches.wait_calls(2)
    backends = "sed 's,.*,/local/domain/0/backend/mtwtest/& x,' | xargs -n 100 xenstore-write"
    lab.run(f"seq 3001 3900 | {backends}", check=True)
    with loaded(lab):
        wait_status(lab, "^module .* state=on .* partial=0 ", 600)
        watches.tell(f"watch {watches.node(4000, 'a')}")
        watches.wait_calls(3, 600)  # its thread begins when the highest domid is found
        assert watches.tasks(4000) == ["xen-mtwatch-400"]  # 15 characters of a name
        watches.tell("free *")


def test_nothing_is_lost_and_the_checkers_have_seen_it_all(lab: Lab) -> None:
    require_alive(lab)
    require_nothing_lost(lab)
