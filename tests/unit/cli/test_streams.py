# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where nobody takes what a command says: its exit status is the documented one, never 120."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

XLMT = Path(sys.executable).parent / "xlmt"
# Unbuffered, Python has nothing left to write at the end, where it would fail.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
SAYS, FAILS, HOOK = "--help", "destroy", "hook nowhere"
UNREAD = 141


def run(command: str, stdout: str = "", stderr: str = "") -> subprocess.CompletedProcess[str]:
    """Through a shell: a redirection is a shell's own, such as >&- or >/dev/full."""
    script = f"exec {XLMT} {command} {stdout} {stderr}"
    return subprocess.run(
        ["sh", "-c", script],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(("command", "status"), [(SAYS, 0), (FAILS, 2), (HOOK, 0)])
def test_a_standard_error_that_takes_nothing_changes_no_status(
    command: str, status: int, stderr: str
) -> None:
    assert run(command, stderr=stderr).returncode == status


def test_a_full_disk_is_said_in_one_line() -> None:
    done = run(SAYS, stdout=">/dev/full")
    assert done.returncode == 1
    assert done.stderr == "xlmt: No space left on device\n"


def test_an_output_that_is_closed_is_taken_for_nowhere() -> None:
    assert run(SAYS, stdout=">&-").returncode == 0


@pytest.fixture
def unread() -> Iterator[int]:
    """The end to write to of a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("command", [SAYS, "--version"])
def test_a_pipe_that_nobody_reads_is_status_141_without_a_word(command: str, unread: int) -> None:
    done = subprocess.run(
        [XLMT, command],
        stdout=unread,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (UNREAD, b"")


@pytest.mark.parametrize(("command", "status"), [(FAILS, 2), (HOOK, 0)])
def test_complaints_that_nobody_reads_change_no_status(
    command: str, status: int, unread: int
) -> None:
    argv = [str(XLMT), *command.split()]
    done = subprocess.run(argv, stderr=unread, env=ENVIRONMENT, timeout=60, check=False)
    assert done.returncode == status
