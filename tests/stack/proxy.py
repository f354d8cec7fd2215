# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Unix socket between a client and xenstored that can go wrong on demand.

One trip: `_accept` connects upstream and starts two pumps. `_requests` reads whole packets of
the client, counts them, asks the first rule that matches, and forwards; `_replies` carries
answers and watch events back. A rule fires once, at a number (from 1, over all connections) or
at a packet for which a function says so.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Self

from tests.stack.wire import HEADER, Op

SILENCE = 600.0  # seconds: no pump outlives this without traffic


@dataclass(frozen=True)
class Packet:
    """A message as it was on the wire."""

    kind: int
    req_id: int
    tx: int
    body: bytes

    @property
    def op(self) -> str:
        return Op(self.kind).name if self.kind in set(Op) else str(self.kind)

    @property
    def path(self) -> str:
        return self.body.split(b"\0")[0].decode(errors="replace")

    def pack(self) -> bytes:
        return HEADER.pack(self.kind, self.req_id, self.tx, len(self.body)) + self.body


class _Do(Enum):
    FORWARD = auto()
    CALL = auto()
    KILL_BEFORE = auto()
    KILL_AFTER = auto()
    MUTE = auto()
    HALF_REPLY = auto()
    DROP = auto()
    REFUSE = auto()


When = int | Callable[[Packet], bool]


@dataclass
class _Rule:
    when: When
    do: _Do
    callback: Callable[[], object] | None = None
    error: str = ""


@dataclass
class _Link:
    """One client and its connection upstream."""

    client: socket.socket
    upstream: socket.socket
    muted: bool = False
    # What to do with the reply to a request, by the request's id.
    verdicts: dict[int, _Rule] = field(default_factory=dict)
    aborted: set[int] = field(default_factory=set)

    pumps: int = 2
    lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """End both pumps. The sockets stay open: a pump could wait on the next one's number."""
        for sock in (self.client, self.upstream):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """A pump has ended; the last one closes the sockets."""
        self.close()
        with self.lock:
            self.pumps -= 1
        if not self.pumps:
            self.client.close()
            self.upstream.close()


def _receive(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        chunk = sock.recv(n - len(data))
        if not chunk:
            raise ConnectionResetError("closed")
        data += chunk
    return data


def _packet(sock: socket.socket) -> Packet:
    kind, req_id, tx, length = HEADER.unpack(_receive(sock, HEADER.size))
    return Packet(kind, req_id, tx, _receive(sock, length))


class Proxy:
    """A context manager; `env` sends a client here. Rules may be added at any time."""

    def __init__(self, upstream: Path, listen: Path, env: Mapping[str, str] | None = None) -> None:
        self.env = dict(env or {"XENSTORED_PATH": str(listen)})
        self.seen: list[Packet] = []
        self.aborts = 0  # how many commits were answered with EAGAIN
        # Set when a rule fires, before its client can see anything of it: tests ask once the
        # client has ended. What the rule calls may still be running; __exit__ waits for it.
        self.fired = threading.Event()
        self._upstream = upstream
        self._listen = listen
        self._rules: list[_Rule] = []
        self._eagain = 0
        self._links: list[_Link] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._server.bind(str(self._listen))
        self._server.listen(64)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._threads[0].join(10)  # accept: no new links after this
        for link in self._links:
            link.close()
        for thread in self._threads[1:]:
            thread.join(10)
        self._listen.unlink(missing_ok=True)

    @property
    def socket(self) -> Path:
        """Where it listens, for clients outside of the stack."""
        return self._listen

    @property
    def count(self) -> int:
        """Requests seen so far."""
        return len(self.seen)

    def eagain(self, n: int) -> None:
        """Abort the next n commits upstream, and tell the client EAGAIN."""
        with self._lock:
            self._eagain = n

    def call_at(self, when: When, callback: Callable[[], object]) -> None:
        """Call back before the request is forwarded; meanwhile its client waits."""
        self._rules.append(_Rule(when, _Do.CALL, callback))

    def kill_at(self, when: When, callback: Callable[[], object], *, after: bool = False) -> None:
        """Call back before the request is forwarded, or once xenstored has answered it.

        Afterwards nothing more passes on that connection, either way.
        """
        self._rules.append(_Rule(when, _Do.KILL_AFTER if after else _Do.KILL_BEFORE, callback))

    def mute_at(self, when: When) -> None:
        """Accept this request and all later ones on its connection, and never answer."""
        self._rules.append(_Rule(when, _Do.MUTE))

    def half_reply_at(self, when: When) -> None:
        """Carry out the request, send half of its reply, then nothing more."""
        self._rules.append(_Rule(when, _Do.HALF_REPLY))

    def drop_at(self, when: When) -> None:
        """Close the connection in place of forwarding the request."""
        self._rules.append(_Rule(when, _Do.DROP))

    def refuse(self, when: Callable[[Packet], bool], error: str) -> None:
        """Answer such requests with this error, every time, and do not forward them."""
        self._rules.append(_Rule(when, _Do.REFUSE, error=error))

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True, name="proxy")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # the server socket was closed
            while True:
                client, _ = self._server.accept()
                upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                link = _Link(client, upstream)
                try:
                    upstream.connect(str(self._upstream))
                except OSError:
                    client.close()  # no daemon: the client sees the same
                    upstream.close()
                    continue
                client.settimeout(SILENCE)
                upstream.settimeout(SILENCE)
                self._links.append(link)
                self._start(self._requests, link)
                self._start(self._replies, link)

    def _requests(self, link: _Link) -> None:
        with suppress(OSError):
            while True:
                packet = _packet(link.client)
                with self._lock:
                    self.seen.append(packet)
                    rule = self._match(packet)
                if not self._forward(link, packet, rule):
                    break
        link.leave()

    def _match(self, packet: Packet) -> _Rule | None:
        for rule in self._rules:
            if rule.when(packet) if callable(rule.when) else rule.when == len(self.seen):
                if rule.do is not _Do.REFUSE:
                    self._rules.remove(rule)
                return rule
        return None

    def _forward(self, link: _Link, packet: Packet, rule: _Rule | None) -> bool:
        """False: this connection is over."""
        do = rule.do if rule else _Do.FORWARD
        if rule and do not in {_Do.KILL_AFTER, _Do.HALF_REPLY}:
            self.fired.set()
        if rule and do in {_Do.KILL_BEFORE, _Do.CALL} and rule.callback:
            link.muted = do is _Do.KILL_BEFORE
            rule.callback()
        elif rule and do in {_Do.KILL_AFTER, _Do.HALF_REPLY}:
            link.verdicts[packet.req_id] = rule
        elif do is _Do.MUTE:
            link.muted = True
        if do is _Do.DROP:
            return False
        if rule and do is _Do.REFUSE:
            refusal = Packet(Op.ERROR, packet.req_id, packet.tx, rule.error.encode() + b"\0")
            link.client.sendall(refusal.pack())
            return True
        if not link.muted:
            link.upstream.sendall(self._perhaps_abort(link, packet).pack())
        return True

    def _perhaps_abort(self, link: _Link, packet: Packet) -> Packet:
        commit = packet.kind == Op.TRANSACTION_END and packet.body.startswith(b"T")
        with self._lock:
            if not commit or not self._eagain:
                return packet
            self._eagain -= 1
            self.aborts += 1
        link.aborted.add(packet.req_id)
        return Packet(packet.kind, packet.req_id, packet.tx, b"F\0")

    def _replies(self, link: _Link) -> None:
        with suppress(OSError):
            while True:
                packet = _packet(link.upstream)
                if link.muted:
                    continue
                rule = None
                if packet.kind != Op.WATCH_EVENT:
                    rule = link.verdicts.pop(packet.req_id, None)
                    packet = self._perhaps_eagain(link, packet)
                self._answer(link, packet, rule)
        link.leave()

    @staticmethod
    def _perhaps_eagain(link: _Link, packet: Packet) -> Packet:
        if packet.req_id not in link.aborted:
            return packet
        link.aborted.discard(packet.req_id)
        return Packet(Op.ERROR, packet.req_id, packet.tx, b"EAGAIN\0")

    def _answer(self, link: _Link, packet: Packet, rule: _Rule | None) -> None:
        data = packet.pack()
        if not rule:
            link.client.sendall(data)
            return
        link.muted = True
        self.fired.set()
        if rule.do is _Do.HALF_REPLY:
            link.client.sendall(data[: len(data) // 2])
        elif rule.callback:
            rule.callback()
