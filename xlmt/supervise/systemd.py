# SPDX-License-Identifier: LGPL-2.1-or-later
"""Life under systemd: readiness, watchdog and a journal with fields; without it, nothing of that.

The protocols are small and stable (sd_notify(3), and systemd's JOURNAL_NATIVE_PROTOCOL): a
datagram each, so no library is worth its weight here.
"""

import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from xlmt.logs import DescriptorHandler, PatientHandler, SafeFormatter, write_at_once

_JOURNAL = "/run/systemd/journal/socket"
#: syslog(3)'s priorities.
_PRIORITY = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
#: What our log messages may carry, and the journal's names for it.
_FIELDS = {"domid": "XLMT_DOMID", "domain": "XLMT_DOMAIN"}


class Manager:
    """The service manager that started us, if one did."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = environ.get("NOTIFY_SOCKET", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "") if ours else ""
        #: How often it wants to hear of us, with room to spare; None when it does not care.
        self.watchdog_s = int(usec) / 2e6 if usec.isdecimal() and int(usec) else None
        self._last = ""
        self._fed = 0.0

    def alive(self) -> None:
        """Have the watchdog know that we live; to be called within long work, too."""
        now = time.monotonic()
        if self.watchdog_s and now - self._fed >= self.watchdog_s / 4:
            self._fed = now
            self.tell("WATCHDOG=1")

    def tell(self, state: str) -> None:
        """Say something as in sd_notify(3); a manager that does not listen is no trouble."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode("utf-8", "replace"), address)

    def status(self, text: str) -> None:
        """Say what `systemctl status` shows, if it is another than before."""
        if text != self._last:
            self._last = text
            self.tell(f"STATUS={text}")


class JournalHandler(PatientHandler):
    """A record is an entry of the journal, with domid and name as fields of their own."""

    def __init__(self, address: str = _JOURNAL) -> None:
        super().__init__()
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def deliver(self, record: logging.LogRecord) -> bool:
        message = self.format(record)
        try:
            self._socket.sendto(entry(record, message), self._address)
        except BlockingIOError:  # it is stuck, and so would be standard error, which it reads
            return False
        except OSError:  # the journal is away, or the entry too big for it
            return write_at_once(2, f"{message}\n")
        return True


def entry(record: logging.LogRecord, message: str) -> bytes:
    """Return a record as the journal's native protocol has it."""
    fields: dict[str, Any] = {
        "MESSAGE": message,
        "PRIORITY": _PRIORITY.get(record.levelno, 5),
        "SYSLOG_IDENTIFIER": "xlmt",
    }
    for name, field in _FIELDS.items():
        if (value := getattr(record, name, None)) is not None:
            fields[field] = value
    return b"".join(_field(name, str(value)) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def log_to_where_we_are(level: int) -> None:
    """Log to the journal when our standard error goes there, else to standard error."""
    handler: logging.Handler
    if _is_journal(2) and os.path.exists(_JOURNAL):  # noqa: PTH110
        handler = JournalHandler()
        handler.setFormatter(SafeFormatter("%(message)s"))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    else:
        handler = file = DescriptorHandler()
        handler.setFormatter(SafeFormatter("%(asctime)s xlmt: %(message)s"))
        if not os.isatty(2):  # the end of a terminal is ours, too
            signal.signal(signal.SIGHUP, lambda *_: file.reopen())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("xlmt.supervise").setLevel(level)


def _is_journal(fd: int) -> bool:
    """As systemd.exec(5) says of $JOURNAL_STREAM: it is inherited, the descriptor may be not."""
    with suppress(OSError):
        stat = os.fstat(fd)
        return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"
    return False
