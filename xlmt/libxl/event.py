# SPDX-License-Identifier: LGPL-2.1-or-later
"""libxl's event loop, driven by ours, so that nothing waits inside libxl.

libxl names the descriptors and the timeout that it waits for; we poll, with a deadline of our
own and open to Ctrl-C, and let libxl go on. Descriptors include its self-pipe for SIGCHLD.
"""

import select
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from xlmt.errors import ClockError, LibxlError, NoXenError, TimedOutError
from xlmt.libxl.bootloader import Ending
from xlmt.libxl.extension import error_name, ffi, lib
from xlmt.libxl.interrupts import Interrupts

_ALL_EVENTS = 0xFFFFFFFFFFFFFFFF
_ALWAYS = select.POLLERR | select.POLLHUP | select.POLLNVAL
#: How long an operation that was told to stop may take to do so: libxl's own waits for a device
#: and for a hotplug script end after 10 and 40 s.
_ABORT_GRACE_S = 60.0
_BOOTLOADER_LOOK_S = 0.1
#: How often to look at the clock, and for a signal that came just before poll(2), which goes on.
_LOOK_MS = 2000
#: How long libxl's own waits may last after the clock was set back.
_AFTER_A_JUMP_S = 15.0


class _Clock:
    """The wall clock, by which libxl's deadlines go, beside the one that nobody sets."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def was_set_back(self) -> bool:
        """Whether it was since the last time that this was asked."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        return before - self._ahead > 1.0


class _Event(NamedTuple):
    kind: int
    operation: int
    domid: int
    rc: int


class Operations:
    """The asynchronous operations of one libxl context, one at a time.

    `abandoned`: one of them would not end. libxl still has pointers into its arguments and would
    abort() the process if its context were freed now; so neither may be freed any more.
    """

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx
        self._number = 0
        self._timed = False  # libxl waits for no longer than until some time by the wall clock
        self.abandoned = False

    def run(
        self,
        start: Callable[[Any, Any], int],
        *,
        timeout: float | None = None,
        on_console: Callable[[int], None] | None = None,
        busy: Callable[[], bool] | None = None,
    ) -> int:
        """Start an operation, wait for its end, and return its rc.

        `start` gets libxl's ao_how and aop_console_how. On Ctrl-C, or TimedOutError after
        `timeout` seconds, the operation is ended and gets a moment for that; then the exception
        goes on. `busy` says whether an abort would leave a disk with domain 0 now.
        """
        self._number += 1
        how = ffi.new("libxl_asyncop_how *")
        progress = ffi.new("libxl_asyncprogress_how *")
        lib.xlmt_ask_for_events(how, progress, self._number)
        deadline = None if timeout is None else time.monotonic() + timeout
        disasters = lib.xlmt_disasters()
        with Interrupts() as interrupts:
            rc = start(how, progress)
            if lib.xlmt_disasters() != disasters:
                self._lose()
            if rc:
                return rc
            try:
                return self._finish(interrupts, deadline, on_console)
            except BaseException:
                if not self.abandoned:
                    with interrupts.put_off():
                        self._end(how, interrupts, busy)
                raise

    def _lose(self) -> NoReturn:
        """Leave what libxl has called a disaster: its context is of no use any more."""
        self.abandoned = True
        raise NoXenError("libxl has lost its connection to xenstored")

    def _end(self, how: Any, interrupts: Interrupts, busy: Callable[[], bool] | None) -> None:
        """End the operation early.

        An abort reaches all that it still had to do: the disk that a bootloader reads would stay
        attached to domain 0. So this waits until libxl has attached it and the bootloader, which
        is told to end, has ended, and libxl has detached it.
        """
        until, ending = time.monotonic() + _ABORT_GRACE_S, Ending()
        while time.monotonic() < until and (ending.look() or (busy and busy())):
            if self._ends(interrupts, _BOOTLOADER_LOOK_S):
                return
        lib.libxl_ao_abort(self._ctx, how)
        self.abandoned = not self._ends(interrupts, _ABORT_GRACE_S)

    def _ends(self, interrupts: Interrupts, seconds: float) -> bool:
        try:
            self._finish(interrupts, time.monotonic() + seconds, None)
        except (TimedOutError, LibxlError):
            return False
        return True

    def _finish(
        self,
        interrupts: Interrupts,
        deadline: float | None,
        on_console: Callable[[int], None] | None,
    ) -> int:
        disasters, clock, jumped = lib.xlmt_disasters(), _Clock(), False
        while True:
            if lib.xlmt_disasters() != disasters:
                self._lose()
            for event in self._events():
                if event.operation != self._number:
                    continue
                if event.kind == lib.LIBXL_EVENT_TYPE_OPERATION_COMPLETE:
                    return event.rc
                if on_console:  # the only other kind that an operation reports
                    on_console(event.domid)
            interrupts.check()
            if clock.was_set_back() and self._timed:
                latest = time.monotonic() + _AFTER_A_JUMP_S
                jumped, deadline = True, min(latest, deadline or latest)
            if deadline is not None and time.monotonic() >= deadline:
                raise _too_late(jumped=jumped)
            self._poll(deadline, interrupts.fileno() if interrupts.heed else -1)

    def _events(self) -> Iterator[_Event]:
        p_event = ffi.new("libxl_event **")
        while True:
            rc = lib.libxl_event_check(self._ctx, p_event, _ALL_EVENTS, ffi.NULL, ffi.NULL)
            if rc == lib.ERROR_NOT_READY:
                return
            if rc:
                raise LibxlError("libxl's events", rc, error_name(rc))
            event = p_event[0]
            done = event.type == lib.LIBXL_EVENT_TYPE_OPERATION_COMPLETE
            found = _Event(
                event.type, event.for_user, event.domid, lib.xlmt_event_rc(event) if done else 0
            )
            lib.libxl_event_free(self._ctx, event)
            yield found

    def _poll(self, deadline: float | None, wake_up: int) -> None:
        p_timeout = ffi.new("int *", -1)
        fds, count = self._descriptors(p_timeout)
        timeout_ms = p_timeout[0]
        self._timed = timeout_ms >= 0
        if deadline is not None:
            left_ms = max(0, round((deadline - time.monotonic()) * 1000))
            timeout_ms = left_ms if timeout_ms < 0 else min(timeout_ms, left_ms)
        timeout_ms = _LOOK_MS if timeout_ms < 0 else min(timeout_ms, _LOOK_MS)
        wanted: dict[int, int] = {}  # libxl may list a descriptor twice, for different events
        for i in range(count):
            wanted[fds[i].fd] = wanted.get(fds[i].fd, 0) | fds[i].events
        poller = select.poll()
        if wake_up >= 0:
            poller.register(wake_up, select.POLLIN)
        for fd, events in wanted.items():
            poller.register(fd, events)
        ready = dict(poller.poll(timeout_ms))
        for i in range(count):
            fds[i].revents = ready.get(fds[i].fd, 0) & (fds[i].events | _ALWAYS)
        lib.libxl_osevent_afterpoll(self._ctx, count, fds, _now())

    def _descriptors(self, p_timeout: Any) -> tuple[Any, int]:
        p_count = ffi.new("int *", 16)
        while True:
            fds = ffi.new("struct pollfd[]", p_count[0])
            rc = lib.libxl_osevent_beforepoll(self._ctx, p_count, fds, p_timeout, _now())
            if rc == 0:
                return fds, p_count[0]
            if rc != lib.ERROR_BUFFERFULL:
                raise LibxlError("libxl's events", rc, error_name(rc))


def _too_late(*, jumped: bool) -> TimedOutError:
    if jumped:
        return ClockError("libxl did not finish in time, since the clock was set back")
    return TimedOutError("libxl did not finish in time")


def _now() -> Any:
    # wall-clock time: libxl compares it with gettimeofday()
    now = time.time()
    return ffi.new("struct timeval *", {"tv_sec": int(now), "tv_usec": int(now % 1 * 1e6)})[0]
