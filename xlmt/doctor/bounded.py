# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask what may hang: each question in a process of its own, which is left behind if it does.

A task in state D cannot be killed, and whoever waits for it hangs as well. So nobody waits: what
has not answered by the deadline is named, and the report goes on without it.
"""

import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from xlmt.errors import XlmtError

#: Who has answered, or was killed, is gone by then, unless the kernel holds it.
_TO_END_S = 0.2


class Answer(NamedTuple):
    """What came back: a value, or the reason why there is none; `late` if the deadline was it."""

    value: Any = None
    problem: str | None = None
    late: bool = False


class _Child(NamedTuple):
    name: str
    pid: int


class Asked:
    """Questions that are being answered, all at once, by processes that were forked for them.

    A question raises XlmtError or OSError, or returns what pickle(3) can carry.
    """

    def __init__(self, questions: Mapping[str, Callable[[], Any]]) -> None:
        self._children: dict[int, _Child] = {}
        self._read: dict[str, bytes] = {}
        self._ended: list[int] = []
        for name, question in questions.items():
            self._ask(name, question)

    def answers(self, seconds: float) -> dict[str, Answer]:
        """Return the answers of all; who has not given his in so many seconds is left behind."""
        until = time.monotonic() + seconds
        while self._children and (left := until - time.monotonic()) > 0:
            for fd in select.select([*self._children], [], [], left)[0]:
                self._take(fd)
        late = {child.name for child in self._children.values()}
        self.end()
        return {
            name: Answer(problem=f"no answer within {seconds:g} s", late=True)
            if name in late
            else _answer(read)
            for name, read in self._read.items()
        }

    def end(self) -> None:
        """End those that have not answered, without waiting for it."""
        for fd, child in self._children.items():
            os.close(fd)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)  # and what it has started
            self._ended.append(child.pid)
        self._children.clear()
        self._reap()

    def _ask(self, name: str, question: Callable[[], Any]) -> None:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read_end)
            _reply(write_end, question)
        os.close(write_end)
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)  # whoever of us is first
        self._children[read_end] = _Child(name, pid)
        self._read[name] = b""

    def _take(self, fd: int) -> None:
        child = self._children[fd]
        if piece := os.read(fd, 1 << 16):
            self._read[child.name] += piece
            return
        os.close(fd)
        del self._children[fd]
        self._ended.append(child.pid)

    def _reap(self) -> None:
        """Wait a moment for those that have ended; one in state D will be our parent's to reap."""
        until = time.monotonic() + _TO_END_S
        while self._ended:
            with suppress(ChildProcessError):
                self._ended = [pid for pid in self._ended if not os.waitpid(pid, os.WNOHANG)[0]]
                if self._ended and time.monotonic() < until:
                    time.sleep(0.005)
                    continue
            return


def _reply(fd: int, question: Callable[[], Any]) -> NoReturn:
    """Answer, in the child, and be gone: nothing of the parent's is written or cleaned up here."""
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        try:
            answer = Answer(question())
        except (XlmtError, OSError, ValueError) as e:
            answer = Answer(problem=str(e))
        with open(fd, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        os._exit(0 if sys.exc_info()[0] is None else 1)


def _answer(read: bytes) -> Answer:
    with suppress(pickle.UnpicklingError, EOFError):  # killed while it wrote
        answer = pickle.loads(read)  # noqa: S301 - of our own child
        if isinstance(answer, Answer):
            return answer
    return Answer(problem="ended without an answer")
