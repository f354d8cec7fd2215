# SPDX-License-Identifier: LGPL-2.1-or-later
"""What fails, or is killed, after the domain exists leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stack.product import NODES, create, ok, set_xl_conf
from tests.stack.proxy import Packet
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import NO_LIMIT, log, look, supervising

XLMT = Path(sys.executable).parent / "xlmt"
LIB = "/var/lib/xen"


def clean(stack: Stack) -> bool:
    return set(stack.domains()) == {0} and stack.nodes() == {}


# --- no space, no descriptors --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nr_inodes=1", "ro"])
@pytest.mark.parametrize("options", [[], ["-e"], ["-p"]], ids=str)
def test_a_creation_without_space_for_the_configuration_leaves_nothing(
    stack: Stack, kind: str, options: list[str]
) -> None:
    ok(stack.run("mount", "-t", "tmpfs", "-o", kind, "none", LIB))
    done = stack.xlmt("create", "-q", *options, stack.guest("g1"))
    assert done.returncode == 1
    assert "No space left" in done.stderr or "Read-only" in done.stderr
    assert clean(stack)
    ok(stack.run("umount", LIB))
    ok(stack.xlmt("create", "-qe", stack.guest("g1")))  # its name is free


@pytest.mark.parametrize("descriptors", [16, 20, 24])
def test_few_descriptors_leave_no_half_made_domain(stack: Stack, descriptors: int) -> None:
    with supervising(stack):
        command = f"ulimit -n {descriptors}; exec {XLMT} create -q {stack.guest('g1')}"
        done = stack.run("sh", "-c", command)
        assert look(stack)
        assert done.returncode == 0 or clean(stack), done.stderr
        assert not any(d.paused for d in stack.domains().values())


def test_a_guest_that_reboots_into_a_full_disk_is_restarted_once_there_is_space(
    stack: Stack,
) -> None:
    ok(stack.run("mount", "-t", "tmpfs", "-o", "size=256k", "none", LIB))
    with supervising(stack, env=NO_LIMIT):
        create(stack, on_reboot="restart")
        stack.die(1, "reboot")
        eventually(lambda: set(stack.domains()) == {0}, timeout=20)
        stack.run("sh", "-c", f"cat /dev/zero > {LIB}/full")  # within the pause before a restart
        eventually(lambda: "No space left on device; trying again" in log(stack), timeout=30)
        assert "not restarted" not in log(stack)
        assert set(stack.domains()) == {0}
        stack.path(f"{LIB}/full").unlink()
        eventually(lambda: "g1 (domain 1) is restarted as domain" in log(stack), timeout=60)
        (domid,) = set(stack.domains()) - {0}
        assert not stack.domains()[domid].paused


# --- ended in its middle -------------------------------------------------------------------


def start_and_stop(
    stack: Stack, stop: Callable[[Packet], bool], number: int, *options: str
) -> subprocess.Popen[str]:
    """A creation that gets a signal before that request."""
    with stack.proxy() as proxy:
        process = stack.popen(XLMT, "create", "-q", *options, stack.guest("g1"), env=proxy.env)
        proxy.call_at(stop, lambda: process.send_signal(number))
        process.communicate(timeout=90)
        assert proxy.fired.is_set()
    return process


def introduces(packet: Packet) -> bool:
    return packet.op == "INTRODUCE"


def looks_at_the_node(packet: Packet) -> bool:
    """Which comes last: the domain is whole, and paused."""
    return packet.op == "GET_PERMS" and packet.path.startswith(NODES + "/")


def commits(packet: Packet) -> bool:
    """The domain exists, and is not in xenstore."""
    return packet.op == "MKDIR" and packet.path.startswith(NODES + "/")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stop", [introduces, looks_at_the_node])
def test_a_lost_terminal_ends_a_creation_as_ctrl_c_does(
    stack: Stack, stop: Callable[[Packet], bool], number: signal.Signals
) -> None:
    assert start_and_stop(stack, stop, number).returncode == 130
    assert clean(stack)


@pytest.mark.parametrize("options", [[], ["-e"]], ids=str)
@pytest.mark.parametrize("stop", [commits, introduces, looks_at_the_node])
def test_what_a_killed_creation_has_left_is_cleared_up(
    stack: Stack, stop: Callable[[Packet], bool], options: list[str]
) -> None:
    with supervising(stack):
        process = start_and_stop(stack, stop, signal.SIGKILL, *options)
        assert process.returncode == -signal.SIGKILL
        assert look(stack)
        eventually(lambda: clean(stack), timeout=40)
        eventually(lambda: not list(stack.path("/run/xlmt/creations").iterdir()))
        assert f"g1 (domain 1) was left half-made by process {process.pid}" in log(stack)
        create(stack)


def test_without_a_supervisor_the_next_creation_of_that_name_clears_up(stack: Stack) -> None:
    start_and_stop(stack, introduces, signal.SIGKILL, "-e")
    assert 1 in stack.domains()
    ok(stack.xlmt("create", "-qe", stack.guest("g1")))
    assert set(stack.domains()) == {0, 2}


def test_a_paused_domain_of_somebody_elses_is_never_taken_for_what_is_left(stack: Stack) -> None:
    uuid = "00000000-0000-4000-8000-0000000000aa"
    ok(stack.xl("create", "-qep", stack.guest("other", uuid=uuid)))
    with stack.proxy() as proxy:
        config = stack.guest("g1", uuid=uuid)
        process = stack.popen(XLMT, "create", "-qe", config, env=proxy.env)
        proxy.call_at(introduces, process.kill)
        process.communicate(timeout=60)
        assert proxy.fired.is_set()
    with supervising(stack):
        eventually(lambda: set(stack.domains()) == {0, 1}, timeout=40)
        assert look(stack)
    assert set(stack.domains()) == {0, 1}


@pytest.mark.parametrize("stop", [introduces, looks_at_the_node])
def test_xenstored_killed_in_mid_creation_leaves_no_domain_once_it_is_back(
    stack: Stack, stop: Callable[[Packet], bool]
) -> None:
    with supervising(stack):
        with stack.proxy() as proxy:
            proxy.call_at(stop, stack.kill_daemon)
            process = stack.popen(XLMT, "create", "-q", stack.guest("g1"), env=proxy.env)
            _, said = process.communicate(timeout=90)
            assert proxy.fired.is_set(), said
        assert process.returncode in {1, 5}, said
        assert "Traceback" not in said
        stack.start_daemon()
        eventually(lambda: look(stack), timeout=30)
        eventually(lambda: set(stack.domains()) == {0}, timeout=60)


@pytest.mark.timeout(300)
def test_wherever_xenstored_is_killed_the_status_is_a_documented_one(stack: Stack) -> None:
    """libxl calls a connection that breaks a disaster, and would exit with 255."""
    with supervising(stack):
        for number in (15, 35, 55, 75):
            with stack.proxy() as proxy:
                proxy.call_at(number, stack.kill_daemon)
                process = stack.popen(XLMT, "create", "-q", stack.guest("g1"), env=proxy.env)
                _, said = process.communicate(timeout=90)
                assert proxy.fired.is_set()
            assert process.returncode in {1, 5}, said
            assert "Traceback" not in said
            stack.start_daemon()
            eventually(lambda: look(stack), timeout=30)
            eventually(lambda: set(stack.domains()) == {0}, timeout=60)


# --- xl's lock -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made_by", "said"),
    [
        ("mkfifo /run/lock/xl", "is a FIFO of user"),
        ("mkdir /run/lock/xl", "is a directory of user"),
        ("ln -s /run/lock/xl /run/lock/xl", "is a symbolic link of user"),
        ("touch /run/lock/xl && chown 65534 /run/lock/xl", "is a file of user 65534"),
    ],
)
@pytest.mark.parametrize("daemon", ["c"])
def test_a_lock_that_somebody_else_has_made_is_named(stack: Stack, made_by: str, said: str) -> None:
    set_xl_conf(stack, 'autoballoon="on"\nlockfile="/run/lock/xl"\n')
    ok(stack.run("sh", "-c", f"mkdir -p /run/lock; {made_by}"))
    done = stack.xlmt("create", "-qe", stack.guest("g1"), timeout=20)
    assert done.returncode == 1
    assert said in done.stderr
    assert clean(stack)


# --- all of it at once ---------------------------------------------------------------------

STEPS = int(os.environ.get("XLMT_CREATIONS", "24"))
SEED = int(os.environ.get("XLMT_STORM_SEED", str(random.randrange(1 << 32))))
#: The requests of a creation of xlmt's, and a few more.
REQUESTS = 110


def create_badly(stack: Stack, rng: random.Random, name: str) -> str:
    """One creation that is ended before any of its requests, or lacks something; what was done."""
    options = rng.choice([[], [], ["-e"]])
    config = str(stack.guest(name, on_reboot="restart"))
    act = rng.choice(["kill", "kill", "kill", "end", "hang up", "descriptors", "nothing"])
    if act == "descriptors":
        limit = rng.randrange(10, 40)
        command = f"ulimit -n {limit}; exec {XLMT} create {' '.join(['-q', *options, config])}"
        stack.run("sh", "-c", command)
        return act
    numbers = {"kill": signal.SIGKILL, "end": signal.SIGTERM, "hang up": signal.SIGHUP}
    with stack.proxy() as proxy:
        process = stack.popen(XLMT, "create", "-q", *options, config, env=proxy.env)
        if act in numbers:  # one time in two in its last phase
            after = (
                rng.randrange(1, REQUESTS) if rng.random() < 0.5 else rng.randrange(80, REQUESTS)
            )
            proxy.call_at(after, lambda: process.send_signal(numbers[act]))
        process.communicate(timeout=120)
    return act


@pytest.mark.timeout(3600)
def test_whatever_ends_creations_no_half_made_domain_stays(stack: Stack) -> None:
    print(f"XLMT_STORM_SEED={SEED} XLMT_CREATIONS={STEPS}")
    rng = random.Random(SEED)
    done: Counter[str] = Counter()
    ok(stack.run("mount", "-t", "tmpfs", "-o", "size=2m", "none", LIB))
    full = stack.path(f"{LIB}/full")
    with supervising(stack, env=NO_LIMIT):
        for step in range(STEPS):
            if rng.random() < 0.2:
                stack.run("sh", "-c", f"cat /dev/zero > {LIB}/full")
            done[create_badly(stack, rng, f"g{step % 7}")] += 1
            full.unlink(missing_ok=True)
            for domid, domain in stack.domains().items():
                if domid and not domain.paused and not domain.dying and rng.random() < 0.6:
                    stack.run(XLMT, "destroy", str(domid))
        assert look(stack)
        eventually(lambda: not half_made(stack), timeout=60)
        domids = {str(domid) for domid in stack.domains() if domid}
        eventually(lambda: set(stack.nodes()) == domids, timeout=20)
        eventually(lambda: not list(stack.path("/run/xlmt/jobs").iterdir()))
    print(dict(done))


def half_made(stack: Stack) -> list[int]:
    return [d.domid for d in stack.domains().values() if d.domid and d.paused and not d.dying]
