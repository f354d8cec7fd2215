# SPDX-License-Identifier: LGPL-2.1-or-later
"""A wait that no signal is too early for."""

import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Self


class Poll:
    """poll(2) that a signal ends, whenever it comes; a context manager, for the main thread.

    Python runs its handlers between two steps of its own. A signal that comes after the last step
    before poll(2) does not end that, and its handler would run when it ends by itself.
    """

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._close(self._previous)

    def let_go(self) -> None:
        """Close our copies in a forked child, whose signals are not its parent's."""
        self._close(-1)

    def _close(self, instead: int) -> None:
        signal.set_wakeup_fd(instead)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self, fds: Iterable[int], seconds: float) -> set[int]:
        """Return those that are readable or broken, after so many seconds at most.

        None may be after a signal whose handler returns.
        """
        poll = select.poll()
        for fd in (*fds, self._read_end):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(1 + 1000 * seconds)}
        with suppress(BlockingIOError):  # whose handlers have run by now
            os.read(self._read_end, 4096)
        return ready - {self._read_end}
