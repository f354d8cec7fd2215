# SPDX-License-Identifier: LGPL-2.1-or-later
"""One connection to xenstored on which nothing waits past its deadline.

The trip of one request: `exchange` numbers it, puts it on the socket and reads until the reply
with that number is there. Watch events that come in between are queued for `next_event`. There
is no thread. Everything that leaves the stream in doubt (a deadline, an end of file, a number
that nobody asked for, Ctrl-C between a request and its reply) closes the connection, because
the next reader would take the rest of one answer for the start of another. From then on every
call fails at once, with the first reason.

Not for use by two threads, nor across fork: both would read parts of the same answers.
"""

import errno
import itertools
import math
import select
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from xlmt.errors import XenstoreUnreachableError, XlmtError
from xlmt.timing import NAP_S

HEADER = struct.Struct("=IIII")  # type, request id, transaction id, length of the payload
WATCH_EVENT = 15
ERROR = 16
#: Requests end at 4096 bytes, but oxenstored's replies do not: 32751 names are about 200 kB.
MAX_REPLY = 4 << 20
MAX_REQUEST = 4096

_HINT = "try: ps -C xenstored,oxenstored"


class WatchEvent(NamedTuple):
    """Something changed at or below `path`; `token` is what the watch was set with."""

    path: str
    token: str


class Reply(NamedTuple):
    """A packet from xenstored, apart from watch events."""

    op: int
    rq_id: int
    tx_id: int
    payload: bytes


class SocketTransport:
    """A connected Unix socket: bytes in and out, and BlockingIOError instead of waiting."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.fileno = sock.fileno
        self.close = sock.close

    def recv(self, size: int) -> bytes:
        return self._sock.recv(size)

    def send(self, data: memoryview) -> int:
        # A program may have given SIGPIPE its default action, which is death.
        return self._sock.send(data, socket.MSG_NOSIGNAL)


def to_wire(text: str) -> bytes:
    """Encode as UTF-8; what `from_wire` made of other bytes becomes those bytes again."""
    return text.encode("utf-8", "surrogateescape")


def from_wire(raw: bytes) -> str:
    """Decode UTF-8; other bytes become lone surrogates (U+DC80 ... U+DCFF), so nothing is lost."""
    return raw.decode("utf-8", "surrogateescape")


def connect(path: str, timeout: float) -> SocketTransport:
    """Connect to the Unix socket at `path` within `timeout` seconds.

    Raises XlmtError without permission, XenstoreUnreachableError for every other failure.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _connect(sock, path, time.monotonic() + timeout)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise _connect_error(path, error, timeout) from error
        raise
    return SocketTransport(sock)


def _connect(sock: socket.socket, path: str, deadline: float) -> None:
    """Connect; a full backlog, which poll cannot wait for, is asked again until the deadline."""
    pause = 0.001
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(pause, left))
            pause = min(pause * 2, 0.1)


def _connect_error(path: str, error: OSError, timeout: float) -> XlmtError:
    """Say why there is no connection to `path`, and what to do about it."""
    match error:
        case PermissionError():
            return XlmtError(f"permission denied on {path}: run as root")
        case BlockingIOError():
            why = f"did not accept a connection within {timeout:g} s; is it running?"
        case FileNotFoundError():
            why = "is not there; is it running? is this host booted with Xen?"
        case ConnectionRefusedError():
            why = "is not listening; is it running?"
        case _:
            why = f"cannot be reached ({error.strerror or error});"
    return XenstoreUnreachableError(f"xenstored at {path} {why} {_HINT}")


class Wire:
    """Requests, replies and watch events on one transport.

    `name` is the path for messages, `timeout` the seconds that each request may take as a whole.
    Raises XenstoreUnreachableError throughout.
    """

    def __init__(self, transport: SocketTransport, name: str, timeout: float) -> None:
        self.requests = 0
        self._transport = transport
        self._name = f"xenstored at {name}"
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._awaited: int | None = None
        self._reply: Reply | None = None
        self._inbox = bytearray()
        self._events: OrderedDict[WatchEvent, None] = OrderedDict()
        self._failure: str | None = None

    def close(self) -> None:
        """Close the connection; whatever follows raises."""
        self._lost(f"the connection to {self._name} is closed; open it again")

    def fileno(self) -> int:
        """Return the file descriptor, for select and poll; see `pending`."""
        self._check()
        return self._transport.fileno()

    @property
    def pending(self) -> bool:
        """True while an event is queued here, of which the file descriptor knows nothing."""
        return bool(self._events)

    def exchange(self, op: int, tx_id: int, payload: bytes) -> Reply:
        """Send one request and return its reply, which may be an ERROR."""
        self._check()
        self._awaited, self._reply = next(self._ids) & 0xFFFFFFFF, None
        deadline = time.monotonic() + self._timeout
        self.requests += 1
        with self._indivisible():
            self._send(HEADER.pack(op, self._awaited, tx_id, len(payload)) + payload, deadline)
            reply = self._receive(deadline)
            if reply.op not in (op, ERROR) or reply.tx_id != tx_id:
                raise self._garbage(f"operation {reply.op}, transaction {reply.tx_id}")
        return reply

    def next_event(self, timeout: float) -> WatchEvent | None:
        """Return the oldest queued event, or wait up to `timeout` seconds for one."""
        self._check()
        deadline = time.monotonic() + timeout
        late = False
        while not (self._events or late):
            late = time.monotonic() >= deadline
            if self._ready(select.POLLIN, deadline):
                self._fill()
        return self._events.popitem(last=False)[0] if self._events else None

    def _check(self) -> None:
        if self._failure is not None:
            raise XenstoreUnreachableError(self._failure)

    def _lost(self, why: str) -> XenstoreUnreachableError:
        """Close for good and return what to raise; the first reason is the one that stays."""
        if self._failure is None:
            self._failure = why
            self._events.clear()
            self._inbox.clear()
            self._transport.close()
        return XenstoreUnreachableError(self._failure)

    def _silent(self) -> XenstoreUnreachableError:
        why = f"did not answer within {self._timeout:g} s; is it running?"
        return self._lost(f"{self._name} {why} {_HINT}")

    def _ended(self, error: OSError | None = None) -> XenstoreUnreachableError:
        usual = error is None or error.errno in (errno.EPIPE, errno.ECONNRESET)
        detail = "" if usual else f" ({error})"
        return self._lost(f"{self._name} closed the connection{detail}; was it restarted? {_HINT}")

    def _garbage(self, what: str) -> XenstoreUnreachableError:
        return self._lost(f"{self._name} sent what is no answer ({what}); is this its socket?")

    @contextmanager
    def _indivisible(self) -> Iterator[None]:
        """Give the connection up when anything, Ctrl-C too, leaves in the middle."""
        try:
            yield
        except BaseException:
            self._lost(f"a request to {self._name} was interrupted; open the connection again")
            raise

    def _ready(self, what: int, deadline: float) -> bool:
        """Wait until the transport is ready or the deadline has passed, whichever is first."""
        left = min(max(deadline - time.monotonic(), 0.0), NAP_S)
        poll = select.poll()
        poll.register(self._transport.fileno(), what)
        return bool(poll.poll(math.ceil(left * 1000)))

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._transport.send(view) :]
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._silent() from None
                self._ready(select.POLLOUT, deadline)
            except OSError as error:
                raise self._ended(error) from error

    def _receive(self, deadline: float) -> Reply:
        # The last look comes after the deadline: a process that was itself stopped for a while
        # must not blame xenstored for it.
        late = False
        while self._reply is None:
            if late:
                raise self._silent()
            late = time.monotonic() >= deadline
            if self._ready(select.POLLIN, deadline):
                self._fill()
        reply, self._reply, self._awaited = self._reply, None, None
        return reply

    def _fill(self) -> None:
        """Take what has arrived and sort it into the reply and the events."""
        with self._indivisible():
            try:
                data = self._transport.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._ended(error) from error
            if not data:
                raise self._ended()
            self._inbox += data
            while packet := self._unpack():
                self._sort(packet)

    def _unpack(self) -> Reply | None:
        """Cut the first packet off the inbox; None while it is incomplete."""
        if len(self._inbox) < HEADER.size:
            return None
        op, rq_id, tx_id, size = HEADER.unpack_from(self._inbox)
        if size > MAX_REPLY:
            raise self._garbage(f"a packet of {size} bytes")
        end = HEADER.size + size
        if len(self._inbox) < end:
            return None
        payload = bytes(self._inbox[HEADER.size : end])
        del self._inbox[:end]
        return Reply(op, rq_id, tx_id, payload)

    def _sort(self, packet: Reply) -> None:
        if packet.op == WATCH_EVENT:
            fields = packet.payload.split(b"\0")
            if len(fields) < 3:
                raise self._garbage("half a watch event")
            # One that is still queued is not queued again: who takes it later sees both changes.
            self._events[WatchEvent(from_wire(fields[0]), from_wire(fields[1]))] = None
        elif packet.rq_id != self._awaited or self._reply is not None:
            raise self._garbage(f"request {packet.rq_id} was not asked")
        else:
            self._reply = packet
