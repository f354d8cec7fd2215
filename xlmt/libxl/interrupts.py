# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ctrl-C at a moment of our choosing.

Python runs signal handlers wherever it happens to be, which may be a log message that libxl sends
from deep inside an operation: an exception raised there goes nowhere, and one raised right after
the call leaves an operation behind that nobody waits for. So, while an operation runs, a signal
only leaves a note and ends the poll.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Holds back KeyboardInterrupt; a context manager, raising it at its end at the latest.

    Only signals that Python handles are held back: one that just kills goes on doing so. In
    other threads than the main one there is nothing to hold back.
    """

    def __init__(self) -> None:
        self.heed = True
        self._came = False

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if callable(signal.getsignal(number)):
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._read_end)
        os.close(self._write_end)
        if self._came and kind is None:
            raise KeyboardInterrupt

    def fileno(self) -> int:
        """Return a descriptor that is readable once a signal has come."""
        return self._read_end

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come, unless told not to heed it."""
        if self._came and self.heed:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def put_off(self) -> Iterator[None]:
        """Heed no signal in the block, and raise KeyboardInterrupt after it if one has come."""
        self.heed = False
        try:
            yield
        finally:
            self.heed = True
            self.check()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        with contextlib.suppress(BlockingIOError):  # a full pipe is readable, too
            os.write(self._write_end, b"!")
