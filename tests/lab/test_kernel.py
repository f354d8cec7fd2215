# SPDX-License-Identifier: LGPL-2.1-or-later
"""xen_mtwatch on stock kernels, by watches that do what a test says.

Witnesses: the test module's log of callbacks, the kernel's own list of threads, its log. Several
of these are bugs of the patch of 2018, each of which would fail here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import mtwatch
from tests.lab.dmesg import quiet
from tests.lab.mtwatch import (
    DEBUGFS,
    NODES,
    PARAMETERS,
    Watches,
    add_node,
    loaded,
    remove_node,
    set_parameter,
    status,
    wait_ended,
    wait_status,
)
from tests.lab.vm import Lab

BOTH_KERNELS = pytest.mark.parametrize("lab", ["c", "c-6.12"], indirect=True, scope="session")
STOCK = pytest.mark.parametrize("lab", ["c"], indirect=True, scope="session")
NEWER = pytest.mark.parametrize("lab", ["c-6.12"], indirect=True, scope="session")


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    lab.run("dmesg -n 4")  # the console is slow
    yield
    lab.run(f"xenstore-rm {NODES}")


@pytest.fixture
def watches(lab: Lab) -> Iterator[Watches]:
    with mtwatch.watches(lab) as them:
        yield them


def hold(lab: Lab, watches: Watches, domid: int, name: str) -> None:
    """Have the domid's thread caught in the callback of a watch."""
    watches.tell(f"hold {watches.node(domid, name)}")
    watches.write(domid, name)
    wait_status(lab, f"^domain domid={domid} .* callback=callback .*{name} ")


def tasks_of(watches: Watches, domid: int, since: int = 0) -> list[str]:
    return [call.task for call in watches.calls()[since:] if call.domid == domid]


@BOTH_KERNELS
def test_events_of_a_domain_run_in_its_thread_in_order_and_one_at_a_time(
    lab: Lab, watches: Watches
) -> None:
    names = "abcdefgh"
    with loaded(lab, "mode=node"):
        add_node(lab, 7)
        watches.watch(7, *names)
        watches.tell("sleep 5")
        before = len(watches.calls())
        hold(lab, watches, 7, "h")
        watches.write(7, *"dacbgfe")
        watches.write(7, *"abcdefg")
        watches.tell(f"free {watches.node(7, 'h')}")
        calls = watches.wait_calls(before + 8)[before:]
        assert [call.node[-1] for call in calls] == list("hdacbgfe")  # not the last one first
        assert {call.task for call in watches.calls()} == {"xen-mtwatch-7"}
        assert not any(call.concurrent for call in watches.calls())
        assert int(status(lab, "domain", 7)["merged"]) >= 7
        watches.tell(*(f"unwatch {watches.node(7, name)}" for name in names))
        remove_node(lab, 7)
        wait_ended(lab, 7)


@BOTH_KERNELS
def test_threads_are_reaped_though_others_are_stalled(lab: Lab, watches: Watches) -> None:
    with loaded(lab, "mode=node"):
        add_node(lab, 11, 12, 13)
        for domid in (11, 12, 13):
            watches.watch(domid, "a")
        hold(lab, watches, 11, "a")
        hold(lab, watches, 12, "a")
        remove_node(lab, 11, 12, 13)
        wait_ended(lab, 13)
        states = lab.run("ps -o stat= -C xenwatch,xen-mtwatch-11,xen-mtwatch-12", check=True).out
        assert states.split() == ["S", "D", "D"]
        assert lab.run("rmmod xen_mtwatch").rc == 1  # at once, not when they are back
        watches.tell(*(f"free {watches.node(domid, 'a')}" for domid in (11, 12)))
        wait_ended(lab, 11, 12)


@STOCK
def test_a_node_that_goes_while_its_thread_is_busy(lab: Lab, watches: Watches) -> None:
    """Its events stay in the thread until that is idle; only then are they xenwatch's."""
    with loaded(lab, "mode=node"):
        add_node(lab, 7)
        watches.watch(7, "a", "b")
        before = len(watches.calls())
        hold(lab, watches, 7, "a")
        remove_node(lab, 7)
        wait_status(lab, "^domain domid=7 .* state=draining")
        watches.write(7, "b")
        watches.write(8, "b")
        assert len(tasks_of(watches, 7, before)) == 1
        watches.tell(f"free {watches.node(7, 'a')}")
        wait_ended(lab, 7)
        assert tasks_of(watches, 7, before) == ["xen-mtwatch-7"] * 2
        watches.write(7, "b")
        watches.wait_calls(before + 3)
        assert tasks_of(watches, 7, before)[2:] == ["xenwatch"]


@STOCK
def test_a_thread_takes_over_from_xenwatch(lab: Lab, watches: Watches) -> None:
    """What xenwatch has of a domain is worked off before its new thread begins."""
    with loaded(lab, "mode=node"):
        watches.watch(7, "a", "b")
        before = len(watches.calls())
        watches.tell(f"hold {watches.node(7, 'a')}")
        watches.write(7, "a", "b")  # both are xenwatch's
        wait_status(lab, "^xenwatch .* domid=7 callback=callback ")
        lab.run(f"xenstore-write {NODES}/7 ''", check=True)
        watches.write(7, "a", "b")
        wait_status(lab, "^domain domid=7 pid=- state=new .* depth=2 ")
        assert "probe_ms=-" not in " ".join(f"{k}={v}" for k, v in status(lab, "xenwatch").items())
        watches.tell(f"free {watches.node(7, 'a')}")
        calls = watches.wait_calls(before + 4)[before:]
        assert [call.task for call in calls] == ["xenwatch"] * 2 + ["xen-mtwatch-7"] * 2
        assert not any(call.concurrent for call in calls)
        remove_node(lab, 7)
        wait_ended(lab, 7)


@BOTH_KERNELS
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


@STOCK
def test_unregistering_waits_for_the_domain_and_drops_what_is_queued(
    lab: Lab, watches: Watches
) -> None:
    with loaded(lab, "mode=node"):
        add_node(lab, 7, 8)
        watches.watch(7, "a", "b")
        watches.watch(8, "a")
        before = len(watches.calls())
        hold(lab, watches, 7, "a")
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


@STOCK
def test_a_storm_of_events_does_not_make_a_queue_grow(lab: Lab, watches: Watches) -> None:
    with loaded(lab, "mode=node"):
        add_node(lab, 7)
        watches.watch(7, "a", "b")
        hold(lab, watches, 7, "a")
        lab.run(
            f"for n in {{1..40}}; do xenstore-write {watches.node(7, 'b')} $n; done", check=True
        )
        record = status(lab, "domain", 7)
        assert (record["depth"], record["max_depth"]) == ("1", "1")
        assert int(record["merged"]) >= 39
        watches.tell(f"free {watches.node(7, 'a')}")
        remove_node(lab, 7)
        wait_ended(lab, 7)


@STOCK
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


@STOCK
def test_more_domains_than_threads(lab: Lab, watches: Watches) -> None:
    """The others are left to xenwatch, and get a thread when there is room."""
    with loaded(lab, "mode=node", "max_threads=1", allowed=("gets no thread",)):
        add_node(lab, 7)
        lab.run(f"xenstore-write {NODES}/8 ''", check=True)
        watches.watch(7, "a")
        watches.watch(8, "a")
        assert tasks_of(watches, 7) == ["xen-mtwatch-7"]
        assert tasks_of(watches, 8) == ["xenwatch"]
        remove_node(lab, 7)
        lab.wait_for("pgrep -x xen-mtwatch-8", 30)
        watches.write(8, "a")
        watches.wait_calls(3)
        assert tasks_of(watches, 8) == ["xenwatch", "xen-mtwatch-8"]
        remove_node(lab, 8)
        wait_ended(lab, 8)


@BOTH_KERNELS
def test_without_nodes_a_thread_comes_with_the_first_event_and_goes_when_idle(
    lab: Lab, watches: Watches
) -> None:
    with loaded(lab, "mode=auto", "idle_secs=2"):
        watches.watch(9, "a")
        assert tasks_of(watches, 9) == ["xen-mtwatch-9"]
        wait_ended(lab, 9)
        watches.write(9, "a")
        watches.wait_calls(2)
        assert tasks_of(watches, 9) == ["xen-mtwatch-9"] * 2
        assert status(lab, "module")["passed"] == "0"


@BOTH_KERNELS
def test_watches_from_before_the_load_and_after_the_unload(lab: Lab, watches: Watches) -> None:
    """Nothing is lost on the way from xenwatch to the thread and back."""
    watches.watch(7, "old")
    with loaded(lab):
        wait_status(lab, "^module .* partial=0 ")
        watches.write(7, "old")
        watches.wait_calls(2)
        watches.watch(7, "new")
        assert tasks_of(watches, 7) == ["xenwatch", "xen-mtwatch-7", "xen-mtwatch-7"]
    seen = len(watches.calls())
    watches.write(7, "old", "new")
    # What is given back gets an event of its own, as every new watch does.
    calls = watches.wait_calls(seen + 2)
    assert {call.node[-3:] for call in calls[seen:]} == {"old", "new"}
    assert {call.task for call in calls[seen:]} == {"xenwatch"}
    assert not any(call.concurrent for call in calls)


@STOCK
def test_switching_off_during_a_stall(lab: Lab, watches: Watches) -> None:
    """It says so at once, can be taken back, and goes through when the stall is over."""
    with loaded(lab):
        watches.watch(7, "a")
        hold(lab, watches, 7, "a")
        set_parameter(lab, "enabled", 0)
        assert status(lab, "module")["state"] == "draining"
        assert "in use" in lab.run("rmmod xen_mtwatch", 10).err
        set_parameter(lab, "enabled", 1)
        assert status(lab, "module")["state"] == "on"
        watches.watch(8, "a")
        assert tasks_of(watches, 8) == ["xen-mtwatch-8"]
        set_parameter(lab, "enabled", 0)
        watches.tell(f"free {watches.node(7, 'a')}")
        wait_status(lab, "^module .* state=off ", 60)
        set_parameter(lab, "enabled", 1)
        watches.write(8, "a")
        lab.wait_for("pgrep -x xen-mtwatch-8", 30)


@STOCK
def test_a_callback_that_takes_long_is_named_once(lab: Lab, watches: Watches) -> None:
    listener = "import socket as s; k = s.socket(16, 2, 15); k.bind((0, 1)); k.settimeout(30)\n"
    listener += "while b'MTWATCH_DOMID=7' not in (m := k.recv(9999)): pass\nprint(m)"
    lab.push("/run/listen.py", listener)
    heard = lab.spawn("exec python3 /run/listen.py")
    with loaded(lab, "warn_secs=1"):
        watches.watch(7, "a", "b")
        hold(lab, watches, 7, "a")
        watches.write(7, "b")
        uevent = heard.wait(40).out
        node = watches.node(7, "a")
        assert "MTWATCH_CALLBACK=callback" in uevent
        assert f"MTWATCH_PATH={node}" in uevent
        lab.run("sleep 2")
        warned = lab.run("dmesg | grep 'xen-mtwatch-7 (pid'").out.splitlines()
        assert len(warned) == 1
        assert f"has been in callback for 1 s, on {node}" in warned[0]
        watches.tell(f"free {node}")


@STOCK
def test_whoever_has_the_functions_already_is_left_alone(lab: Lab) -> None:
    with quiet(lab):
        lab.run("modprobe mtwrival", check=True)
        refused = lab.run("xlmt kernel load", 30)
        assert refused.rc == 1
        assert "patch of 2018" in refused.err
        lab.run("rmmod mtwrival && modprobe mtwrival patch=1", check=True)
        refused = lab.run("modprobe xen_mtwatch", 30)
        assert "busy" in refused.err
        lab.run("rmmod mtwrival && sysctl -w kernel.ftrace_enabled=0", check=True)
        refused = lab.run("modprobe xen_mtwatch", 30)
        assert "busy" in refused.err
        lab.run("sysctl -w kernel.ftrace_enabled=1", check=True)
    with loaded(lab, "enabled=0"):
        lab.run("modprobe mtwrival", check=True)
        assert lab.run(f"echo 1 > {PARAMETERS}/enabled", 30).rc != 0
        assert status(lab, "module")["state"] == "off"
        lab.run("rmmod mtwrival", check=True)
        set_parameter(lab, "enabled", 1)
        wait_status(lab, "^module .* state=on ")
        assert lab.run("sysctl -w kernel.ftrace_enabled=0").rc != 0
        assert lab.run("modprobe mtwrival patch=1").rc != 0


@pytest.mark.ends_host
@NEWER
def test_when_ftrace_gave_up_long_ago_the_module_is_refused(lab: Lab) -> None:
    """Not loaded and "leaving" for ever, as when ftrace gives up on the module itself."""
    assert "canceled" in lab.run("modprobe mtwrival kill=1").err.lower()
    refused = lab.run("modprobe xen_mtwatch", 30)
    assert "busy" in refused.err
    assert lab.run("lsmod | grep xen_mtwatch").out == ""
