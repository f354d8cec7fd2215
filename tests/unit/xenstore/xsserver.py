# SPDX-License-Identifier: LGPL-2.1-or-later
"""A xenstored that does what a test's script says, on a real Unix socket.

Each server is a script: what it reads, answers and leaves out, in order.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

HEADER = struct.Struct("=IIII")
DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, START, END = range(1, 8)
GET_DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS, EVENT, ERROR = range(10, 17)
DIRECTORY_PART = 22
#: Seconds.
SOON = 0.3  # the client's timeout where the server will not answer
LONG = 30.0  # where it will, however slow the machine is


class Request(NamedTuple):
    op: int
    rq_id: int
    tx_id: int
    payload: bytes


class GoneError(Exception):
    """The client closed the connection."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, conn: socket.socket) -> None:
        self.conn = conn
        self.seen: list[Request] = []

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.conn.recv(size - len(data))
            if not piece:
                raise GoneError
            data += piece
        return data

    def request(self) -> Request:
        op, rq_id, tx_id, size = HEADER.unpack(self._exactly(HEADER.size))
        self.seen.append(Request(op, rq_id, tx_id, self._exactly(size)))
        return self.seen[-1]

    def send(self, data: bytes) -> None:
        self.conn.sendall(data)

    def packet(self, op: int, rq_id: int, tx_id: int, payload: bytes) -> None:
        self.send(HEADER.pack(op, rq_id, tx_id, len(payload)) + payload)

    def answer(self, payload: bytes, op: int | None = None) -> Request:
        """Take a request and answer it."""
        asked = self.request()
        self.packet(asked.op if op is None else op, asked.rq_id, asked.tx_id, payload)
        return asked

    def refuse(self, name: bytes) -> Request:
        return self.answer(name + b"\0", ERROR)

    def event(self, path: bytes, token: bytes) -> None:
        self.packet(EVENT, 0, 0, path + b"\0" + token + b"\0")

    def until_closed(self) -> None:
        """Say nothing more, and record what still comes."""
        while True:
            self.request()


Script = Callable[[Peer], object]


class Server:
    """Serves every connection with the script, one at a time."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path = str(path)
        self.script = script
        self.peers: list[Peer] = []
        self.failures: list[BaseException] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def seen(self) -> list[Request]:
        """Return all requests so far; complete once the connections are closed."""
        return [request for peer in self.peers for request in peer.seen]

    def _run(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.peers.append(Peer(conn))
            try:
                with conn, suppress(GoneError, BrokenPipeError, ConnectionResetError):
                    self.script(self.peers[-1])
            except BaseException as failure:
                self.failures.append(failure)

    def stop(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(LONG)
        assert not self.thread.is_alive()
        assert not self.failures


Serve = Callable[[Script], Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(script: Script) -> Server:
        servers.append(Server(tmp_path / f"socket{len(servers)}", script))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def then_silent(*steps: Script) -> Script:
    """Do the steps, then answer nothing until the client goes."""

    def script(peer: Peer) -> None:
        for step in steps:
            step(peer)
        peer.until_closed()

    return script


def answers(*payloads: bytes) -> Script:
    """Answer that many requests, each with the payload."""
    return then_silent(*(lambda peer, p=p: peer.answer(p) for p in payloads))


def refuses(name: bytes) -> Script:
    return then_silent(lambda peer: peer.refuse(name))


def silent(peer: Peer) -> None:
    """Answer nothing."""
    peer.until_closed()
