# SPDX-License-Identifier: LGPL-2.1-or-later
"""Workers: a process for each guest that something is done for, forked from the supervisor.

Forked and not started anew: it is there at once, and shares the supervisor's memory. It is a
session of its own and goes on when the supervisor ends. The trip of one task:

    Workers.send       not for a guest that has a worker, and not too soon after the last try
    Workers._fork      the parent keeps the pid and a pipe, whose end tells that the worker ended
    run                in the worker: the guest's lock, libxl and xenstored, Task.carry_out
    Workers.reap       the parent again; what failed is sent again by a later pass
"""

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from xlmt.errors import PASSING, NoXenError, XlmtError
from xlmt.libxl import Context
from xlmt.session import bounded
from xlmt.supervise import jobs
from xlmt.timing import Pause
from xlmt.xenstore import Store

#: So many workers at the same time; what one costs is in bench/supervise.
MOST = 128
_AGAIN_S = (0.1, 60.0)
_LONG_S = 600.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = logging.getLogger("xlmt.supervise")


class Task(Protocol):
    """What a worker does for a guest; a value, so that a second try is known as one."""

    @property
    def key(self) -> str:
        """What one worker at a time is for: a life of a guest, as a rule."""

    @property
    def domid(self) -> int | None: ...
    @property
    def what(self) -> str:
        """What is done, with the guest's name as far as it is known: "the shutdown of web1"."""

    def carry_out(self, ctx: Context, store: Store) -> None:
        """Do it. Raises one of PASSING, OSError: later; XlmtError: never."""


# --- the supervisor's side -----------------------------------------------------------------


@dataclass(frozen=True)
class _Process:
    """A process that was forked; `fd` becomes readable when it ends."""

    pid: int
    fd: int
    started: float
    task: Task


@dataclass
class _Tries:
    """How often this very task was sent, and from when on it may be again."""

    task: Task
    not_before: float = 0.0
    pause: Pause = field(default_factory=lambda: Pause(*_AGAIN_S))


class Workers:
    """The workers, at most one for a guest, and what waits for one.

    `let_go` is called first in a new worker: to close what is the supervisor's alone.
    """

    def __init__(self, let_go: Callable[[], None]) -> None:
        self._let_go = let_go
        self._running: dict[str, _Process] = {}
        self._tries: dict[str, _Tries] = {}

    def send(self, task: Task) -> None:
        """Have a worker do the task, unless the guest has one, or had one for it just now."""
        if task.key in self._running or len(self._running) >= MOST:
            return
        tries = self._tries.get(task.key)
        if tries is None or tries.task != task:
            tries = self._tries[task.key] = _Tries(task)
        elif time.monotonic() < tries.not_before:
            return
        tries.not_before = time.monotonic() + tries.pause.next()
        if not jobs.is_worked_on(task.key):  # by a worker of an earlier supervisor
            self._fork(task)

    def forget_all_but(self, keys: Iterable[str]) -> None:
        """Forget the tries for guests that nothing is to be done for any more."""
        self._tries = {key: tries for key in keys if (tries := self._tries.get(key))}

    def next_try_s(self) -> float:
        """Return in how many seconds there is something to be tried again."""
        if len(self._running) >= MOST:
            return float("inf")  # the end of one of them wakes us
        waiting = [t.not_before for key, t in self._tries.items() if key not in self._running]
        return max(min(waiting, default=float("inf")) - time.monotonic(), 0.0)

    def fds(self) -> list[int]:
        """Return descriptors of which one becomes readable when a worker ends."""
        return [process.fd for process in self._running.values()]

    def slow(self) -> set[str]:
        """Return a line for each worker that takes very long; libxl itself may wait for ever."""
        before = time.monotonic() - _LONG_S
        return {
            f"worker {process.pid} has been handling {process.task.what} for more than "
            f"{_LONG_S / 60:.0f} min; to retry: kill {process.pid}"
            for process in self._running.values()
            if process.started < before
        }

    def reap(self) -> bool:
        """Take note of the workers that have ended; say whether there were any."""
        before = len(self._running)
        for key, process in list(self._running.items()):
            if not select.select([process.fd], [], [], 0)[0]:
                continue
            try:
                ended, status = os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has taken note of its end
                ended, status = process.pid, 0
            if not ended:  # the pipe is closed, the process not quite
                continue
            os.close(process.fd)
            del self._running[key]
            if tries := self._tries.get(key):  # what takes long is not to go on all the time
                tries.not_before += time.monotonic() - process.started
            if os.WIFSIGNALED(status):
                _log.error(
                    "worker %d was killed by signal %d while handling %s; it is tried again",
                    process.pid, os.WTERMSIG(status), process.task.what,
                )  # fmt: skip
        return len(self._running) < before

    def _fork(self, task: Task) -> None:
        read_end, write_end = os.pipe()  # its end is ours to see: SIGCHLD belongs to libxl
        try:
            # A signal in the child is not to run what the parent does at its own end.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            pid = os.fork()
            if pid == 0:
                self._live(task, read_end)
        except OSError as e:
            os.close(read_end)
            _log.error("cannot handle %s: %s", task.what, e)
        else:
            self._running[task.key] = _Process(pid, read_end, time.monotonic(), task)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.close(write_end)

    def _live(self, task: Task, read_end: int) -> NoReturn:
        """Be the worker: do the task, and end."""
        status = XlmtError.exit_status
        try:
            os.setsid()
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            for fd in (read_end, *self.fds()):
                os.close(fd)
            self._let_go()
            status = run(task)
        except BaseException:
            _log.exception("cannot handle %s; please report this", task.what)
        finally:
            os._exit(status)


# --- in the worker -------------------------------------------------------------------------


def run(task: Task) -> int:
    """Do the task, unless another process works on the guest now; return the exit status."""
    with jobs.working_on(task.key) as ours:
        if not ours:
            return 0
        handling = f"handling {task.what}"
        try:
            with bounded(handling, "it is tried again"), Store() as store, Context() as ctx:
                task.carry_out(ctx, store)
        except (*PASSING, OSError, MemoryError) as e:
            why = e or type(e).__name__
            _log.warning("%s: %s; trying again", handling, why, extra={"domid": task.domid})
            return NoXenError.exit_status
        except XlmtError as e:
            _log.error("%s", e, extra={"domid": task.domid})
            return e.exit_status
    return 0
