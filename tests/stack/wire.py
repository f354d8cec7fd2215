# SPDX-License-Identifier: LGPL-2.1-or-later
"""A xenstore client of its own, to judge by: it shares no code with what is tested.

Every operation has a deadline and raises OSError: with xenstored's errno, TimeoutError, or
ConnectionError when the daemon hung up.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Self

HEADER = struct.Struct("<4I")  # type, request id, transaction id, length of the payload
MARK = "/test-harness"  # read first on each connection: the trace leaves such connections out


class Op(IntEnum):
    """Wire numbers of the requests; the names are the ones xenstored logs."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22


class Client:
    """One connection. `tx` is a transaction id, 0 for none."""

    def __init__(self, path: Path, *, timeout: float = 10, marked: bool = True) -> None:
        self._timeout = timeout
        self._buffer = b""
        self._events: deque[tuple[str, str]] = deque()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # A socket with a Python timeout does not wait for a place in a full backlog, and
            # xenstored's has one place; the kernel's own deadline for connect() does.
            patience = struct.pack("@ll", int(timeout), int(timeout % 1 * 1_000_000))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            self._sock.connect(str(path))
            self._sock.settimeout(timeout)
            if marked:
                self.exists(MARK)
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def abort(self) -> None:
        """From another thread: whatever waits on this connection fails at once."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def read(self, path: str, tx: int = 0) -> str:
        return self.ask(Op.READ, path, tx=tx).decode(errors="replace")

    def exists(self, path: str, tx: int = 0) -> bool:
        try:
            self.ask(Op.READ, path, tx=tx)
        except FileNotFoundError:
            return False
        return True

    def ls(self, path: str, tx: int = 0) -> list[str]:
        """Names of the children; raises FileNotFoundError."""
        try:
            names = self.ask(Op.DIRECTORY, path, tx=tx)
        except OSError as e:
            if e.errno != errno.E2BIG:
                raise
            names = self._list_in_parts(path, tx)
        return [name.decode() for name in names.split(b"\0") if name]

    def _list_in_parts(self, path: str, tx: int) -> bytes:
        generation, names = b"", b""
        while not names.endswith(b"\0\0"):
            reply = self.ask(Op.DIRECTORY_PART, path, str(len(names)), tx=tx)
            now, _, part = reply.partition(b"\0")
            if names and now != generation:
                names = b""  # the directory changed meanwhile: from the start
                continue
            generation = now
            names += part
        return names

    def perms(self, path: str, tx: int = 0) -> list[str]:
        """Like ["n0", "r5"]: the owner and what others may do, then the exceptions."""
        return [p.decode() for p in self.ask(Op.GET_PERMS, path, tx=tx).split(b"\0") if p]

    def set_perms(self, path: str, *perms: str, tx: int = 0) -> None:
        self.ask(Op.SET_PERMS, path, *perms, tx=tx)

    def write(self, path: str, value: str = "", tx: int = 0) -> None:
        self._request(Op.WRITE, f"{path}\0{value}".encode(errors="surrogateescape"), tx)

    def mkdir(self, path: str, tx: int = 0) -> None:
        self.ask(Op.MKDIR, path, tx=tx)

    def rm(self, path: str, tx: int = 0) -> None:
        self.ask(Op.RM, path, tx=tx)

    def introduce(self, domid: int, frame: int = 0x1000, port: int = 10) -> None:
        self.ask(Op.INTRODUCE, str(domid), str(frame), str(port))

    @contextmanager
    def transaction(self) -> Iterator[int]:
        """Commits; raises OSError(EAGAIN) on a conflict. Aborts when the body raises."""
        tx = int(self.ask(Op.TRANSACTION_START, "").rstrip(b"\0"))
        try:
            yield tx
        except BaseException:
            self.ask(Op.TRANSACTION_END, "F", tx=tx)
            raise
        self.ask(Op.TRANSACTION_END, "T", tx=tx)

    def watch(self, path: str, token: str = "") -> None:
        self.ask(Op.WATCH, path, token)

    def unwatch(self, path: str, token: str = "") -> None:
        self.ask(Op.UNWATCH, path, token)

    def next_event(self, timeout: float) -> tuple[str, str] | None:
        """The next (path, token), or None after `timeout` seconds without one."""
        deadline = time.monotonic() + timeout
        while not self._events:
            if not self._buffer and not self._readable(deadline - time.monotonic()):
                return None
            self._packet(time.monotonic() + self._timeout)
        return self._events.popleft()

    def ask(self, op: Op, *words: str, tx: int = 0) -> bytes:
        """One request whose words are each ended by a NUL; its reply."""
        return self._request(op, b"".join(word.encode() + b"\0" for word in words), tx)

    def _request(self, op: Op, payload: bytes, tx: int) -> bytes:
        deadline = time.monotonic() + self._timeout
        self._sock.settimeout(self._timeout)
        self._sock.sendall(HEADER.pack(op, 1, tx, len(payload)) + payload)
        while (reply := self._packet(deadline)) is None:
            pass
        kind, body = reply
        if kind == Op.ERROR:
            name = body.rstrip(b"\0").decode()
            code = getattr(errno, name, errno.EIO)
            raise OSError(code, f"{op.name}: {os.strerror(code)}", payload[:200].decode())
        return body

    def _packet(self, deadline: float) -> tuple[int, bytes] | None:
        """Type and payload of the next reply; None when it was an event, which is queued."""
        kind, _, _, length = HEADER.unpack(self._take(HEADER.size, deadline))
        body = self._take(length, deadline)
        if kind != Op.WATCH_EVENT:
            return kind, body
        path, token, *_ = body.decode(errors="replace").split("\0")
        self._events.append((path, token))
        return None

    def _take(self, n: int, deadline: float) -> bytes:
        while len(self._buffer) < n:
            if not self._readable(deadline - time.monotonic()):
                raise TimeoutError(errno.ETIMEDOUT, "xenstored does not answer")
            chunk = self._sock.recv(65536)
            if not chunk:
                raise ConnectionResetError(errno.ECONNRESET, "xenstored hung up")
            self._buffer += chunk
        data, self._buffer = self._buffer[:n], self._buffer[n:]
        return data

    def _readable(self, timeout: float) -> bool:
        return bool(select.select([self._sock], [], [], max(timeout, 0))[0])
