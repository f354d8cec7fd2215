# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a guest is seen to again, and who has to wait."""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from xlmt.supervise import jobs as casebook
from xlmt.supervise import workers as attendant
from xlmt.supervise.workers import Attendants

UUID, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else works on anything."""

    @contextmanager
    def working_on(_uuid: str) -> Iterator[bool]:
        yield True

    monkeypatch.setattr(casebook, "working_on", working_on)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who was sent for, in place of a process."""
    uuids: list[str] = []
    monkeypatch.setattr(Attendants, "_fork", lambda _self, uuid, _work: uuids.append(uuid))
    return uuids


def nothing() -> int:
    return 0


def reaped(attendants: Attendants) -> None:
    deadline = time.monotonic() + 30
    while attendants.fds():
        assert time.monotonic() < deadline
        attendants.reap()


def test_the_same_death_is_not_tried_again_at_once_but_another_is(sent: list[str]) -> None:
    attendants = Attendants()
    for what in (7, 7, 8):
        attendants.send(UUID, what, nothing)
    assert sent == [UUID, UUID]
    assert 0 < attendants.next_try_s() <= 0.1


def test_the_pause_between_tries_grows(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    attendants, now = Attendants(), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    tries = []
    for tick in range(20_000):
        now = tick / 10
        before = len(sent)
        attendants.send(UUID, 7, nothing)
        tries += [now] * (len(sent) - before)
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert pauses[0] < 0.5
    assert max(pauses) <= 60.2
    assert len(tries) < 50


def test_with_all_places_taken_there_is_nothing_to_be_tried(
    sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attendants = Attendants()
    attendants.send(UUID, 7, nothing)
    monkeypatch.setattr(attendant, "MOST", 0)
    assert attendants.next_try_s() == float("inf")
    attendants.send(OTHER, 8, nothing)
    assert sent == [UUID]


def test_a_process_does_its_work_and_is_taken_note_of() -> None:
    attendants = Attendants()
    read_end, write_end = os.pipe()

    def work() -> int:
        os.write(write_end, b"%d" % os.getsid(0))
        return 0

    attendants.send(UUID, 7, work)
    reaped(attendants)
    assert int(os.read(read_end, 20)) != os.getsid(0)
    os.close(read_end)
    os.close(write_end)


def test_a_process_that_takes_very_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    attendants = Attendants()
    read_end, write_end = os.pipe()
    attendants.send(UUID, 7, lambda: len(os.read(read_end, 1)))
    assert attendants.slow() == set()
    monkeypatch.setattr(attendant, "_LONG_S", -1.0)
    (line,) = attendants.slow()
    assert UUID in line
    assert "to have another one try: kill " in line
    os.write(write_end, b"!")
    reaped(attendants)
    assert attendants.slow() == set()
    os.close(read_end)
    os.close(write_end)


def test_a_process_that_fails_ends_there_and_then(caplog: pytest.LogCaptureFixture) -> None:
    attendants, pid = Attendants(), os.getpid()

    def work() -> int:
        raise KeyboardInterrupt

    attendants.send(UUID, 7, work)
    assert os.getpid() == pid
    reaped(attendants)


def test_without_a_process_to_be_had_nothing_leaks_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    Attendants().send(UUID, 7, nothing)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert "nobody can see to" in caplog.text
