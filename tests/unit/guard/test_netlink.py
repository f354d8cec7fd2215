# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is understood of rtnetlink, and what is passed over."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from xlmt.guard.netlink import Change, changes

NEW, GONE = 16, 17


def message(
    kind: int, ifindex: int, *, family: int = 0, length: int = 0, more: bytes = b""
) -> bytes:
    link = struct.pack("=BxHiII", family, 1, ifindex, 0, 0) + more
    return struct.pack("=IHHII", length or 16 + len(link), kind, 0, 0, 0) + link


def test_what_comes_and_goes_is_told() -> None:
    name = struct.pack("=HH8s", 12, 3, b"vif1.0\0\0")
    told = message(NEW, 7, more=name) + message(GONE, 7) + message(24, 9) + message(NEW, 8)
    assert list(changes(told)) == [Change(7, False), Change(7, True), Change(8, False)]


def test_a_port_that_leaves_its_bridge_is_not_gone() -> None:
    assert list(changes(message(GONE, 7, family=7))) == []


def test_messages_begin_where_the_last_one_is_filled_up() -> None:
    assert list(changes(message(NEW, 7, more=b"x") + b"\0\0\0" + message(GONE, 8))) == [
        Change(7, False),
        Change(8, True),
    ]


def test_what_is_cut_off_or_lies_about_its_length_ends_it() -> None:
    good = message(NEW, 7)
    for bad in (good[:-1], message(NEW, 8, length=15), message(NEW, 8, length=1 << 31), b"\0" * 16):
        assert list(changes(good + bad)) == [Change(7, False)]
    assert list(changes(message(NEW, 7, length=16))) == []
    assert list(changes(message(NEW, -1) + message(NEW, 0))) == []


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: message(NEW, 7, more=b) + b))
def test_hostile_bytes_do_no_harm(datagram: bytes) -> None:
    for change in changes(datagram):
        assert 0 < change.ifindex < 1 << 31
