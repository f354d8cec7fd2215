# SPDX-License-Identifier: LGPL-2.1-or-later
"""A signal at the worst moment: after Python's last look for one, before a long poll(2).

That moment is too short to be hit. But a signal that another thread is given does the same: Python
knows of it, and the poll goes on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stack.bootloader import Bootloader, has_disk
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


@contextmanager
def creating(stack: Stack, bootloader: Bootloader, *within: str) -> Iterator[subprocess.Popen[str]]:
    """A creation, which is to be interrupted in the block, and ends without leaving anything."""
    config = stack.guest("g1", **bootloader.settings)
    with stack.backends():
        process = stack.popen(*within, XLMT, "create", "-q", config)
        yield process
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
    assert set(stack.domains()) == {0}
    assert stack.nodes() == {}
    assert not has_disk(stack)


def test_it_ends_a_creation_though_the_bootloader_hangs(stack: Stack) -> None:
    bootloader = Bootloader(stack)
    bootloader.hangs.touch()
    with creating(stack, bootloader, sys.executable, "-c", UNSTIRRED) as process:
        eventually(bootloader.runs.exists, timeout=30)
        assert has_disk(stack)
        eventually(lambda: polls(process))
        process.send_signal(signal.SIGTERM)


# --- a creation with a bootloader, at any time ---------------------------------------------


def test_ctrl_c_while_the_bootloaders_disk_is_attached(stack: Stack) -> None:
    bootloader = Bootloader(stack)
    bootloader.hangs.touch()
    bootloader.attaches.touch()
    with creating(stack, bootloader) as process:
        eventually(lambda: has_disk(stack), timeout=30)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        bootloader.attaches.unlink()


@pytest.mark.parametrize("heeds", [True, False], ids=["it-heeds", "it-does-not"])
def test_ctrl_c_ends_the_bootloader(stack: Stack, heeds: bool) -> None:
    """It is told once: a second SIGTERM would end what it does at its end."""
    cleaned = stack.workdir / "cleaned"
    on_term = f"trap - TERM; sleep 1; touch {cleaned}; exit 1" if heeds else ""
    bootloader = Bootloader(stack, on_term=on_term)
    bootloader.hangs.touch()
    with creating(stack, bootloader) as process:
        eventually(bootloader.runs.exists, timeout=30)
        process.send_signal(signal.SIGINT)
    assert cleaned.exists() is heeds


def test_ctrl_c_after_the_bootloader_waits_for_nothing(stack: Stack) -> None:
    """The guest's own disk would only be attached after the end of this test."""
    bootloader = Bootloader(stack)
    bootloader.starts.touch()
    with creating(stack, bootloader) as process:
        eventually(lambda: has_disk(stack, 1) and not has_disk(stack), timeout=30)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
