# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ctrl-C and other signals while the xenstore client waits."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.unit.xenstore.xsserver import (
    LONG,
    READ,
    START,
    Peer,
    Serve,
    answers,
    silent,
)
from xlmt.errors import XenstoreUnreachableError
from xlmt.xenstore import Store

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    before = signal.getsignal(signal.SIGALRM)

    def ring(handler: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: handler())
        signal.setitimer(signal.ITIMER_REAL, 0.1)

    yield ring
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


Alarm = Callable[[Callable[[], None]], None]


def interrupt() -> None:
    raise KeyboardInterrupt


# pytest-timeout's default method is SIGALRM too, which these tests need for themselves.
@pytest.mark.timeout(60, method="thread")
def test_ctrl_c_while_waiting_gets_through_and_ends_the_connection(
    serve: Serve, alarm: Alarm
) -> None:
    server = serve(silent)
    with Store(server.path, timeout=LONG) as store:
        alarm(interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.read("/a")
        with pytest.raises(XenstoreUnreachableError, match="interrupted"):
            store.read("/a")


@pytest.mark.timeout(60, method="thread")
def test_ctrl_c_while_waiting_for_an_event_leaves_the_store_usable(
    serve: Serve, alarm: Alarm
) -> None:
    server = serve(answers(b"value"))
    with Store(server.path, timeout=LONG) as store:
        alarm(interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.next_event(LONG)
        assert store.read("/a") == "value"


@pytest.mark.timeout(60, method="thread")
def test_a_signal_handler_that_returns_does_not_end_the_wait(serve: Serve, alarm: Alarm) -> None:
    rung = threading.Event()

    def script(peer: Peer) -> None:
        asked = peer.request()
        assert rung.wait(LONG)
        peer.packet(READ, asked.rq_id, 0, b"value")
        peer.until_closed()

    server = serve(script)
    with Store(server.path, timeout=LONG) as store:
        alarm(rung.set)
        assert store.read("/a") == "value"


@pytest.mark.timeout(60, method="thread")
def test_ctrl_c_in_a_transaction_does_not_wait_for_the_abort(serve: Serve, alarm: Alarm) -> None:
    server = serve(answers(b"5\0"))
    with Store(server.path, timeout=LONG) as store:
        alarm(interrupt)
        with pytest.raises(KeyboardInterrupt), store.transaction() as t:
            t.read("/a")
    server.stop()
    assert [request.op for request in server.seen] == [START, READ]


def test_a_signal_just_before_a_long_wait_is_not_lost(serve: Serve) -> None:
    """Given to another thread, it does the same: Python knows of it, and the poll goes on."""
    before = signal.signal(signal.SIGUSR1, lambda *_: interrupt())
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    later = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with Store(serve(silent).path, timeout=LONG) as store:
            later.start()
            with pytest.raises(KeyboardInterrupt):
                store.next_event(1000)
    finally:
        later.cancel()
        done.set()
        other.join(LONG)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGUSR1, before)
