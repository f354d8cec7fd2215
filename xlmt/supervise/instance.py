# SPDX-License-Identifier: LGPL-2.1-or-later
"""There is one supervisor per host: how it makes sure of that, and how others find it.

It holds a lock on a file as long as it lives. Who wants to know whether it works connects to its
socket: it looks at the whole host once more, then answers a line and closes. So whoever has the
answer knows that the supervisor has seen all that he had done before he asked.
"""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from xlmt import files, locks
from xlmt.errors import TimedOutError, XlmtError
from xlmt.supervise import presence, surroundings
from xlmt.supervise.jobs import RUN, make_folders

SOCKET = str(RUN / "supervise.sock")
_TO_END_S = 5.0
_UNIT = "xlmt-supervise.service"
_UNITS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_SYSTEMD = "/run/systemd/system"


# --- the supervisor's side -----------------------------------------------------------------


@contextmanager
def alone(*, replace: bool = False) -> Iterator[None]:
    """Be the host's supervisor for the block; with `replace`, end another one that is.

    Raises XlmtError when there is another one, OSError when /run cannot be written to.
    """
    make_folders()
    fd = os.open(presence.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not locks.acquire(fd) and not (replace and _end_the_other(fd)):
            raise XlmtError(
                f"a supervisor is already running (pid {locks.holder(fd)}); to replace it: "
                "xlmt supervise --replace"
            )
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(fd)


def _end_the_other(fd: int) -> bool:
    """End whoever holds the lock, by force if need be; True when it is ours then."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if other := locks.holder(fd):
            with suppress(ProcessLookupError):
                os.kill(other, number)
        until = time.monotonic() + _TO_END_S
        while time.monotonic() < until:
            if locks.acquire(fd):
                return True
            time.sleep(0.02)
    return False


def _spare() -> int | None:
    with suppress(OSError):
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    return None


class Listener:
    """The supervisor's socket; a context manager, to be used under the lock."""

    def __enter__(self) -> Self:
        self._asking: list[socket.socket] = []
        self._spare = _spare()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            os.unlink(SOCKET)  # noqa: PTH108
        self._socket.bind(SOCKET)
        self._socket.listen(128)
        self._socket.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            os.unlink(SOCKET)  # noqa: PTH108
        self.close()

    def close(self) -> None:
        """Close what a forked child must not keep open."""
        for asking in self._asking:
            asking.close()
        self._asking.clear()
        self._socket.close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> bool:
        """Take in who has come; say whether anybody waits for an answer."""
        while True:
            try:
                self._asking.append(self._socket.accept()[0])
            except ConnectionError:
                continue
            except BlockingIOError:
                return bool(self._asking)
            except OSError:  # out of descriptors or memory
                if not self._turn_away():
                    return bool(self._asking)

    def _turn_away(self) -> bool:
        """Let go who waits, by the spare descriptor: else he would wake us for ever."""
        if self._spare is None:
            time.sleep(0.1)
            self._spare = _spare()
            return False
        spare, self._spare = self._spare, None
        os.close(spare)
        try:
            self._socket.accept()[0].close()
        except OSError:  # nobody waits: without a descriptor the kernel does not get to say so
            return False
        finally:
            self._spare = _spare()
        return True

    def answer(self, problem: str = "") -> None:
        """Answer all who were taken in before: all is well, or what is wrong."""
        for asking in self._asking:
            with suppress(OSError), asking:
                asking.setblocking(False)
                asking.send(f"{problem or 'ok'}\n".encode("utf-8", "replace"))
        self._asking.clear()


# --- the others' side ----------------------------------------------------------------------


def ask(timeout: float) -> None:
    """Return once the supervisor has looked at the host.

    Raises XlmtError when there is none, or it says that it cannot; TimedOutError.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            sock.connect(SOCKET)
            answer = sock.recv(4096).decode("utf-8", "replace").strip()
    except (TimeoutError, BlockingIOError):
        raise TimedOutError(f"the supervisor did not answer within {timeout:g} s") from None
    except OSError as e:
        raise XlmtError(f"no supervisor is running on this host ({SOCKET}: {e.strerror})") from None
    if answer != "ok":
        raise XlmtError(f"the supervisor reports: {answer or 'nothing, it ended'}")


def ask_until(timeout: float) -> None:
    """Do the same, while one may still be on its way up. Raises XlmtError."""
    deadline, pause = time.monotonic() + timeout, 0.01
    while True:
        left = deadline - time.monotonic()
        try:
            return ask(max(left, 0.1))
        except XlmtError:
            if left <= 0:
                raise
        time.sleep(min(pause, max(left, 0.0)))
        pause = min(pause * 2, 0.5)


def is_there() -> bool:
    """Say whether somebody listens on the supervisor's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        return sock.connect_ex(SOCKET) in (0, errno.EAGAIN)  # EAGAIN: many ask at once


def start(log_file: str) -> subprocess.Popen[bytes] | None:
    """Start one in the background; should there be one already, it goes away by itself.

    Where the unit is installed it is started as that. It is not ours then, and nothing to wait for.
    """
    if _start_the_unit():
        return None
    # -P: the current directory is no place to find modules in
    with open(log_file, "ab") as log:  # noqa: PTH123
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "xlmt.supervise.daemon"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=surroundings.environment(os.environ),
            start_new_session=True,
        )


def _start_the_unit() -> bool:
    installed = any(os.path.exists(f"{folder}/{_UNIT}") for folder in _UNITS)  # noqa: PTH110
    if not installed or not os.path.isdir(_SYSTEMD):  # noqa: PTH112
        return False
    systemctl = files.program("systemctl")
    if systemctl is None:
        return False
    command = [systemctl, "--no-block", "--quiet", "start", _UNIT]
    with suppress(OSError, subprocess.TimeoutExpired):
        return not subprocess.call(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_TO_END_S
        )
    return False
