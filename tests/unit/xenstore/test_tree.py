# SPDX-License-Identifier: LGPL-2.1-or-later
"""Big directories and transactions."""

import errno
import itertools
from collections.abc import Callable

import pytest

from tests.unit.xenstore.xsserver import (
    DIRECTORY_PART,
    END,
    LONG,
    MKDIR,
    READ,
    SOON,
    START,
    Peer,
    Script,
    Serve,
    Server,
    answers,
    then_silent,
)
from xlmt.errors import XenstoreError, XenstoreUnreachableError
from xlmt.xenstore import Store, Transaction

pytestmark = pytest.mark.timeout(60)


# Big directories

NAMES_BIG = [b"%d" % number for number in range(1, 32752)]
BIG = b"".join(name + b"\0" for name in NAMES_BIG)


def test_a_reply_far_above_4096_bytes_is_read_whole(serve: Serve) -> None:
    server = serve(answers(BIG, b"next"))
    with Store(server.path, timeout=LONG) as store:
        assert store.list("/a") == [name.decode() for name in NAMES_BIG]
        assert store.read("/a") == "next"


def part(peer: Peer, generation: int, names: bytes = BIG, size: int = 4096) -> int:
    """Answer one DIRECTORY_PART as C xenstored does; return the offset that was asked for."""
    asked = peer.request()
    assert asked.op == DIRECTORY_PART
    path, offset, rest = asked.payload.split(b"\0")
    assert (path, rest) == (b"/a", b"")
    start = int(offset)
    end = names.rfind(b"\0", 0, start + size) + 1
    last = b"\0" if end == len(names) else b""
    payload = b"%d\0" % generation + names[start:end] + last
    peer.packet(DIRECTORY_PART, asked.rq_id, asked.tx_id, payload)
    return start


def test_a_directory_that_is_too_big_is_read_in_parts(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.refuse(b"E2BIG")
        while True:
            part(peer, 7)

    server = serve(script)
    with Store(server.path, timeout=LONG) as store:
        assert store.list("/a") == [name.decode() for name in NAMES_BIG]
        assert store.requests < 60


def test_a_directory_that_changes_between_parts_is_read_again(serve: Serve) -> None:
    after = BIG.replace(b"5\0", b"", 1)
    offsets: list[int] = []

    def script(peer: Peer) -> None:
        peer.refuse(b"E2BIG")
        offsets.extend(part(peer, 7) for _ in range(3))
        while True:
            offsets.append(part(peer, 8, after))

    server = serve(script)
    with Store(server.path, timeout=LONG) as store:
        names = store.list("/a")
    assert names == [name.decode() for name in NAMES_BIG if name != b"5"]
    assert offsets[4] == 0


def test_a_directory_that_never_stops_changing_is_given_up(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.refuse(b"E2BIG")
        for generation in itertools.count():
            part(peer, generation)

    server = serve(script)
    with (
        Store(server.path, timeout=LONG) as store,
        pytest.raises(XenstoreError, match="changed") as caught,
    ):
        store.list("/a")
    assert caught.value.errno == errno.EAGAIN


def test_a_directory_that_vanishes_between_parts_is_none(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.refuse(b"E2BIG")
        part(peer, 7)
        peer.refuse(b"ENOENT")
        peer.until_closed()

    with Store(serve(script).path, timeout=LONG) as store:
        assert store.list("/a") is None


def test_a_directory_that_shrinks_to_nothing_is_empty(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.refuse(b"E2BIG")
        peer.answer(b"8\0\0")
        peer.until_closed()

    with Store(serve(script).path, timeout=LONG) as store:
        assert store.list("/a") == []


@pytest.mark.parametrize("payload", [b"", b"8", b"8\0", b"8\0cut"])
def test_a_part_without_progress_is_an_error_and_no_endless_loop(
    serve: Serve, payload: bytes
) -> None:
    def script(peer: Peer) -> None:
        peer.refuse(b"E2BIG")
        while True:
            peer.answer(payload)

    with Store(serve(script).path, timeout=LONG) as store, pytest.raises(XenstoreError) as caught:
        store.list("/a")
    assert caught.value.errno == errno.EPROTO


def test_a_server_that_stops_between_parts_hits_the_deadline(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.refuse(b"E2BIG")
        part(peer, 7)
        peer.until_closed()

    with (
        Store(serve(script).path, timeout=SOON) as store,
        pytest.raises(XenstoreUnreachableError, match="did not answer"),
    ):
        store.list("/a")


# Transactions


def in_transaction(serve: Serve, *steps: Script) -> Server:
    return serve(then_silent(lambda peer: peer.answer(b"4711\0"), *steps))


def accept(peer: Peer) -> None:
    peer.answer(b"OK\0")


def summary(server: Server) -> list[tuple[int, int, bytes]]:
    server.stop()
    return [(request.op, request.tx_id, request.payload) for request in server.seen]


def test_a_transaction_carries_its_number_and_commits(serve: Serve) -> None:
    server = in_transaction(serve, accept, accept, lambda peer: peer.answer(b"outside"))
    with Store(server.path, timeout=LONG) as store:
        with store.transaction() as t:
            t.mkdir("/a")
            assert t.commit() is True
        assert store.read("/a") == "outside"
    assert summary(server) == [
        (START, 0, b"\0"),
        (MKDIR, 4711, b"/a\0"),
        (END, 4711, b"T\0"),
        (READ, 0, b"/a\0"),
    ]


def test_a_commit_that_lost_the_race_is_false_and_not_aborted_again(serve: Serve) -> None:
    server = in_transaction(serve, lambda peer: peer.refuse(b"EAGAIN"))
    with Store(server.path, timeout=LONG) as store, store.transaction() as t:
        assert t.commit() is False
    assert summary(server) == [(START, 0, b"\0"), (END, 4711, b"T\0")]


def test_a_commit_that_is_refused_otherwise_raises(serve: Serve) -> None:
    server = in_transaction(serve, lambda peer: peer.refuse(b"ENOSPC"))
    with Store(server.path, timeout=LONG) as store:
        with (
            pytest.raises(XenstoreError, match="cannot commit") as caught,
            store.transaction() as t,
        ):
            t.commit()
        assert caught.value.errno == errno.ENOSPC


def test_a_transaction_that_is_left_is_aborted(serve: Serve) -> None:
    server = in_transaction(serve, accept)
    with Store(server.path, timeout=LONG) as store, store.transaction():
        pass
    assert summary(server) == [(START, 0, b"\0"), (END, 4711, b"F\0")]


def test_a_transaction_left_by_an_error_is_aborted_and_the_error_stays(serve: Serve) -> None:
    server = in_transaction(serve, lambda peer: peer.refuse(b"EINVAL"))
    with (
        Store(server.path, timeout=LONG) as store,
        pytest.raises(ZeroDivisionError),
        store.transaction(),
    ):
        raise ZeroDivisionError
    assert summary(server) == [(START, 0, b"\0"), (END, 4711, b"F\0")]


def test_leaving_a_transaction_on_a_dead_connection_is_silent(serve: Serve) -> None:
    server = serve(lambda peer: [peer.answer(b"4711\0"), peer.request()])
    with (
        Store(server.path, timeout=LONG) as store,
        store.transaction() as t,
        pytest.raises(XenstoreUnreachableError),
    ):
        t.read("/a")


@pytest.mark.parametrize("end", [Transaction.commit, Transaction.abort])
def test_nothing_is_done_in_a_transaction_that_is_over(
    serve: Serve, end: Callable[[Transaction], object]
) -> None:
    """Its number would be 0 then, and the write would take effect at once."""
    server = in_transaction(serve, accept)
    with Store(server.path, timeout=LONG) as store, store.transaction() as t:
        end(t)
        for call in (t.commit, lambda: t.write("/a", "x"), lambda: t.list("/a")):
            with pytest.raises(XenstoreError, match="the transaction is over"):
                call()
    assert len(summary(server)) == 2


@pytest.mark.parametrize("number", [b"0\0", b"-3\0", b"4294967296\0", b"what\0", b"\0"])
def test_a_transaction_number_that_is_none_is_refused(serve: Serve, number: bytes) -> None:
    server = serve(answers(number))
    with Store(server.path, timeout=LONG) as store:
        with pytest.raises(XenstoreError) as caught:
            store.transaction().__enter__()
        assert caught.value.errno == errno.EPROTO


def test_a_big_directory_in_a_transaction_is_read_inside_it(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.answer(b"4711\0")
        peer.refuse(b"E2BIG")
        while True:
            part(peer, 7, size=100_000)

    server = serve(script)
    with Store(server.path, timeout=LONG) as store, store.transaction() as t:
        assert t.list("/a") == [name.decode() for name in NAMES_BIG]
        store.close()
    assert {tx_id for op, tx_id, _ in summary(server) if op != START} == {4711}
