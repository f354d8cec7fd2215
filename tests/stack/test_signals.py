# SPDX-License-Identifier: LGPL-2.1-or-later
"""A signal at the worst moment: after Python's last look for one, before a long poll(2).

That moment is too short to be hit. But a signal that another thread is given does the same: Python
knows of it, and the poll goes on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stack.bootloader import Bootloader, is_left_attached
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import look, supervising

#: xlmt, whose main thread no SIGTERM interrupts.
UNSTIRRED = (
    "import signal, sys, threading, time; "
    "threading.Thread(target=time.sleep, args=(10_000,), daemon=True).start(); "
    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); "
    "sys.argv[0:1] = []; from xlmt.cli.main import main; main()"
)
XLMT = Path(sys.executable).parent / "xlmt"
POLL = "7 "  # its number on amd64

pytestmark = pytest.mark.parametrize("daemon", ["c"])


def polls(process: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{process.pid}/syscall").read_text().startswith(POLL)


def test_it_ends_the_supervisor_at_once(stack: Stack) -> None:
    """`supervising` waits for 30 s; the supervisor itself, for an event, for a minute."""
    with supervising(stack, within=[sys.executable, "-c", UNSTIRRED]) as it:
        eventually(lambda: look(stack))
        eventually(lambda: polls(it))


def test_it_ends_a_creation_though_the_bootloader_hangs(stack: Stack) -> None:
    bootloader = Bootloader(stack)
    bootloader.hangs.touch()
    config = stack.guest("g1", **bootloader.settings)
    with stack.backends():
        command = (sys.executable, "-c", UNSTIRRED, XLMT, "create", "-q", config)
        process = stack.popen(*command)
        eventually(bootloader.runs.exists, timeout=30)
        assert is_left_attached(stack)
        eventually(lambda: polls(process))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
    assert set(stack.domains()) == {0}
    assert not is_left_attached(stack)


@pytest.mark.parametrize("seconds", [0, 1], ids=str)
def test_ctrl_c_while_the_bootloaders_disk_is_attached_leaves_nothing(
    stack: Stack, seconds: float
) -> None:
    bootloader = Bootloader(stack, attaches_s=3)
    bootloader.hangs.touch()
    config = stack.guest("g1", **bootloader.settings)
    with stack.backends():
        process = stack.popen(XLMT, "create", "-q", config)
        eventually(lambda: is_left_attached(stack), timeout=30)
        time.sleep(seconds)
        assert not bootloader.runs.exists()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
    assert set(stack.domains()) == {0}
    assert not is_left_attached(stack)


def test_ctrl_c_leaves_nothing_though_the_bootloader_does_not_heed_it(stack: Stack) -> None:
    """So the creation has come to its end by then."""
    bootloader = Bootloader(stack, heeds_term=False)
    bootloader.hangs.touch()
    config = stack.guest("g1", **bootloader.settings)
    with stack.backends():
        process = stack.popen(XLMT, "create", "-q", config)
        eventually(bootloader.runs.exists, timeout=30)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        bootloader.hangs.unlink()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
    assert set(stack.domains()) == {0}
    assert stack.nodes() == {}
    assert not is_left_attached(stack)
