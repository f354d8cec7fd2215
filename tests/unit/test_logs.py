# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is logged harms no reader, and waits for none."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.logs import DescriptorHandler, SafeFormatter
from xlmt.text import printable


def record(message: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("xlmt", logging.INFO, "", 0, message, values, None)


@given(st.text(st.characters()))
def test_a_record_is_one_printable_line(name: str) -> None:
    line = SafeFormatter("xlmt: %(message)s").format(record("%s is gone", name))
    assert line.isprintable()


def test_a_forged_line_and_a_terminals_command_are_shown_as_what_they_are() -> None:
    line = SafeFormatter("%(message)s").format(record("%s", "a\ndomain 9 (db) \x1b[2J\u202e\udce9"))
    assert line == r"a\x0adomain 9 (db) \x1b[2J\x202e\xe9"


def test_a_byte_that_is_no_utf8_is_shown_as_that_byte() -> None:
    assert printable("caf\udce9") == r"caf\xe9"


def test_a_traceback_of_ours_keeps_its_lines() -> None:
    try:
        raise ValueError("a\x1b[2J")
    except ValueError as e:
        made = logging.LogRecord("x", logging.ERROR, "", 0, "m", (), (type(e), e, e.__traceback__))
    lines = SafeFormatter("%(message)s").format(made).split("\n")
    assert len(lines) > 2
    assert all(line.isprintable() for line in lines)


@pytest.fixture
def unread() -> Iterator[tuple[int, int]]:
    """A pipe that is full."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, bytes(4096))
    except BlockingIOError:
        os.set_blocking(write_end, True)
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


def test_a_reader_who_does_not_read_holds_nobody_up(unread: tuple[int, int]) -> None:
    read_end, write_end = unread
    handler = DescriptorHandler(write_end)
    started = time.monotonic()
    for number in range(100):
        handler.handle(record("line %d", number))
    assert time.monotonic() - started < 1
    assert handler.lost == 100
    assert len(os.read(read_end, 1 << 16)) > 4096
    handler.handle(record("the next"))
    said = os.read(read_end, 1 << 16).lstrip(b"\0").decode()
    assert said == "100 lines before this one could not be written\nthe next\n"


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "log"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    handler = DescriptorHandler(fd)
    handler.handle(record("one"))
    file.rename(tmp_path / "log.1")
    handler.reopen()
    handler.handle(record("two"))
    os.close(fd)
    assert ((tmp_path / "log.1").read_text(), file.read_text()) == ("one\n", "two\n")


def test_a_log_that_is_no_file_is_left_as_it_is() -> None:
    handler = DescriptorHandler(os.open(os.devnull, os.O_WRONLY))
    handler.reopen()
    assert handler.deliver(record("x"))


def test_a_full_device_is_no_failure() -> None:
    handler = DescriptorHandler(os.open("/dev/full", os.O_WRONLY))
    handler.handle(record("x"))
    assert handler.lost == 1
