# SPDX-License-Identifier: LGPL-2.1-or-later
"""The xenstore client against servers that misbehave.

"Within its deadline" means that the call returns at all; pytest-timeout ends the test if not.
"""

import itertools
import select
import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.unit.xenstore.xsserver import (
    DIRECTORY,
    EVENT,
    HEADER,
    LONG,
    READ,
    SOON,
    Peer,
    Script,
    Serve,
    silent,
)
from xlmt.errors import XenstoreUnreachableError
from xlmt.xenstore import Store
from xlmt.xenstore import wire as xswire

pytestmark = pytest.mark.timeout(60)


def half_a_header(peer: Peer) -> None:
    asked = peer.request()
    peer.send(HEADER.pack(READ, asked.rq_id, 0, 3)[:9])
    peer.until_closed()


def half_a_payload(peer: Peer) -> None:
    asked = peer.request()
    peer.send(HEADER.pack(READ, asked.rq_id, 0, 10) + b"half")
    peer.until_closed()


def drip_feed(peer: Peer) -> None:
    asked = peer.request()
    for byte in HEADER.pack(READ, asked.rq_id, 0, 4000) + bytes(4000):
        peer.send(bytes([byte]))
        time.sleep(0.02)


def only_events(peer: Peer) -> None:
    peer.request()
    for number in itertools.count():
        peer.event(b"/a", b"%d" % number)
        time.sleep(0.005)


@pytest.mark.parametrize("script", [silent, half_a_header, half_a_payload, drip_feed, only_events])
def test_a_server_that_does_not_finish_its_answer_hits_the_deadline(
    serve: Serve, script: Script
) -> None:
    server = serve(script)
    with Store(server.path, timeout=SOON) as store:
        with pytest.raises(XenstoreUnreachableError) as caught:
            store.read("/a")
        assert str(caught.value) == (
            f"xenstored at {server.path} did not answer within 0.3 s; is it running? "
            "try: ps -C xenstored,oxenstored"
        )


def closes_at_once(peer: Peer) -> None:
    peer.request()


def closes_in_the_header(peer: Peer) -> None:
    asked = peer.request()
    peer.send(HEADER.pack(READ, asked.rq_id, 0, 3)[:9])


def closes_in_the_payload(peer: Peer) -> None:
    asked = peer.request()
    peer.send(HEADER.pack(READ, asked.rq_id, 0, 10) + b"half")


@pytest.mark.parametrize("script", [closes_at_once, closes_in_the_header, closes_in_the_payload])
def test_a_server_that_closes_with_a_request_outstanding_is_reported(
    serve: Serve, script: Script
) -> None:
    server = serve(script)
    with Store(server.path, timeout=LONG) as store:
        with pytest.raises(XenstoreUnreachableError, match="closed the connection") as caught:
            store.read("/a")
        assert server.path in str(caught.value)


def test_a_server_that_closed_before_the_request_is_reported(serve: Serve) -> None:
    server = serve(lambda peer: None)
    with Store(server.path, timeout=LONG) as store:
        select.select([store], [], [], LONG)
        with pytest.raises(XenstoreUnreachableError, match="closed the connection"):
            store.ping()


def wrong_id(peer: Peer) -> None:
    asked = peer.request()
    peer.packet(READ, asked.rq_id + 1, 0, b"lie")
    peer.until_closed()


def wrong_transaction(peer: Peer) -> None:
    asked = peer.request()
    peer.packet(READ, asked.rq_id, 77, b"lie")
    peer.until_closed()


def other_operation(peer: Peer) -> None:
    peer.answer(b"lie", DIRECTORY)
    peer.until_closed()


def unknown_operation(peer: Peer) -> None:
    peer.answer(b"lie", 4242)
    peer.until_closed()


def huge_size(peer: Peer) -> None:
    asked = peer.request()
    peer.send(HEADER.pack(READ, asked.rq_id, 0, 0xFFFFFFF0))
    peer.until_closed()


def two_answers(peer: Peer) -> None:
    asked = peer.request()
    peer.send(2 * (HEADER.pack(READ, asked.rq_id, 0, 1) + b"x"))
    peer.until_closed()


def half_an_event(peer: Peer) -> None:
    peer.request()
    peer.packet(EVENT, 0, 0, b"/path-without-a-token\0")
    peer.until_closed()


@pytest.mark.parametrize(
    "script",
    [
        wrong_id,
        wrong_transaction,
        other_operation,
        unknown_operation,
        huge_size,
        two_answers,
        half_an_event,
    ],
)
def test_an_answer_that_cannot_be_ours_ends_the_connection(serve: Serve, script: Script) -> None:
    server = serve(script)
    with Store(server.path, timeout=LONG) as store:
        with pytest.raises(XenstoreUnreachableError, match="sent what is no answer"):
            store.read("/a")
        with pytest.raises(XenstoreUnreachableError, match="sent what is no answer"):
            store.read("/a")


def test_after_a_timeout_the_late_answer_is_nobodys_answer(serve: Serve) -> None:
    late = threading.Event()

    def script(peer: Peer) -> None:
        asked = peer.request()
        late.wait(LONG)
        peer.packet(READ, asked.rq_id, 0, b"late")
        peer.until_closed()

    server = serve(script)
    with Store(server.path, timeout=SOON) as store:
        with pytest.raises(XenstoreUnreachableError, match="did not answer") as first:
            store.read("/a")
        late.set()
        for call in (
            store.ping,
            store.fileno,
            lambda: store.write("/b", "x"),
            lambda: store.next_event(LONG),
            lambda: store.watch("/a", "t"),
            lambda: store.transaction().__enter__(),
        ):
            with pytest.raises(XenstoreUnreachableError) as again:
                call()
            assert str(again.value) == str(first.value)
        assert store.requests == 1
    server.stop()
    assert [request.op for request in server.seen] == [READ]


def test_a_request_that_cannot_be_sent_hits_the_deadline_and_is_never_completed() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stuffing = 0
    with suppress(BlockingIOError):
        while True:
            stuffing += ours.send(bytes(65536))
    wire = xswire.Wire(xswire.SocketTransport(ours), "socketpair", SOON)
    with pytest.raises(XenstoreUnreachableError, match="did not answer"):
        wire.exchange(READ, 0, bytes(4000))
    theirs.setblocking(True)
    received = 0
    while piece := theirs.recv(1 << 20):
        received += len(piece)
    theirs.close()
    assert stuffing <= received < stuffing + HEADER.size + 4000


def test_a_request_waits_for_room_and_goes_on() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stuffing = 0
    with suppress(BlockingIOError):
        while True:
            stuffing += ours.send(bytes(65536))

    def read_and_answer() -> None:
        peer = Peer(theirs)
        left = stuffing
        while left:
            left -= len(theirs.recv(min(left, 4096)))
        peer.answer(b"through")

    reader = threading.Thread(target=read_and_answer)
    wire = xswire.Wire(xswire.SocketTransport(ours), "socketpair", LONG)
    threading.Timer(0.1, reader.start).start()
    assert wire.exchange(READ, 0, b"/a\0").payload == b"through"
    reader.join()
    theirs.close()
    wire.close()


class Trickle(xswire.SocketTransport):
    """Takes and gives three bytes at a time, as a device may."""

    def recv(self, size: int) -> bytes:
        return super().recv(3)

    def send(self, data: memoryview) -> int:
        return super().send(data[:3])


def test_a_request_and_its_answer_may_go_in_pieces() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    peer = Peer(theirs)
    server = threading.Thread(target=lambda: peer.answer(b"a long answer"))
    server.start()
    wire = xswire.Wire(Trickle(ours), "socketpair", LONG)
    assert wire.exchange(READ, 0, b"/a/long/request\0").payload == b"a long answer"
    server.join()
    assert peer.seen[0].payload == b"/a/long/request\0"
    theirs.close()
    wire.close()


class Flood(xswire.SocketTransport):
    """Has one more watch event whenever it is asked."""

    def recv(self, size: int) -> bytes:
        return HEADER.pack(EVENT, 0, 0, 5) + b"/a\0t\0"


def test_a_flood_of_events_does_not_push_the_deadline_away() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"always readable")
    wire = xswire.Wire(Flood(ours), "socketpair", SOON)
    with pytest.raises(XenstoreUnreachableError, match="did not answer"):
        wire.exchange(READ, 0, b"/a\0")
    theirs.close()


def test_one_last_look_after_the_deadline_finds_an_answer_that_was_there() -> None:
    """A process that was stopped itself must not blame xenstored."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.sendall(HEADER.pack(READ, 1, 0, 2) + b"ok")
    wire = xswire.Wire(xswire.SocketTransport(ours), "socketpair", 0.0)
    assert wire.exchange(READ, 0, b"/a\0").payload == b"ok"
    theirs.close()
    wire.close()
