# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watch events: when they come, and in which order."""

import select
import threading
import time

import pytest

from tests.unit.xenstore.xsserver import (
    EVENT,
    HEADER,
    LONG,
    READ,
    Peer,
    Serve,
    answers,
    then_silent,
)
from xlmt.errors import XenstoreUnreachableError
from xlmt.xenstore import Store, WatchEvent

pytestmark = pytest.mark.timeout(60)


def test_an_event_in_the_middle_of_a_reply_is_kept_for_later(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        asked = peer.request()
        peer.event(b"/x", b"before")
        reply = HEADER.pack(READ, asked.rq_id, 0, 5) + b"value"
        peer.send(reply[:18])
        time.sleep(0.05)
        peer.send(reply[18:] + HEADER.pack(EVENT, 0, 0, 9) + b"/y\0")
        time.sleep(0.05)
        peer.send(b"after\0")
        peer.until_closed()

    with Store(serve(script).path, timeout=LONG) as store:
        assert store.read("/a") == "value"
        assert store.pending
        assert store.next_event(0) == WatchEvent("/x", "before")
        assert store.next_event(LONG) == WatchEvent("/y", "after")
        assert not store.pending
        assert store.next_event(0) is None


def test_waiting_for_an_event_ends_at_its_timeout_and_the_store_lives_on(serve: Serve) -> None:
    with Store(serve(answers(b"value")).path, timeout=LONG) as store:
        assert store.next_event(0) is None
        assert store.next_event(0.05) is None
        assert store.read("/a") == "value"


def test_an_event_that_comes_in_drips_neither_hangs_nor_is_lost(serve: Serve) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.send(HEADER.pack(EVENT, 0, 0, 5) + b"/a")
        assert go_on.wait(LONG)
        peer.send(b"\0t\0")
        peer.until_closed()

    with Store(serve(script).path, timeout=LONG) as store:
        select.select([store], [], [], LONG)
        assert store.next_event(0.05) is None
        go_on.set()
        assert store.next_event(LONG) == WatchEvent("/a", "t")


def test_the_file_descriptor_tells_select_of_an_event(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.answer(b"OK\0")
        time.sleep(0.05)
        peer.event(b"/a", b"t")
        peer.until_closed()

    with Store(serve(script).path, timeout=LONG) as store:
        store.watch("/a", "t")
        if not store.pending:
            assert select.select([store], [], [], LONG)[0] == [store]
        assert store.next_event(0) == WatchEvent("/a", "t")


def test_equal_events_are_kept_once_until_taken_and_the_order_stays(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        for paths in ((b"/a", b"/b", b"/a", b"/\xff"), (b"/a",)):
            asked = peer.request()
            for path in paths:
                peer.event(path, b"t")
            peer.packet(READ, asked.rq_id, 0, b"")
        peer.until_closed()

    with Store(serve(script).path, timeout=LONG) as store:
        store.read("/a")
        assert store.next_event(0) == WatchEvent("/a", "t")
        store.read("/a")
        taken = [store.next_event(0) for _ in range(4)]
    assert [event and event.path for event in taken] == ["/b", "/\udcff", "/a", None]


def test_a_server_that_ends_is_noticed_while_waiting_for_an_event(serve: Serve) -> None:
    with (
        Store(serve(lambda peer: None).path, timeout=LONG) as store,
        pytest.raises(XenstoreUnreachableError, match="closed the connection"),
    ):
        store.next_event(LONG)


def test_a_second_answer_that_comes_later_ends_the_connection(serve: Serve) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        asked = peer.answer(b"value")
        assert go_on.wait(LONG)
        peer.packet(READ, asked.rq_id, 0, b"value")
        peer.until_closed()

    with Store(serve(script).path, timeout=LONG) as store:
        assert store.read("/a") == "value"
        go_on.set()
        with pytest.raises(XenstoreUnreachableError, match="sent what is no answer"):
            store.next_event(LONG)


def test_a_reply_that_nobody_asked_for_ends_the_connection(serve: Serve) -> None:
    server = serve(then_silent(lambda peer: peer.packet(READ, 0, 0, b"")))
    with (
        Store(server.path, timeout=LONG) as store,
        pytest.raises(XenstoreUnreachableError, match="sent what is no answer"),
    ):
        store.next_event(LONG)
