# SPDX-License-Identifier: LGPL-2.1-or-later
"""A supervisor on a stack, and somebody who kills it again and again."""

from __future__ import annotations

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.stack.background import Background
from tests.stack.product import supervisors
from tests.stack.stack import Stack, eventually

SOCKET = "/run/xlmt/supervise.sock"
NO_LIMIT = {"XLMT_RESTART_LIMIT": "0"}


def log_file(stack: Stack) -> Path:
    return stack.workdir / "supervise.log"


def log(stack: Stack) -> str:
    return log_file(stack).read_text()


def start(
    stack: Stack,
    *options: str,
    env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """`xlmt supervise`, its output in a file: what it has forked may outlive it, without a pipe.

    `within` is what it is started by, and becomes it.
    """
    program = Path(sys.executable).parent / "xlmt"
    command = shlex.join([*within, str(program), "supervise", *options])
    return stack.popen("sh", "-c", f"exec {command} </dev/null >>{log_file(stack)} 2>&1", env=env)


def look(stack: Stack) -> bool:
    """Have the supervisor look at the host; True when it says that it has."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(str(stack.path(SOCKET)))
        return sock.recv(100) == b"ok\n"


@contextmanager
def supervising(
    stack: Stack,
    *options: str,
    env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Iterator[subprocess.Popen[str]]:
    """One that is up for the block, and is ended as a service manager would."""
    process = start(stack, *options, env=env, within=within)
    try:
        # Not by asking: that may be answered by one that is about to be replaced.
        eventually(lambda: f"[pid {process.pid}]" in log(stack), what="the supervisor is up")
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            at = Path(f"/proc/{process.pid}/stack").read_text()
            process.kill()
            raise AssertionError(f"it does not end, in {at}\n{log(stack)}") from None
    said = log(stack)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert "please report" not in said


def up(stack: Stack) -> Counter[str]:
    """How many living, running domains each guest has, by the hypervisor's own files."""
    domains = [d for d in stack.domains().values() if d.domid and not d.dying]
    return Counter(d.handle for d in domains if not d.paused and not d.reason)


class Killer(Background):
    """Keeps a supervisor running, and kills it at random moments.

    With `family`, what it has forked is killed, too, as by a service manager that is strict.

    How long a restart takes is for the machine to say. So lives get longer for as long as nothing
    is `achieved` in them, and short again when something was; and what never gets anything done,
    however long it lives, is found out by whoever waits for that.
    """

    def __init__(self, stack: Stack, seed: int, *, family: bool) -> None:
        super().__init__("killer")
        self.kills = 0
        self.achieved = 0
        self._stack = stack
        self._random = random.Random(seed)
        self._family = family
        # A restart takes two seconds: some are to get through before all is killed again.
        self._longest = self._usual = 4.0 if family else 2.5

    def once(self) -> None:
        before = self.achieved
        process = start(self._stack, env=NO_LIMIT)
        self.enough.wait(self._random.uniform(0.05, self._longest))
        self._kill(process)
        process.communicate(timeout=60)
        self.kills += 1
        self._longest = self._longest * 1.5 if self.achieved == before else self._usual

    def _kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()  # itself, too: a moment after its start it cannot be told to be a supervisor
        if not self._family:
            return
        deadline = time.monotonic() + 60
        while victims := supervisors(self._stack):  # one may be forked while we look
            assert time.monotonic() < deadline, victims
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class Doubles(Background):
    """Looks all the time whether a guest runs twice."""

    def __init__(self, stack: Stack) -> None:
        super().__init__("doubles")
        self.found: list[str] = []
        self.looks = 0
        self._stack = stack

    def once(self) -> None:
        self.found += [handle for handle, times in up(self._stack).items() if times > 1]
        self.looks += 1
        self.enough.wait(0.005)
