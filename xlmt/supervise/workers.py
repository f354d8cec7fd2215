# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process for each guest that is being seen to, forked from the supervisor.

Forked and not started anew: it is there at once, and shares the supervisor's memory. It is a
session of its own and goes on when the supervisor ends. It does one of `see_to_death` and
`see_to_eject`, and ends.
"""

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from xlmt.domains.managed import drop_mark, mark_of
from xlmt.errors import NoXenError, TimedOutError, XlmtError
from xlmt.libxl import Context
from xlmt.session import bounded
from xlmt.supervise import handler as undertaker
from xlmt.supervise import jobs as casebook
from xlmt.supervise.cdrom import Drive, eject
from xlmt.supervise.policy import Brake, is_death
from xlmt.timing import Pause
from xlmt.xenstore import Store

#: So many deaths are seen to at the same time; what one such process costs is in bench/supervise.
MOST = 128
_AGAIN_S = (0.1, 60.0)
_LONG_S = 600.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_log = logging.getLogger("xlmt.supervise")


# --- the supervisor's side -----------------------------------------------------------------


@dataclass(frozen=True)
class _Process:
    """A process that was forked; `fd` becomes readable when it ends."""

    pid: int
    fd: int
    started: float


@dataclass
class _Tries:
    """How often this very thing was seen to, and from when on it may be again."""

    what: object
    not_before: float = 0.0
    pause: Pause = field(default_factory=lambda: Pause(*_AGAIN_S))


class Attendants:
    """The processes that are at work, at most one for a guest, and what waits for one."""

    def __init__(self) -> None:
        self._running: dict[str, _Process] = {}
        self._tries: dict[str, _Tries] = {}

    def send(self, uuid: str, what: object, work: Callable[[], int]) -> None:
        """Have the guest seen to, unless it is already, or was for the same just a moment ago.

        `work` is done in the process, whose exit status it returns.
        """
        tries = self._tries.get(uuid)
        if uuid in self._running or len(self._running) >= MOST:
            return
        if tries is None or tries.what != what:
            tries = self._tries[uuid] = _Tries(what)
        elif time.monotonic() < tries.not_before:
            return
        tries.not_before = time.monotonic() + tries.pause.next()
        with casebook.working_on(uuid) as free:
            pass
        if free:  # else one goes on that an earlier supervisor has sent
            self._fork(uuid, work)

    def forget_all_but(self, uuids: Iterable[str]) -> None:
        """Forget how often was tried what needs nobody any more."""
        self._tries = {uuid: tries for uuid in uuids if (tries := self._tries.get(uuid))}

    def next_try_s(self) -> float:
        """Return in how many seconds there is something to be tried again."""
        if len(self._running) >= MOST:
            return float("inf")  # the end of one of them wakes us
        waiting = [t.not_before for uuid, t in self._tries.items() if uuid not in self._running]
        return max(min(waiting, default=float("inf")) - time.monotonic(), 0.0)

    def fds(self) -> list[int]:
        """Return descriptors of which one becomes readable when a process ends."""
        return [process.fd for process in self._running.values()]

    def slow(self) -> set[str]:
        """Return a line for each process that takes very long; libxl itself may wait for ever."""
        before = time.monotonic() - _LONG_S
        return {
            f"process {process.pid} has been seeing to {uuid} for more than {_LONG_S / 60:.0f} "
            f"minutes; to have another one try: kill {process.pid}"
            for uuid, process in self._running.items()
            if process.started < before
        }

    def reap(self) -> bool:
        """Take note of the processes that have ended; say whether there were any."""
        before = len(self._running)
        for uuid, process in list(self._running.items()):
            if not select.select([process.fd], [], [], 0)[0]:
                continue
            ended, status = os.waitpid(process.pid, os.WNOHANG)
            if not ended:  # its last breath
                continue
            os.close(process.fd)
            del self._running[uuid]
            if os.WIFSIGNALED(status):
                _log.error(
                    "process %d, which saw to %s, was killed by signal %d; another one goes on",
                    process.pid, uuid, os.WTERMSIG(status),
                )  # fmt: skip
        return len(self._running) < before

    def _fork(self, uuid: str, work: Callable[[], int]) -> None:
        read_end, write_end = os.pipe()  # its end is ours to see: SIGCHLD belongs to libxl
        try:
            # A signal in the child is not to run what the parent does at its own end.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            pid = os.fork()
            if pid == 0:
                self._live(uuid, work, read_end)
        except OSError as e:
            os.close(read_end)
            _log.error("nobody can see to %s: %s", uuid, e)
        else:
            self._running[uuid] = _Process(pid, read_end, time.monotonic())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.close(write_end)

    def _live(self, uuid: str, work: Callable[[], int], read_end: int) -> NoReturn:
        """Be the process: do the work, and end."""
        status = XlmtError.exit_status
        try:
            os.setsid()
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            for fd in (read_end, *self.fds()):
                os.close(fd)
            status = work()
        except BaseException:
            _log.exception("%s is not seen to: please report this", uuid)
        finally:
            os._exit(status)


# --- in the process ------------------------------------------------------------------------


def see_to_death(uuid: str, domid: int | None, brake: Brake) -> int:
    """See to a death of the guest; return the exit status.

    `domid` is that of the dead domain, None for what is left of an interrupted case.
    """

    def work(ctx: Context, store: Store) -> None:
        _see_to_death(ctx, store, uuid, domid, brake)

    return _alone(uuid, domid, work)


def see_to_eject(drive: Drive) -> int:
    """See to a CD that was ejected; return the exit status."""
    domid = drive.domain.domid

    def work(ctx: Context, store: Store) -> None:
        if vdev := eject(ctx, store, drive):
            _log.info("domain %d has ejected its CD, %s", domid, vdev, extra={"domid": domid})

    return _alone(drive.domain.uuid, domid, work)


def _alone(uuid: str, domid: int | None, work: Callable[[Context, Store], None]) -> int:
    """Do the work, unless somebody else sees to the guest now; return the exit status."""
    what = f"seeing to {uuid}"
    with casebook.working_on(uuid) as ours:
        if not ours:
            return 0
        try:
            with bounded(what, "it will be tried again"), Store() as store, Context() as ctx:
                work(ctx, store)
        except (NoXenError, TimedOutError, OSError) as e:
            _log.warning("%s: %s; trying again", what, e, extra={"domid": domid})
            return NoXenError.exit_status
        except XlmtError as e:
            _log.error("%s", e, extra={"domid": domid})
            return e.exit_status
    return 0


def _see_to_death(ctx: Context, store: Store, uuid: str, domid: int | None, brake: Brake) -> None:
    case = casebook.load(uuid)
    if case is None:
        found = None if domid is None else ctx.domain(domid)
        if not found or found.uuid != uuid or found.dying or not found.shutdown:
            return  # somebody was faster
        mark = mark_of(found)
        if mark is None or not is_death(found.shutdown):
            return
        case = undertaker.open_case(ctx, store, found, mark, brake)
        if not case.pending:  # it stays as it is, for somebody to look at
            drop_mark(ctx, found.domid)
            return
        casebook.keep(case)
    try:
        undertaker.Undertaker(ctx, store, case, casebook.keep, marked=True).carry_out()
    except (NoXenError, TimedOutError):
        raise
    except XlmtError as e:
        casebook.drop(uuid)
        raise XlmtError(f"domain {case.domid} ({case.name}) is given up: {e}") from e
