# SPDX-License-Identifier: LGPL-2.1-or-later
"""xen_mtwatch on and off, its parameters, what it tells, and who else has a hand in its functions.

Witnesses: the kernel's log, its events and its tracer, and those of test_kernel.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.dmesg import quiet
from tests.lab.hosts import KERNELS
from tests.lab.mtwatch import (
    DEBUGFS,
    NODES,
    PARAMETERS,
    Watches,
    add_node,
    loaded,
    node_requests,
    remove_node,
    set_parameter,
    status,
    unload,
    wait_ended,
    wait_status,
)
from tests.lab.vm import Lab

MANUAL = Path(__file__).parents[2] / "man/xen_mtwatch.4"
TRACING = f"{DEBUGFS}/tracing"
#: Prints the module's uevents up to the one that a callback for /last is told of.
LISTENER = r"""
import socket
with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as kernel:
    kernel.bind((0, 1))
    kernel.settimeout(40)
    message = b""
    while b"/last" not in message:
        message = kernel.recv(9999)
        if b"MTWATCH_" in message:
            print(message.decode().replace("\0", " "))
"""

#: What the kernel's log says, up to the path.
CAUGHT = r"xenwatch (pid [0-9]*) has been in callback for 1 s, of domain 7, on "

pytestmark = pytest.mark.usefixtures("nodes_by_hand")


def test_switching_off_during_a_stall(lab: Lab, watches: Watches) -> None:
    """It says so at once, can be taken back, and goes through when the stall is over."""
    with loaded(lab):
        watches.watch(7, "a")
        watches.hold(7, "a")
        set_parameter(lab, "enabled", 0)
        assert status(lab, "module")["state"] == "draining"
        assert "in use" in lab.run("rmmod xen_mtwatch", 10).err
        set_parameter(lab, "enabled", 1)
        assert status(lab, "module")["state"] == "on"
        assert status(lab, "domain", 7)["state"] == "up"
        watches.watch(8, "a")
        assert watches.tasks(8) == ["xen-mtwatch-8"]
        set_parameter(lab, "enabled", 0)
        watches.tell(f"free {watches.node(7, 'a')}")
        wait_status(lab, "^module .* state=off ", 60)
        set_parameter(lab, "enabled", 1)
        wait_status(lab, "^module .* partial=0 ")  # until then 8 is xenwatch's
        watches.write(8, "a")
        lab.wait_for("pgrep -x xen-mtwatch-8", 30)


def test_more_domains_than_threads(lab: Lab, watches: Watches) -> None:
    """The others are left to xenwatch, and get a thread when there is room."""
    with loaded(lab, "mode=node", "max_threads=1"):
        add_node(lab, 7)
        lab.run(f"xenstore-write {NODES}/8 ''", check=True)
        watches.watch(7, "a")
        watches.watch(8, "a")
        assert watches.tasks(7) == ["xen-mtwatch-7"]
        assert watches.tasks(8) == ["xenwatch"]
        said = lab.run("dmesg | tail -n 20").out
        assert "domain 8 gets no thread: there are max_threads (1) already" in said
        set_parameter(lab, "max_threads", 2)
        lab.wait_for("pgrep -x xen-mtwatch-8", 30)
        watches.write(8, "a")
        watches.wait_calls(3)
        assert watches.tasks(8) == ["xenwatch", "xen-mtwatch-8"]
        lab.run(f"xenstore-write {NODES}/9 ''", check=True)
        remove_node(lab, 7)
        lab.wait_for("pgrep -x xen-mtwatch-9", 30)
        remove_node(lab, 8, 9)
        wait_ended(lab, 8, 9)


def test_the_mode_says_who_gets_a_thread_and_can_be_changed(lab: Lab, watches: Watches) -> None:
    with loaded(lab, "mode=node", "idle_secs=1"):
        watches.watch(9, "a")
        set_parameter(lab, "mode", "auto")
        watches.write(9, "a")
        watches.wait_calls(2)
        assert watches.tasks(9) == ["xenwatch", "xen-mtwatch-9"]
        lab.run(f"xenstore-write {NODES}/7 ''", check=True)
        wait_ended(lab, 9)  # which takes longer than a node's thread to come
        assert lab.run("pgrep -x xen-mtwatch-7").rc == 1
        set_parameter(lab, "mode", "both")
        lab.wait_for("pgrep -x xen-mtwatch-7", 30)
        watches.write(9, "a")
        watches.wait_calls(3)
        wait_ended(lab, 9)
        assert status(lab, "domain", 7)["by"] == "node"  # idle for as long, and still there
        remove_node(lab, 7)
        wait_ended(lab, 7)


def test_callbacks_that_are_stuck_keep_nobody_waiting(lab: Lab, watches: Watches) -> None:
    """All guests whose storage has gone at once; another one has its event just after them."""
    domids = [*range(101, 121), 7]
    nodes = [watches.node(domid, "a") for domid in domids]
    with loaded(lab, "max_active=1"):
        watches.tell(*(f"watch {node}" for node in nodes))
        watches.wait_calls(len(nodes))
        watches.tell(*(f"hold {node}" for node in nodes[:-1]))
        words = " ".join(f"{node} ''" for node in nodes)
        lab.run(f"xenstore-write {words}", check=True)
        watches.wait_calls(2 * len(nodes))
        assert watches.tasks(7) == ["xen-mtwatch-7"] * 2
        doing = [status(lab, "domain", domid)["callback"] for domid in domids]
        assert doing == [*["callback"] * 20, "-"]
        assert status(lab, "module")["waiting"] == "0"
        watches.tell("free *")


@pytest.mark.parametrize(
    ("load", "first", "seconds"),
    [
        ("xlmt kernel load mode=node", 101, 3),
        pytest.param("modprobe xen_mtwatch mode=node", 101, 60, marks=pytest.mark.long),
        pytest.param("modprobe xen_mtwatch mode=node", 20101, 60, marks=pytest.mark.long),
    ],
)
def test_a_thousand_nodes_have_their_threads_soon(
    lab: Lab, load: str, first: int, seconds: int
) -> None:
    """More than xenstored lists for the kernel in one reply: each has to be asked about.

    How long that takes is up to the machine, so the questions are counted: from 20101 on there is
    one for each domid if they are asked in ascending order.
    """
    nodes = f"for d in $(seq {first} {first + 999}); do echo {NODES}/$d"
    lab.run(f"{nodes}; echo 0; done | xargs -n 200 xenstore-write", 60, check=True)
    try:
        with quiet(lab):
            before = node_requests(lab)
            lab.run(load, 30, check=True)
            wait_status(lab, "^module .* state=on .* threads=1000 ", seconds)
            assert node_requests(lab) - before < 3000
            unload(lab)
    finally:
        lab.run(f"{nodes}; done | xargs -n 200 xenstore-rm")


def test_a_hint_makes_no_thread_that_lasts_without_a_node(lab: Lab) -> None:
    with loaded(lab, "domids=101-103"):
        wait_ended(lab, 101, 102, 103)


@pytest.mark.long  # depmod takes a minute there, twice
def test_a_module_that_was_loaded_by_its_file_is_unloaded(lab: Lab) -> None:
    file = lab.run("modinfo -n xen_mtwatch", check=True).out.strip()
    lab.run(f"cp {file} /tmp/other.ko && modprobe -r xen_mtwatch", check=True)
    with quiet(lab):
        lab.run("insmod /tmp/other.ko", 30, check=True)
        hidden = f"mv {file} {file}.hidden && depmod -a"
        lab.run(hidden, 60, check=True)
        try:
            assert "unloaded" in lab.run("xlmt kernel unload", 60, check=True).out
        finally:
            lab.run(f"mv {file}.hidden {file} && depmod -a", 60, check=True)


def test_a_callback_that_takes_long_is_named_once(lab: Lab, watches: Watches) -> None:
    lab.push("/run/listen.py", LISTENER)
    heard = lab.spawn("exec python3 /run/listen.py")
    with loaded(lab, "warn_secs=1"):
        watches.watch(7, "first", "b", "last")
        for name in ("first", "last"):
            watches.hold(7, name)
            watches.write(7, "b")
            lab.run("sleep 3")
            watches.tell(f"free {watches.node(7, name)}")
        uevents = heard.wait(60).out.splitlines()
        warned = lab.run("dmesg | grep 'xen-mtwatch-7 (pid'").out.splitlines()
        assert len(uevents) == len(warned) == 2
        for name, uevent, line in zip(("first", "last"), uevents, warned, strict=True):
            node = watches.node(7, name)
            assert f"MTWATCH_DOMID=7 MTWATCH_CALLBACK=callback MTWATCH_PATH={node} " in uevent
            assert re.search(r"MTWATCH_AGE_MS=[12]\d{3} MTWATCH_THREAD=xen-mtwatch-7 ", uevent)
            assert f"has been in callback for 1 s, on {node}" in line


#: A watch that the module leaves to xenwatch, and knows nothing of.
NOBODYS = "/local/domain/0/mtwtest/own"

XENBUS_USER = """
import os, struct, subprocess, sys
xenbus = os.open("/dev/xen/xenbus", os.O_RDWR)
held = b""
def ask(kind):
    body = b"mtwtest/told\\0token\\0"
    os.write(xenbus, struct.pack("<IIII", kind, 1, 0, len(body)) + body)
def answer(kind):
    global held
    while True:
        while len(held) < 16 or len(held) < 16 + struct.unpack_from("<I", held, 12)[0]:
            held += os.read(xenbus, 4096)
        was, size = struct.unpack_from("<I8xI", held)
        body, held = held[16:16 + size], held[16 + size:]
        if was == kind:
            return body.split(b"\\0")[0].decode()
ask(4)
answer(4)
paths = [answer(15)]
for n in range(3):
    subprocess.run(["xenstore-write", f"/local/domain/0/mtwtest/told/{n}", ""], check=True)
paths += [answer(15) for n in range(3)]
ask(5)
answer(5)
os.close(xenbus)
print(*paths)
"""
MEMORY = "/sys/devices/system/xen_memory/xen_memory0"


@KERNELS
def test_what_is_no_guests_does_not_wait_for_xenwatch(lab: Lab, watches: Watches) -> None:
    """Domain 0's own devices, user space by /dev/xen/xenbus, and the balloon's target."""
    lab.push("/run/user.py", XENBUS_USER)
    target = int(lab.read(f"{MEMORY}/target_kb"))
    told = lab.run("xenstore-exists /local/domain/0/memory/target").rc == 0
    with loaded(lab):
        wait_status(lab, "^module .* partial=0 ")
        watches.watch_at(NOBODYS)
        watches.watch(0, "a")
        lab.wait_for("pgrep -x xen-mtwatch-0")
        watches.tell(f"hold {NOBODYS}")
        lab.run(f"xenstore-write {NOBODYS} ''", check=True)
        wait_status(lab, "^xenwatch .* probe_ms=[0-9]{4}")
        before = len(watches.calls())
        watches.write(0, "a", "a")
        watches.wait_calls(before + 1)
        assert watches.tasks(0)[-1] == "xen-mtwatch-0"
        paths = lab.run("python3 /run/user.py", 20, check=True).out.split()
        assert paths == ["mtwtest/told", *(f"mtwtest/told/{n}" for n in range(3))]
        assert status(lab, "users")["done"] == "4"
        lab.run(f"xenstore-write /local/domain/0/memory/target {target - 4096}", check=True)
        lab.wait_for(f"grep -x {target - 4096} {MEMORY}/target_kb", 10)
        assert status(lab, "xenwatch")["probe_ms"] != "-"
        watches.tell("free *")
        lab.run(f"xenstore-write /local/domain/0/memory/target {target}", check=True)
        lab.wait_for(f"grep -x {target} {MEMORY}/target_kb", 10)
    if not told:  # libxl takes it for told in full
        lab.run("xenstore-rm /local/domain/0/memory", check=True)
    lab.run("xenstore-rm /local/domain/0/mtwtest", check=True)


@KERNELS
def test_what_xenwatch_had_long_ago_is_not_waited_for(lab: Lab, watches: Watches) -> None:
    """Domain 0 is taken for one that has events there when the module comes; 7 had one since."""
    with loaded(lab, "mode=node"):
        wait_status(lab, "^module .* partial=0 ")
        watches.watch(7, "a")
        assert watches.tasks(7) == ["xenwatch"]
        watches.watch_at(NOBODYS)
        lab.run("sleep 5")  # the module asks xenwatch once a second, and forgets after two answers
        watches.tell(f"hold {NOBODYS}")
        lab.run(f"xenstore-write {NOBODYS} ''", check=True)
        wait_status(lab, "^xenwatch .* probe_ms=[0-9]{4}")
        add_node(lab, 7)
        set_parameter(lab, "mode", "both")
        watches.watch(0, "a")
        assert watches.tasks(0)[-1] == "xen-mtwatch-0"
        assert status(lab, "xenwatch")["probe_ms"] != "-"
        watches.tell("free *")
        remove_node(lab, 7)
    lab.run("xenstore-rm /local/domain/0/mtwtest", check=True)


def test_xenwatch_is_told_of_as_well(lab: Lab, watches: Watches) -> None:
    """With what it is in, also when that is older than the module; or that nobody knows."""
    lab.push("/run/listen.py", LISTENER)
    heard = lab.spawn("exec python3 /run/listen.py")
    watches.watch(7, "older")
    with loaded(lab, "mode=node", "warn_secs=1"):
        wait_status(lab, "^module .* partial=0 ")
        watches.watch(7, "last")
        watches.watch_at(NOBODYS)
        older, own, last = watches.node(7, "older"), NOBODYS, watches.node(7, "last")
        watches.tell(f"hold {older}", f"hold {own}")
        watches.write(7, "older")
        lab.run(f"xenstore-write {own} ''", check=True)
        wait_status(lab, "^xenwatch .* probe_ms=[0-9]")  # it is asked, as it is not again
        lab.wait_for(f"dmesg | grep '{CAUGHT}{older}'")
        watches.tell(f"free {older}")
        silent = "xenwatch has not answered for [1-9]"
        lab.wait_for(f"dmesg | sed '1,\\|{CAUGHT}{older}|d' | grep '{silent}'")
        watches.tell(f"free {own}")
        watches.hold_xenwatch(7, "last")
        lab.wait_for(f"dmesg | grep '{CAUGHT}{last}'")
        watches.tell("free *")
        uevents = heard.wait(60).out.splitlines()
    assert len(uevents) == 3
    assert f"MTWATCH_DOMID=7 MTWATCH_CALLBACK=callback MTWATCH_PATH={older} " in uevents[0]
    assert "MTWATCH_DOMID=- MTWATCH_CALLBACK=- MTWATCH_PATH=- MTWATCH_AGE_MS=" in uevents[1]
    assert " MTWATCH_THREAD=xenwatch " in uevents[1]
    assert f"MTWATCH_DOMID=7 MTWATCH_CALLBACK=callback MTWATCH_PATH={last} " in uevents[2]
    lab.run("xenstore-rm /local/domain/0/mtwtest", check=True)


def test_a_silent_xenstored_is_not_taken_for_a_stuck_xenwatch(lab: Lab) -> None:
    with loaded(lab, "warn_secs=1"):
        lab.run("kill -STOP $(cat /run/xen/xenstored.pid)", check=True)
        try:
            wait_status(lab, "^module .* store_ms=[5-9][0-9]{3}$")  # who reads it has it ask
            assert status(lab, "xenwatch")["probe_ms"] == "-"
            told = lab.run("xlmt kernel status", 30)
        finally:
            lab.run("kill -CONT $(cat /run/xen/xenstored.pid)", check=True)
        assert told.rc == 3
        assert told.out.startswith("xenstored has not answered the kernel for ")
        wait_status(lab, "^module .* store_ms=-$")
        log = lab.run("dmesg | tail -n 20").out
        assert "xen_mtwatch: xenstored has not answered for 1 s" in log
        assert "xenwatch has not answered" not in log.split("xenstored has not")[1]


@KERNELS
def test_the_status_and_the_tracepoints_are_those_of_the_manual(lab: Lab, watches: Watches) -> None:
    example = re.search(r"^xen_mtwatch 1\n(.*?)^\.Ed", MANUAL.read_text(), re.M | re.S)
    assert example
    promised = [
        (line.split()[0], re.findall(r"(\w+)=", line))
        for line in example[1].replace("\n  ", " ").splitlines()
    ]
    assert [kind for kind, _ in promised] == ["module", "xenwatch", "domain"]
    with loaded(lab):
        lab.run(f"cd {TRACING} && echo > trace && echo 1 > events/xen_mtwatch/enable", check=True)
        watches.watch(7, "a")
        for kind, keys in promised:
            assert list(status(lab, kind)) == keys
        lab.run(f"echo 0 > {TRACING}/events/xen_mtwatch/enable", check=True)
        traced = lab.read(f"{TRACING}/trace")
        path = watches.node(7, "a")
        assert f"mtwatch_queue: domid=7 path={path} taken=1" in traced
        assert re.search(f"xen-mtwatch-7-.* mtwatch_begin: domid=7 path={path} callback=", traced)
        assert re.search(f"mtwatch_end: domid=7 path={path} callback=callback.* ns=[0-9]", traced)


@KERNELS
def test_others_may_trace_the_same_functions(lab: Lab, watches: Watches) -> None:
    tracer = f"""cd {TRACING} && echo > trace
        echo register_xenbus_watch unregister_xenbus_watch > set_ftrace_filter
        echo function > current_tracer
        echo 'p:mtwlab register_xenbus_watch' > kprobe_events
        echo 1 > events/kprobes/mtwlab/enable"""
    lab.run(f"set -e; {tracer}", check=True)
    with loaded(lab):
        watches.watch(7, "a")
        assert watches.tasks(7) == ["xen-mtwatch-7"]
    watches.watch(7, "b")
    assert watches.tasks(7)[-1] == "xenwatch"
    traced = lab.read(f"{TRACING}/trace")
    lab.run(f"""cd {TRACING} && echo 0 > events/kprobes/mtwlab/enable; echo > kprobe_events
        echo nop > current_tracer; echo > set_ftrace_filter""", check=True)  # fmt: skip
    assert len(re.findall(r"bash-\d+ .*: register_xenbus_watch <-", traced)) >= 2
    assert len(re.findall(r"bash-\d+ .*: mtwlab: \(register_xenbus_watch", traced)) >= 2


def test_whoever_has_the_functions_already_is_left_alone(lab: Lab) -> None:
    with quiet(lab):
        lab.run("modprobe mtwrival", check=True)
        refused = lab.run("xlmt kernel load", 30)
        assert refused.rc == 1
        assert "patch of 2018" in refused.err
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


@KERNELS
def test_beside_a_live_patch_of_the_same_function_whoever_came_first_stays(lab: Lab) -> None:
    patch = "/sys/kernel/livepatch/mtwlive"
    with quiet(lab):
        lab.run("modprobe mtwlive", 30, check=True)
        try:
            lab.wait_for(f"grep 0 {patch}/transition")
            refused = lab.run("xlmt kernel load", 30)
        finally:
            lab.run(f"echo 0 > {patch}/enabled", check=True)
            lab.wait_for("rmmod mtwlive")
        assert refused.rc == 1
        assert "live patch" in refused.err
    with loaded(lab):
        assert lab.run("modprobe mtwlive").rc != 0
        assert status(lab, "module")["state"] == "on"


@pytest.mark.ends_host
def test_when_ftrace_gave_up_long_ago_the_module_is_refused(lab: Lab) -> None:
    """Not loaded and "leaving" for ever, as when ftrace gives up on the module itself."""
    assert "canceled" in lab.run("modprobe mtwrival kill=1").err.lower()
    refused = lab.run("modprobe xen_mtwatch", 30)
    assert "busy" in refused.err
    assert "which only a reboot mends" in lab.run("xlmt kernel load", 30).err
    assert lab.run("lsmod | grep xen_mtwatch").out == ""
