# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd hears of us, over its own protocols, with a socket of the test at the other end."""

import logging
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from xlmt.supervise.systemd import JournalHandler, Manager, entry


@pytest.fixture
def other_end(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.setblocking(False)
        yield sock


def manager(other_end: socket.socket, **environ: str) -> Manager:
    return Manager({"NOTIFY_SOCKET": other_end.getsockname(), **environ})


def test_the_manager_is_told(other_end: socket.socket) -> None:
    manager(other_end).tell("READY=1")
    assert other_end.recv(100) == b"READY=1"


def test_a_status_is_told_when_it_changes(other_end: socket.socket) -> None:
    it = manager(other_end)
    for text in ("one", "one", "two"):
        it.status(text)
    assert [other_end.recv(100), other_end.recv(100)] == [b"STATUS=one", b"STATUS=two"]
    with pytest.raises(BlockingIOError):
        other_end.recv(100)


def test_an_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0xlmt-test-{os.getpid()}")
        Manager({"NOTIFY_SOCKET": f"@xlmt-test-{os.getpid()}"}).tell("x")
        sock.settimeout(5)
        assert sock.recv(10) == b"x"


def test_without_a_manager_or_with_a_deaf_one_nothing_happens(tmp_path: Path) -> None:
    Manager({}).tell("READY=1")
    Manager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell("READY=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_hears_twice_in_its_time(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Manager(environ).watchdog_s == seconds


def record(level: int, message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("xlmt.supervise", level, "", 0, message, (), None)
    vars(made).update(fields)
    return made


def test_an_entry_of_the_journal_has_domid_and_name() -> None:
    made = entry(record(logging.ERROR, "x", domid=7, domain="web1"), "it died")
    assert made.splitlines() == [
        b"MESSAGE=it died",
        b"PRIORITY=3",
        b"SYSLOG_IDENTIFIER=xlmt",
        b"XLMT_DOMID=7",
        b"XLMT_DOMAIN=web1",
    ]


def test_a_newline_cannot_make_a_field(tmp_path: Path) -> None:
    made = entry(record(logging.INFO, "x", domain="a\nPRIORITY=0"), "m")
    assert made.endswith(b"XLMT_DOMAIN\n" + struct.pack("<Q", 12) + b"a\nPRIORITY=0\n")
    assert b"XLMT_DOMID" not in made


def test_the_handler_sends_what_it_is_given(other_end: socket.socket) -> None:
    handler = JournalHandler(other_end.getsockname())
    handler.handle(record(logging.INFO, "hello", domid=1))
    assert b"MESSAGE=hello\n" in other_end.recv(1000)


def test_without_a_journal_the_message_is_not_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    JournalHandler(str(tmp_path / "nobody")).handle(record(logging.INFO, "hello"))
    assert capfd.readouterr().err == "hello\n"


def test_a_journal_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "journal"))
        handler = JournalHandler(str(tmp_path / "journal"))
        started = time.monotonic()
        for number in range(2000):
            handler.handle(record(logging.INFO, f"line {number}"))
        assert time.monotonic() - started < 2
        assert handler.lost > 0
        lost = handler.lost
        sock.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                sock.recv(4096)
        handler.handle(record(logging.INFO, "the next"))
        assert b"%d lines before this one" % lost in sock.recv(4096)
        assert b"the next" in sock.recv(4096)


def test_the_watchdog_is_fed_within_long_work_but_not_all_the_time(
    other_end: socket.socket,
) -> None:
    it = manager(other_end, WATCHDOG_USEC="30000000")
    for _ in range(1000):
        it.alive()
    assert other_end.recv(100) == b"WATCHDOG=1"
    with pytest.raises(BlockingIOError):
        other_end.recv(100)
