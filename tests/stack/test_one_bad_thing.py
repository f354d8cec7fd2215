# SPDX-License-Identifier: LGPL-2.1-or-later
"""One bad thing stops one guest at most, and is named."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stack.hypervisor import PAUSED
from tests.stack.product import create, ok, supervisors
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import SOCKET, log, log_file, look, supervising

XLMT = Path(sys.executable).parent / "xlmt"


# --- records -------------------------------------------------------------------------------


def record(stack: Stack, domid: int) -> Path:
    (file,) = stack.path("/var/lib/xen").glob(f"userdata-d.{domid}.*.xlmt")
    return file


def changed(**values: object) -> Callable[[Path], object]:
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | values))


def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def spoil(file: Path) -> None:
        file.unlink()
        make(file)

    return spoil


BAD: dict[str, Callable[[Path], object]] = {
    "a dict for a list": changed(config={"c_info": {"name": "g1"}, "disks": {"a": 1}}),
    "Infinity": changed(started=float("inf")),
    "no name": changed(config={"c_info": {"name": ["g1"]}}),
    "deep": lambda file: file.write_text('{"boot":' * 100_000),
    "empty": lambda file: file.write_text(""),
    "a folder": instead(Path.mkdir),
    "a FIFO": instead(os.mkfifo),
    "a loop": instead(lambda file: file.symlink_to(file.name)),
    "a link": instead(lambda file: file.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_record_that_cannot_be_read_is_its_guests_trouble_alone(stack: Stack, bad: str) -> None:
    with supervising(stack):
        for name in ("g1", "g2"):
            create(stack, name)
        BAD[bad](record(stack, 1))
        for _ in range(3):
            assert look(stack)
        stack.die(1)
        stack.die(2)
        eventually(lambda: set(stack.domains()) == {0, 1})
        create(stack, "g3")
        assert look(stack)
    assert log(stack).count("g1 (domain 1) is not looked after: its record ") == 1


@pytest.mark.parametrize("bad", ["deep", "a folder", "a FIFO", "a loop"])
def test_a_job_that_cannot_be_read_is_put_aside(stack: Stack, bad: str) -> None:
    with supervising(stack):
        create(stack)
    odd = stack.path("/run/xlmt/jobs") / "7-1.json"
    odd.write_text("{}")
    BAD[bad](odd)
    with supervising(stack):
        stack.die(1)
        eventually(lambda: set(stack.domains()) == {0})
        eventually(lambda: not os.path.lexists(odd))
    assert "renamed to 7-1.bad" in log(stack)


# --- descriptors ---------------------------------------------------------------------------


@pytest.mark.parametrize("daemon", ["c"])
def test_more_who_ask_than_descriptors_do_not_end_it(stack: Stack) -> None:
    with supervising(stack) as it:
        create(stack)
        used = len(os.listdir(f"/proc/{it.pid}/fd"))  # noqa: PTH208
        resource.prlimit(it.pid, resource.RLIMIT_NOFILE, (used + 3, used + 3))
        asking = []
        for _ in range(60):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(10)
            sock.connect(str(stack.path(SOCKET)))
            asking.append(sock)
        for sock in asking:
            sock.recv(200)  # what it says, if anything, is what it lacks
            sock.close()
        eventually(lambda: look(stack))
        assert it.poll() is None


# --- what create hands on ------------------------------------------------------------------


@pytest.mark.parametrize("daemon", ["c"])
def test_the_supervisor_of_a_creation_has_none_of_its_callers_habits(stack: Stack) -> None:
    notify = stack.workdir / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(notify))
        sock.setblocking(False)
        env = {"NOTIFY_SOCKET": str(notify), "WATCHDOG_USEC": "1000000", "SECRET": "x"}
        env |= {"PATH": f":.:{os.environ['PATH']}", "LC_ALL": "C", "XLMT_RESTART_LIMIT": "7"}
        command = f"umask 0; ulimit -S -n 60; exec nice -n 5 {XLMT} create -q"
        ok(stack.run("sh", "-c", f"{command} {stack.guest('g1')}", env=env))
        (pid,) = supervisors(stack)
        with pytest.raises(BlockingIOError):
            sock.recv(100)
    proc = Path(f"/proc/{pid}")
    names = {entry.partition(b"=")[0] for entry in (proc / "environ").read_bytes().split(b"\0")}
    assert not names & {b"SECRET", b"NOTIFY_SOCKET", b"WATCHDOG_USEC"}
    assert b"XLMT_RESTART_LIMIT" in names
    assert "Umask:\t0022" in (proc / "status").read_text()
    assert os.getpriority(os.PRIO_PROCESS, pid) == 0
    soft = re.search(r"Max open files +(\d+)", (proc / "limits").read_text())
    assert soft
    assert int(soft[1]) >= 1024


# --- its log, and its absence --------------------------------------------------------------


def test_a_log_that_was_rotated_is_opened_anew(stack: Stack) -> None:
    with supervising(stack) as it:
        create(stack, on_reboot="restart")
        old = log_file(stack).rename(stack.workdir / "supervise.log.1")
        it.send_signal(signal.SIGHUP)
        eventually(lambda: log_file(stack).exists())
        stack.die(1, "poweroff")
        eventually(lambda: "g1 (domain 1) has shut down" in log(stack))
        assert it.poll() is None
        shutil.copyfileobj(old.open(), log_file(stack).open("a"))


def test_managed_guests_without_a_supervisor_are_named(stack: Stack) -> None:
    with supervising(stack):
        create(stack, "g1", on_reboot="restart")
        create(stack, "g2")
        for command in (["list"], ["reconcile"], ["repair", "--all"]):
            assert "no supervisor" not in ok(stack.xlmt(*command)).stderr
    alone = "no supervisor is running for g1 (domain 1) and 1 more; to start it: xlmt supervise"
    assert alone in ok(stack.xlmt("list")).stderr
    for command in (["reconcile"], ["repair", "--all"]):
        assert "no supervisor is running for " in ok(stack.xlmt(*command)).stderr
    ok(stack.xl("destroy", "g1"))
    ok(stack.xl("destroy", "g2"))
    ok(stack.xl("create", "-qe", stack.guest("g3")))
    assert "no supervisor" not in stack.xlmt("list").stderr


def test_a_guest_that_has_shut_down_is_shown_as_such(stack: Stack) -> None:
    with supervising(stack):
        create(stack)
        create(stack, "g2")
    stack.die(1, "reboot")
    listed = ok(stack.xlmt("list"))
    (line,) = [line for line in listed.stdout.splitlines() if " g1 " in line]
    assert "has shut down: reboot" in line
    assert "no supervisor is running for g1 (domain 1)" in listed.stderr
    rows = json.loads(ok(stack.xlmt("list", "-o", "json")).stdout)["domains"]
    assert [row["shutdown"] for row in rows] == ["reboot", None]


def test_what_a_killed_creation_has_left_is_named_with_what_to_type(stack: Stack) -> None:
    with stack.proxy() as proxy:
        process = stack.popen(XLMT, "create", "-qe", stack.guest("g1"), env=proxy.env)
        proxy.call_at(lambda p: p.op == "INTRODUCE", process.kill)
        process.communicate(timeout=60)
    said = ok(stack.xlmt("list")).stderr
    assert f"g1 (domain 1) was left half-made by process {process.pid}; to clear up: " in said
    assert "xlmt destroy 1" in said
    ok(stack.xlmt("destroy", "1"))
    assert "half-made" not in ok(stack.xlmt("list")).stderr


def test_a_domain_without_a_home_has_advice(stack: Stack) -> None:
    stack.hypervisor.add(5, PAUSED)
    stack.hypervisor.add(6)  # as after xenstored was restarted
    _, five, six = ok(stack.xlmt("list")).stdout.splitlines()
    assert "has never run; if it stays: xlmt destroy 5" in five
    assert "destroy" not in six.replace("destroyed", "")
    ok(stack.xlmt("destroy", "5", "6"))
    assert set(stack.domains()) == {0}
