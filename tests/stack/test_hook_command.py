# SPDX-License-Identifier: LGPL-2.1-or-later
"""xlmt hook: what a toolstack's event makes of the nodes, and that it never gets in its way."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stack.product import ok
from tests.stack.stack import MTWATCH, Stack, eventually
from tests.stack.trace import writes

XLMT = Path(sys.executable).parent / "xlmt"
#: The hook's own limit is 5 s; the rest is for a machine that is busy.
BOUND_S = 15

#: The uuid of a VM that is not there; the same in every process, since it is in tests' names.
VM = "8d9a7b0e-52cb-4cf5-8f0e-2f7b1a4c6e11"
#: One call of each toolstack that is about domain 7, and its input.
ABOUT_7 = [
    ("libvirt", "web7", "started", "begin", "-"),
    ("libvirt", "web7", "reconnect", "begin", "-"),
    ("libvirt", "web7", "stopped", "end", "-"),
    ("xapi", "vm-post-resume", "-vmuuid", VM, "-reason", "none", "-vmdomid", "7"),
    ("xapi", "vm-pre-shutdown", "-vmuuid", "x", "-reason", "hard-shutdown", "-vmdomid", "7"),
    ("hotplug", "online"),
    ("hotplug", "remove"),
]
#: Calls that do not say which domain it is.
ABOUT_ANY = [
    ("libvirt", "web7", "release", "end", "-"),
    ("xapi", "vm-post-destroy", "-vmuuid", VM, "-reason", "clean-shutdown"),
]
XML = "<domain type='xen'{}>\n  <name>web7</name>\n</domain>\n"


def hook(stack: Stack, *call: str, domid: int | None = 7) -> str:
    """Call it as its toolstack does; return what it said, after the checks that always hold."""
    path = {"XENBUS_PATH": f"backend/vif/{domid}/0"}
    xml = XML.format(f" id='{domid}'" if domid else "")
    done = stack.xlmt("hook", *call, env=path, input=xml, timeout=BOUND_S)
    return judged(done)


def judged(done: subprocess.CompletedProcess[str]) -> str:
    assert (ok(done).stdout, "Traceback" in done.stderr) == ("", False)
    lines = done.stderr.splitlines()
    assert len(lines) <= 1, done.stderr
    return lines[0].removeprefix("xlmt: ") if lines else ""


def add_nodes(stack: Stack, *names: object) -> None:
    with stack.client() as client:
        for name in names:
            client.mkdir(f"{MTWATCH}/{name}")
            client.set_perms(f"{MTWATCH}/{name}", "n0")


# --- one domid -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", ABOUT_7, ids=" ".join)
def test_the_node_of_an_unhooked_domain_is_added_and_no_other(
    stack: Stack, call: tuple[str, ...]
) -> None:
    stack.add_domains([6, 7])
    add_nodes(stack, 9)
    before = len(stack.trace())
    assert hook(stack, *call) == "node 7 added: d7 (domain 7) runs without a node"
    assert stack.nodes() == {"7": "n0", "9": "n0"}
    changed = {request.path for request in writes(stack.trace()[before:])}
    assert changed == {f"{MTWATCH}/7"}


@pytest.mark.parametrize("call", ABOUT_7, ids=" ".join)
def test_what_is_left_over_of_a_domain_is_removed_and_no_other(
    stack: Stack, call: tuple[str, ...]
) -> None:
    add_nodes(stack, 7, 9)
    said = hook(stack, *call)
    assert said == "node 7 removed: domain 7 is gone and the kernel holds none of its devices"
    assert stack.nodes() == {"9": "n0"}


@pytest.mark.parametrize("call", ABOUT_7, ids=" ".join)
def test_the_node_stays_while_the_kernel_holds_a_device(
    stack: Stack, call: tuple[str, ...]
) -> None:
    add_nodes(stack, 7)
    with stack.kernel_holds(7):
        assert hook(stack, *call) == ""
        assert stack.nodes() == {"7": "n0"}


def test_where_all_is_in_order_or_nothing_is_left_it_is_silent(stack: Stack) -> None:
    stack.add_domains([7])
    add_nodes(stack, 7)
    before = len(stack.trace())
    assert hook(stack, "libvirt", "web7", "started", "begin", "-") == ""
    assert hook(stack, "libvirt", "web8", "stopped", "end", "-", domid=8) == ""
    assert writes(stack.trace()[before:]) == []


# --- any domid -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", ABOUT_ANY, ids=" ".join)
def test_an_event_without_a_domid_is_a_whole_pass(stack: Stack, call: tuple[str, ...]) -> None:
    stack.add_domains([6])
    add_nodes(stack, 8, 9)
    stack.hold_device(9)
    said = hook(stack, *call, domid=None)
    assert said.split("; ") == [
        "node 6 added: d6 (domain 6) runs without a node",
        "node 8 removed: domain 8 is gone and the kernel holds none of its devices",
    ]
    assert set(stack.nodes()) == {"6", "9"}


def test_a_whole_pass_has_the_safety_gate_and_the_one_domid_has_it_not_in_its_way(
    stack: Stack,
) -> None:
    stack.add_domains([6])
    add_nodes(stack, *range(20, 40))
    said = hook(stack, *ABOUT_ANY[0], domid=None)
    assert said.startswith("node 6 added")
    assert "20 of 20 nodes would be removed at once" in said
    assert len(stack.nodes()) == 21
    assert hook(stack, "libvirt", "web20", "stopped", "end", "-", domid=20).startswith("node 20 ")
    assert "20" not in stack.nodes()


def test_of_many_changes_the_first_are_named(stack: Stack) -> None:
    stack.add_domains(range(1, 41))
    said = hook(stack, *ABOUT_ANY[0], domid=None)
    assert said.startswith("node 1 added: d1 (domain 1) runs without a node; node 2 added")
    assert said.endswith("; and 36 more")
    assert len(stack.nodes()) == 40


# --- a domain that is to come --------------------------------------------------------------


def about_to_start(stack: Stack, vm: str) -> subprocess.Popen[str]:
    call = ("vm-pre-start", "-vmuuid", vm, "-reason", "none")
    return stack.popen(XLMT, "hook", "xapi", *call)


@contextmanager
def waiting(stack: Stack, vm: str) -> Iterator[subprocess.Popen[str]]:
    """A hook that has looked and not found the VM's domain."""
    with about_to_start(stack, vm) as process:
        try:
            eventually(
                lambda: any(r.op == "WATCH" and "@introduce" in r.path for r in stack.trace())
            )
            yield process
        finally:
            process.kill()


def test_the_node_of_a_domain_that_comes_after_the_event_is_added(stack: Stack) -> None:
    vm = uuid.uuid4()
    with waiting(stack, str(vm)) as process:
        stack.add_domains([6])
        stack.hypervisor.add(7, handle=vm.hex)
        stack.add_domain(7)
        out, err = process.communicate(timeout=BOUND_S)
    assert (process.returncode, out) == (0, "")
    assert err == "xlmt: node 7 added: d7 (domain 7) runs without a node\n"
    assert set(stack.nodes()) == {"7"}


# --- nothing to do -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        ("libvirt", "web7", "prepare", "begin", "-"),
        ("libvirt", "web7", "migrate", "begin", "-"),
        ("xapi", "vm-pre-migrate", "-vmuuid", "x", "-reason", "source", "-vmdomid", "7"),
        ("hotplug", "frobnicate"),
    ],
    ids=" ".join,
)
def test_other_events_ask_nothing_of_xenstored(stack: Stack, call: tuple[str, ...]) -> None:
    stack.add_domains([7])
    before = len(stack.trace())
    assert hook(stack, *call) == ""
    assert stack.trace()[before:] == []


@pytest.mark.parametrize(
    "call",
    [(), ("xend", "7"), ("libvirt",), ("libvirt", "--help"), ("xapi",), ("hotplug",), ("--odd",)],
    ids=" ".join,
)
def test_a_call_that_makes_no_sense_is_said_and_is_no_failure(
    stack: Stack, call: tuple[str, ...]
) -> None:
    assert hook(stack, *call)


# --- no answer -----------------------------------------------------------------------------


CALLS = [ABOUT_7[0], ABOUT_ANY[1], ("xapi", "vm-pre-start", "-vmuuid", VM)]


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_without_xenstored_it_says_so_and_is_no_failure(
    stack: Stack, call: tuple[str, ...]
) -> None:
    stack.kill_daemon()
    assert "is it running?" in hook(stack, *call)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_xenstored_that_does_not_answer_is_left_in_time(
    stack: Stack, call: tuple[str, ...]
) -> None:
    stack.freeze_daemon()
    try:
        assert "xenstored" in hook(stack, *call)
    finally:
        stack.thaw_daemon()


@pytest.mark.parametrize("op", ["DIRECTORY", "TRANSACTION_START", "MKDIR", "TRANSACTION_END"])
def test_a_xenstored_that_falls_silent_in_the_middle_is_left_in_time(stack: Stack, op: str) -> None:
    stack.add_domains([7])
    with stack.proxy() as proxy:
        proxy.mute_at(lambda packet: packet.op == op)
        xml = XML.format(" id='7'")
        done = stack.xlmt("hook", *ABOUT_7[0], env=proxy.env, input=xml, timeout=BOUND_S)
        assert proxy.fired.is_set()
    assert judged(done)


@pytest.mark.parametrize("fault", ["list", "info"])
def test_a_hypervisor_that_does_not_answer_is_no_failure(stack: Stack, fault: str) -> None:
    add_nodes(stack, 7)
    with stack.hypervisor.fault(fault):
        assert hook(stack, *ABOUT_7[0])
    assert set(stack.nodes()) == {"7"}


def test_an_output_that_nobody_reads_is_no_failure(stack: Stack) -> None:
    stack.add_domains([7])
    xml = XML.format(" id='7'")
    command = f'printf %s "$0" | {XLMT} hook {" ".join(ABOUT_7[0])} 2>&1 >/dev/null | true'
    done = stack.run("bash", "-o", "pipefail", "-c", command, xml, timeout=BOUND_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(stack.nodes()) == {"7"}


def test_an_input_that_never_ends_is_left_in_time(stack: Stack) -> None:
    with stack.popen(XLMT, "hook", *ABOUT_7[0]) as process:
        began = time.monotonic()
        assert process.wait(BOUND_S) == 0
        assert time.monotonic() - began > 2
        assert process.stdout
        assert process.stderr
        assert process.stdout.read() == ""
        assert "the hook did not finish within" in process.stderr.read()
