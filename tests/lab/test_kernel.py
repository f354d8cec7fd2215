# SPDX-License-Identifier: LGPL-2.1-or-later
"""xen_mtwatch's threads on stock kernels, by watches that do what a test says.

Witnesses: the test module's log of callbacks, the kernel's own list of threads. Several of these
are bugs of the patch of 2018, each of which would fail here.
"""

from __future__ import annotations

import pytest

from tests.lab.hosts import KERNELS
from tests.lab.mtwatch import (
    DEBUGFS,
    NODES,
    Watches,
    add_node,
    loaded,
    remove_node,
    status,
    wait_ended,
    wait_status,
)
from tests.lab.vm import Lab

pytestmark = pytest.mark.usefixtures("nodes_by_hand")


@KERNELS
def test_events_of_a_domain_run_in_its_thread_in_order_and_one_at_a_time(
    lab: Lab, watches: Watches
) -> None:
    names = [*"abcdefgh", "backend/0/i", "backend/0/j"]
    with loaded(lab, "mode=node"):
        add_node(lab, 7)
        watches.watch(7, *names)
        watches.tell("sleep 5")
        before = len(watches.calls())
        watches.hold(7, "h")
        watches.write(7, "d", "a", "backend/0/j", *"cbgf", "backend/0/i", "e")
        watches.write(7, *names)
        watches.tell(f"free {watches.node(7, 'h')}")
        calls = watches.wait_calls(before + 11)[before:]
        assert [call.node[-1] for call in calls] == list("hdajcbgfieh")  # not the last one first
        assert {call.task for call in watches.calls()} == {"xen-mtwatch-7"}
        assert not any(call.concurrent for call in watches.calls())
        assert int(status(lab, "domain", 7)["merged"]) >= 9
        watches.tell(*(f"unwatch {watches.node(7, name)}" for name in names))
        remove_node(lab, 7)
        wait_ended(lab, 7)


@KERNELS
def test_threads_are_reaped_though_others_are_stalled(lab: Lab, watches: Watches) -> None:
    with loaded(lab, "mode=node"):
        add_node(lab, 11, 12, 13)
        for domid in (11, 12, 13):
            watches.watch(domid, "a")
        watches.hold(11, "a")
        watches.hold(12, "a")
        remove_node(lab, 11, 12, 13)
        wait_ended(lab, 13)
        states = lab.run("ps -o stat= -C xenwatch,xen-mtwatch-11,xen-mtwatch-12", check=True).out
        assert states.split() == ["S", "D", "D"]
        assert lab.run("rmmod xen_mtwatch").rc == 1  # at once, not when they are back
        watches.tell(*(f"free {watches.node(domid, 'a')}" for domid in (11, 12)))
        wait_ended(lab, 11, 12)


def busy_when_its_node_goes(lab: Lab, watches: Watches) -> int:
    """Domid 7's thread is in a callback of "a", the first one after so many; "b" is free."""
    add_node(lab, 7)
    watches.watch(7, "a", "b")
    before = len(watches.calls())
    watches.hold(7, "a")
    remove_node(lab, 7)
    wait_status(lab, "^domain domid=7 .* state=draining")
    return before


def test_a_node_that_goes_while_its_thread_is_busy(lab: Lab, watches: Watches) -> None:
    """Its events stay in the thread until that is idle; only then are they xenwatch's."""
    with loaded(lab, "mode=node"):
        before = busy_when_its_node_goes(lab, watches)
        watches.write(7, "b")
        assert len(watches.tasks(7, before)) == 1
        watches.tell(f"free {watches.node(7, 'a')}")
        wait_ended(lab, 7)
        assert watches.tasks(7, before) == ["xen-mtwatch-7"] * 2
        watches.write(7, "b")
        watches.wait_calls(before + 3)
        assert watches.tasks(7, before)[2:] == ["xenwatch"]


def test_a_node_that_comes_back_while_its_thread_is_busy(lab: Lab, watches: Watches) -> None:
    """As with a domid that is used again: there is one thread, and it stays."""
    with loaded(lab, "mode=node"):
        before = busy_when_its_node_goes(lab, watches)
        lab.run(f"xenstore-write {NODES}/7 ''", check=True)
        wait_status(lab, "^domain domid=7 .* state=up")
        watches.write(7, "b")
        watches.tell(f"free {watches.node(7, 'a')}")
        watches.wait_calls(before + 2)
        watches.write(7, "a")
        calls = watches.wait_calls(before + 3)[before:]
        assert [call.node[-1] for call in calls] == list("aba")
        assert {call.task for call in calls} == {"xen-mtwatch-7"}
        assert not any(call.concurrent for call in calls)
        assert lab.run("pgrep -c -x xen-mtwatch-7").out == "1\n"
        remove_node(lab, 7)
        wait_ended(lab, 7)


def test_a_thread_takes_over_from_xenwatch(lab: Lab, watches: Watches) -> None:
    """What xenwatch has of a domain is worked off before its new thread begins, and what came for
    that is not lost though its node goes before it could."""
    with loaded(lab, "mode=node"):
        watches.watch(7, "a", "b")
        before = len(watches.calls())
        watches.hold_xenwatch(7, "a")
        watches.write(7, "b")
        lab.run(f"xenstore-write {NODES}/7 ''", check=True)
        watches.write(7, "a", "b")
        wait_status(lab, "^domain domid=7 pid=- state=new .* depth=2 ")
        assert status(lab, "xenwatch")["probe_ms"] != "-"
        remove_node(lab, 7)
        watches.tell(f"free {watches.node(7, 'a')}")
        calls = watches.wait_calls(before + 4)[before:]
        assert [call.task for call in calls] == ["xenwatch"] * 2 + ["xen-mtwatch-7"] * 2
        assert not any(call.concurrent for call in calls)
        wait_ended(lab, 7)


@KERNELS
def test_two_callbacks_of_a_device_never_unregister_a_watch_twice(
    lab: Lab, watches: Watches
) -> None:
    """As netback's do with hotplug-status: neither has a lock, and twice is a BUG."""
    with loaded(lab, "mode=node"):
        add_node(lab, 7)
        watches.watch(7, "a", "b", "c")
        a, b, c = (watches.node(7, name) for name in "abc")
        before = len(watches.calls())
        watches.tell(f"drop {a} {c}", f"drop {b} {c}")
        watches.write(7, "a", "b")
        watches.wait_calls(before + 2)
        watches.write(7, "c", "a")
        nodes = [call.node for call in watches.wait_calls(before + 3)[before:]]
        assert nodes == [a, b, a]  # c has no callback any more
        watches.tell(f"drop {a} {a}")  # and a watch may unregister itself
        watches.write(7, "a")
        watches.wait_calls(before + 4)
        watches.write(7, "a", "b")
        assert watches.wait_calls(before + 5)[-1].node == b
        remove_node(lab, 7)
        wait_ended(lab, 7)


def test_unregistering_waits_for_the_domain_and_drops_what_is_queued(
    lab: Lab, watches: Watches
) -> None:
    with loaded(lab, "mode=node"):
        add_node(lab, 7, 8)
        watches.watch(7, "a", "b")
        watches.watch(8, "a")
        before = len(watches.calls())
        watches.hold(7, "a")
        watches.write(7, "b")
        other = lab.run(f"echo 'unwatch {watches.node(8, 'a')}' > {DEBUGFS}/mtwtest/control", 20)
        assert other.rc == 0  # of another domain: at once
        waiting = lab.spawn(f"echo 'unwatch {watches.node(7, 'b')}' > {DEBUGFS}/mtwtest/control")
        wait_status(lab, "^domain domid=7 .* depth=0 .* flushed=1 ")
        assert waiting.rc() is None
        watches.tell(f"free {watches.node(7, 'a')}")
        assert waiting.wait(20).rc == 0
        watches.write(7, "b", "a")
        nodes = [call.node for call in watches.wait_calls(before + 2)[before:]]
        assert watches.node(7, "b") not in nodes
        remove_node(lab, 7, 8)
        wait_ended(lab, 7, 8)


def test_unregistering_waits_for_what_xenwatch_has_of_the_domain(
    lab: Lab, watches: Watches
) -> None:
    """A driver frees what the callback uses; but that of another domain is none of its business."""
    with loaded(lab, "mode=node"):
        watches.watch(7, "a", "b")
        watches.watch(8, "a")
        watches.hold_xenwatch(7, "a")
        other = lab.run(f"echo 'unwatch {watches.node(8, 'a')}' > {DEBUGFS}/mtwtest/control", 20)
        assert other.rc == 0
        waiting = lab.spawn(f"echo 'unwatch {watches.node(7, 'b')}' > {DEBUGFS}/mtwtest/control")
        lab.wait_for("grep mtw_run_wait /proc/[0-9]*/stack")
        assert waiting.rc() is None
        watches.tell(f"free {watches.node(7, 'a')}")
        assert waiting.wait(20).rc == 0


def test_what_a_domain_no_longer_watches_is_not_heaped_up(lab: Lab, watches: Watches) -> None:
    """None of it can be dropped while xenwatch is stuck: the domain waits then, and only that."""
    control, node = f"{DEBUGFS}/mtwtest/control", watches.node(7, "a")
    with loaded(lab, "mode=node"):
        add_node(lab, 7)
        watches.watch(8, "a")
        watches.watch(9, "a")
        watches.hold_xenwatch(8, "a")
        over_and_over = f"echo 'watch {node}' > {control}; echo 'unwatch {node}' > {control}"
        busy = lab.spawn(f"for n in {{1..210}}; do {over_and_over}; done")
        waits = (
            "grep -l unregister_xenbus_watch /proc/[0-9]*/stack | xargs grep mtw_watch_unregister"
        )
        lab.wait_for(waits)
        assert lab.run(f"echo 'unwatch {watches.node(9, 'a')}' > {control}", 20).rc == 0
        assert busy.rc() is None
        watches.tell("free *")
        assert busy.wait(60).rc == 0
        remove_node(lab, 7)
        wait_ended(lab, 7)


def test_a_storm_of_events_does_not_make_a_queue_grow(lab: Lab, watches: Watches) -> None:
    with loaded(lab, "mode=node"):
        add_node(lab, 7)
        watches.watch(7, "a", "b")
        watches.hold(7, "a")
        lab.run(
            f"for n in {{1..40}}; do xenstore-write {watches.node(7, 'b')} $n; done", check=True
        )
        record = status(lab, "domain", 7)
        assert (record["depth"], record["max_depth"]) == ("1", "1")
        assert int(record["merged"]) >= 39
        watches.tell(f"free {watches.node(7, 'a')}")
        remove_node(lab, 7)
        wait_ended(lab, 7)


def test_nodes_that_are_no_domids_make_no_thread(lab: Lab) -> None:
    with loaded(lab, "mode=node"):
        for name in ("abc", "0", "007", "-1", "7x", "32752", "4294967303", "7/8"):
            lab.run(f"xenstore-write {NODES}/{name} ''", check=True)
        lab.run(f"xenstore-rm {NODES}/7", check=True)
        add_node(lab, 32751, 1)
        threads = lab.run("ps -e -o comm= | grep mtwatch-").out.split()
        assert sorted(threads) == ["xen-mtwatch-1", "xen-mtwatch-32751"]
        remove_node(lab, 1)
        wait_ended(lab, 1)


@KERNELS
def test_without_nodes_a_thread_comes_with_the_first_event_and_goes_when_idle(
    lab: Lab, watches: Watches
) -> None:
    with loaded(lab, "mode=auto", "idle_secs=2"):
        watches.watch(9, "a")
        assert watches.tasks(9) == ["xen-mtwatch-9"]
        wait_ended(lab, 9)
        watches.write(9, "a")
        watches.wait_calls(2)
        assert watches.tasks(9) == ["xen-mtwatch-9"] * 2
        assert status(lab, "module")["passed"] == "0"


@KERNELS
def test_watches_from_before_the_load_and_after_the_unload(lab: Lab, watches: Watches) -> None:
    """Nothing is lost on the way from xenwatch to the thread and back."""
    watches.watch(7, "old")
    with loaded(lab):
        wait_status(lab, "^module .* partial=0 ")
        watches.write(7, "old")
        watches.wait_calls(2)
        watches.watch(7, "new")
        assert watches.tasks(7) == ["xenwatch", "xen-mtwatch-7", "xen-mtwatch-7"]
    seen = len(watches.calls())
    watches.write(7, "old", "new")
    # What is given back gets an event of its own, as every new watch does.
    calls = watches.wait_calls(seen + 2)
    assert {call.node[-3:] for call in calls[seen:]} == {"old", "new"}
    assert {call.task for call in calls[seen:]} == {"xenwatch"}
    assert not any(call.concurrent for call in calls)
