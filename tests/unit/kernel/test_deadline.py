# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel is asked, and what its answers mean; what it does then is for the lab."""

import errno
import os
import platform
import subprocess
from collections.abc import Iterator

import pytest

from xlmt.errors import XlmtError
from xlmt.kernel import deadline

DEADLINE = 6


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            yield child.pid
        finally:
            child.kill()


def answers(monkeypatch: pytest.MonkeyPatch, codes: dict[int, int]) -> list[int]:
    """Have the kernel answer so, by pid; returns whom it was asked about."""
    asked: list[int] = []

    def call(number: int, pid: int, attr: bytes) -> int:
        asked.append(pid)
        return codes.get(pid, 0)

    monkeypatch.setattr(deadline, "_call", call)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return asked


def test_a_process_gets_one_percent_by_a_deadline(sleeper: int) -> None:
    try:
        deadline.limit([sleeper])
    except XlmtError as lack:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"not permitted here: {lack}")
    assert os.sched_getscheduler(sleeper) == DEADLINE


def test_who_has_ended_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, {360: errno.ESRCH})
    deadline.limit([360, 361])
    assert asked == [360, 361]


@pytest.mark.parametrize(
    ("code", "uid", "said"),
    [
        (errno.EPERM, 1000, "thread: only root can$"),
        (errno.EPERM, 0, "thread: its CPUs are not all that there are"),
        (errno.EBUSY, 0, "thread: all the time that there is for real-time tasks is taken$"),
        (errno.EINVAL, 0, "thread: Invalid argument$"),
    ],
)
def test_a_refusal_says_why_in_a_line(
    monkeypatch: pytest.MonkeyPatch, code: int, uid: int, said: str
) -> None:
    answers(monkeypatch, {360: code})
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(XlmtError, match=said):
        deadline.limit([360])


def test_on_another_machine_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(XlmtError, match="does not know how on riscv64"):
        deadline.limit([360])
