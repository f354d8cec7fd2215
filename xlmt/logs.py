# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every log handler needs: text that can do no harm, to readers who may not read.

Names come from guests' administrators and toolstacks, reasons from libxl and whatever it quotes.
A record is one line of printable characters, whoever has written its parts.
"""

import logging
import os
import select
from contextlib import suppress
from typing import Any

from xlmt.text import printable

#: A pipe that is ready takes so much without waiting (pipe(7), PIPE_BUF).
_AT_ONCE = 4096
_LONGEST = 4000


class SafeFormatter(logging.Formatter):
    """Makes one printable line of a record; a traceback of ours follows, in lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable(super().formatMessage(record), _LONGEST)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        lines = super().formatException(ei).splitlines()
        return "\n".join(printable(line, _LONGEST) for line in lines)


class Once:
    """Says each of some lines once, until it is over."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: set[str] = set()

    def say(self, lines: set[str], level: int = logging.WARNING) -> None:
        """Say those of the lines that were not among the last ones."""
        for line in sorted(lines - self._said):
            self._log.log(level, "%s", line)
        self._said = lines


class PatientHandler(logging.Handler):
    """Never waits for who reads; counts what it cannot say, and says how much that was."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self.lost and self.deliver(self._of_the_lost(record)):
            self.lost = 0
        if self.lost or not self.deliver(record):
            self.lost += 1

    def _of_the_lost(self, record: logging.LogRecord) -> logging.LogRecord:
        message = "%d lines before this one could not be written"
        return logging.LogRecord(
            record.name, logging.WARNING, record.pathname, 0, message, (self.lost,), None
        )

    def deliver(self, record: logging.LogRecord) -> bool:
        """Write the record without waiting; say whether it was taken."""
        raise NotImplementedError


class DescriptorHandler(PatientHandler):
    """Writes to a descriptor, such as standard error; a file there can be opened anew."""

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        with suppress(OSError):
            self._file = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115

    def deliver(self, record: logging.LogRecord) -> bool:
        return write_at_once(self._fd, f"{self.format(record)}\n")

    def reopen(self) -> None:
        """Go on in a new file of that name, as after logrotate(8). What cannot be opened stays."""
        name = getattr(self, "_file", "")
        if not os.path.isabs(name) or name.startswith("/dev/"):  # noqa: PTH117
            return
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(name, flags, 0o644)
            same = os.path.sameopenfile(1, self._fd)
            for old in (1, self._fd) if same else (self._fd,):
                os.dup2(fd, old)
            os.close(fd)


def write_at_once(fd: int, text: str) -> bool:
    """Write the text, unless that would take waiting; say whether all of it was taken."""
    data = text.encode("utf-8", "backslashreplace")
    poll = select.poll()
    with suppress(OSError):
        poll.register(fd, select.POLLOUT)
        for start in range(0, len(data), _AT_ONCE):
            piece = data[start : start + _AT_ONCE]
            if not poll.poll(0) or os.write(fd, piece) != len(piece):
                return False
        return True
    return False
