# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ctrl-C is held back while an operation runs, and never lost."""

import select
import signal
import threading
from collections.abc import Iterator

import pytest

from xlmt.errors import NoXenError, TimedOutError
from xlmt.libxl import xentoollog
from xlmt.libxl.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _default_handlers() -> Iterator[None]:
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


def test_a_signal_is_held_back_until_it_is_asked_for() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert select.select([interrupts.fileno()], [], [], 0)[0]
        interrupts.check()
        pytest.fail("check() let it pass")


def test_a_signal_that_nobody_asked_for_is_raised_at_the_end() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached


def test_it_is_put_off_for_a_block() -> None:
    passed = False
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        with interrupts.put_off():
            signal.raise_signal(signal.SIGINT)
            interrupts.check()
            passed = True
        pytest.fail("it was lost")
    assert passed


def test_ctrl_c_while_an_operation_is_ended_is_not_lost_for_why_it_is() -> None:
    """As TimedOutError, after which `create -F` would try again."""
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        try:
            raise TimedOutError("libxl did not finish in time")
        except TimedOutError:
            with interrupts.put_off():
                signal.raise_signal(signal.SIGINT)
            raise


def test_an_exception_of_the_block_goes_first() -> None:
    with pytest.raises(ValueError, match="mine"), Interrupts():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("mine")


def test_a_thousand_signals_do_not_block() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts():
        for _ in range(100_000):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_as_before_afterwards() -> None:
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_just_kills_goes_on_doing_so() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_in_a_thread_there_is_nothing_to_hold_back() -> None:
    failed: list[BaseException] = []

    def body() -> None:
        try:
            with Interrupts() as interrupts:
                interrupts.check()
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(10)
    assert not failed


def test_ctrl_c_while_libxl_speaks_is_not_lost_when_libxl_fails_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The signal breaks off a system call of libxl; Python raises it where libxl says so."""
    with pytest.raises(KeyboardInterrupt), xentoollog.listening():
        monkeypatch.setattr(xentoollog, "_raised_in_callback", KeyboardInterrupt())
        raise NoXenError("libxl gave no reason")
