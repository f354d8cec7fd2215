# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a guest gets a worker, when again, and who has to wait."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from xlmt.libxl import Context
from xlmt.supervise import jobs, workers
from xlmt.supervise.workers import Task, Workers, run
from xlmt.xenstore import Store

UUID, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


@dataclass(frozen=True, slots=True)
class Errand:
    """A task that must not come so far as to be carried out."""

    key: str
    domid: int | None
    what: str = "the shutdown of web1"

    def carry_out(self, ctx: Context, store: Store) -> None:
        raise AssertionError


FIRST, SECOND, OTHERS = Errand(UUID, 7), Errand(UUID, 8), Errand(OTHER, 8)


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In which nobody works on anything."""
    monkeypatch.setattr(jobs, "_LOCK", tmp_path / "lock")
    return tmp_path


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who was sent for, in place of a process."""
    keys: list[str] = []
    monkeypatch.setattr(Workers, "_fork", lambda _self, task: keys.append(task.key))
    return keys


@pytest.fixture
def does(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """What a worker does in place of its task."""
    return lambda work: monkeypatch.setattr(workers, "run", lambda _task: work())


def made() -> Workers:
    return Workers(lambda: None)


def reaped(team: Workers) -> None:
    deadline = time.monotonic() + 30
    while team.fds():
        assert time.monotonic() < deadline
        team.reap()


def test_the_same_death_is_not_tried_again_at_once_but_another_is(sent: list[str]) -> None:
    team = made()
    for task in (FIRST, FIRST, SECOND):
        team.send(task)
    assert sent == [UUID, UUID]
    assert 0 < team.next_try_s() <= 0.1


def test_a_worker_whose_end_somebody_else_has_seen_is_over(
    does: Callable[[Callable[[], int]], None],
) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        does(lambda: 0)
        team = made()
        team.send(FIRST)
        reaped(team)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_pause_between_tries_grows(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    team, now = made(), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    tries = []
    for tick in range(20_000):
        now = tick / 10
        before = len(sent)
        team.send(FIRST)
        tries += [now] * (len(sent) - before)
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert pauses[0] < 0.5
    assert max(pauses) <= 60.2
    assert len(tries) < 50


def test_the_pause_begins_when_a_worker_has_ended(
    does: Callable[[Callable[[], int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    does(lambda: 1)
    monkeypatch.setattr(workers, "_AGAIN_S", (1000.0, 1000.0))
    team = made()
    team.send(FIRST)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 500.0)  # so long it takes
    reaped(team)
    assert 750.0 < team.next_try_s() <= 1000.0


def test_with_all_places_taken_there_is_nothing_to_be_tried(
    sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    team = made()
    team.send(FIRST)
    monkeypatch.setattr(workers, "MOST", 0)
    assert team.next_try_s() == float("inf")
    team.send(OTHERS)
    assert sent == [UUID]


def test_a_worker_does_its_task_and_is_taken_note_of(
    does: Callable[[Callable[[], int]], None],
) -> None:
    team = made()
    read_end, write_end = os.pipe()

    def work() -> int:
        os.write(write_end, b"%d" % os.getsid(0))
        return 0

    does(work)
    team.send(FIRST)
    reaped(team)
    assert int(os.read(read_end, 20)) != os.getsid(0)
    os.close(read_end)
    os.close(write_end)


def test_a_worker_that_takes_very_long_is_named(
    monkeypatch: pytest.MonkeyPatch, does: Callable[[Callable[[], int]], None]
) -> None:
    team = made()
    read_end, write_end = os.pipe()
    does(lambda: len(os.read(read_end, 1)))
    team.send(FIRST)
    assert team.slow() == set()
    monkeypatch.setattr(workers, "_LONG_S", -1.0)
    (line,) = team.slow()
    assert "has been handling the shutdown of web1 for more than" in line
    assert "to retry: kill " in line
    os.write(write_end, b"!")
    reaped(team)
    assert team.slow() == set()
    os.close(read_end)
    os.close(write_end)


def test_a_worker_that_fails_ends_there_and_then(
    does: Callable[[Callable[[], int]], None],
) -> None:
    team, pid = made(), os.getpid()

    def work() -> int:
        raise KeyboardInterrupt

    does(work)
    team.send(FIRST)
    assert os.getpid() == pid
    reaped(team)


def test_without_a_process_to_be_had_nothing_leaks_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    made().send(FIRST)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert "cannot handle the shutdown of web1: " in caplog.text


# --- the guest's lock ----------------------------------------------------------------------

_HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(run_folder: Path) -> Iterator[None]:
    """Another process, such as the worker of an earlier supervisor, holds the guest's lock."""
    place = str(jobs._place(UUID))
    argv = [sys.executable, "-c", _HOLDER, str(run_folder / "lock"), place]
    with subprocess.Popen(argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield
        assert holder.stdin
        holder.stdin.close()


@pytest.mark.usefixtures("held")
def test_a_guest_that_another_process_works_on_gets_no_worker(sent: list[str]) -> None:
    team = made()
    team.send(FIRST)
    team.send(OTHERS)
    assert sent == [OTHER]


@pytest.mark.usefixtures("held")
def test_a_worker_leaves_the_guest_to_who_has_its_lock() -> None:
    task: Task = FIRST
    assert run(task) == 0
    with jobs.working_on(OTHER) as ours:
        assert ours
