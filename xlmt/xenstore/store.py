# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenstore for the rest of xlmt: str in, str out, and nothing waits past its deadline.

The only module that knows pyxs. Its client has the requests; what is ours is everything below
them (_xswire: one connection with deadlines, where pyxs has a thread that can wait for ever)
and the requests that it lacks. A call goes Store.read -> pyxs's Client.read ->
_Client.execute_command -> Wire.exchange and back; pyxs's errors end in `_asking`.

Paths, names, tokens and values are bytes on the wire. Here they are str, as UTF-8 with
`surrogateescape`: odd bytes become lone surrogates and survive the way back. Names that
xenstored returns are passed on as they are; using one in a path checks it.

Raises XenstoreError when xenstored (or our own check, with EINVAL) refuses a request, and
XenstoreUnreachableError when there is no answer. After the latter the Store is dead; so are its
watches and transactions. Open a new one.

A Store belongs to one thread and one process: do not use it on the other side of a fork.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, Self

import pyxs
from pyxs.helpers import check_path

from xlmt.errors import XenstoreError, XenstoreUnreachableError
from xlmt.xenstore.address import locate, socket_path
from xlmt.xenstore.wire import (
    ERROR,
    MAX_REQUEST,
    WatchEvent,
    Wire,
    connect,
    from_wire,
    to_wire,
)

__all__ = ["Store", "Transaction", "Tree", "WatchEvent", "socket_path"]

#: Operations by number (xen/include/public/io/xs_wire.h): pyxs has no name for 22.
_READ, _WATCH, _UNWATCH, _DIRECTORY_PART = 2, 4, 5, 22
_ERRNO = {name.encode(): number for number, name in errno.errorcode.items()}
#: pyxs takes "@releaseDomain" only; with a domid it exists since Xen 4.22.
_SPECIAL = re.compile(rb"@introduceDomain|@releaseDomain(/[0-9]+)?")
#: How often a directory may change while it is being read before we give up.
_RESTARTS = 100


class _Client(pyxs.Client):  # type: ignore[misc]  # pyxs has no types
    """pyxs's requests over our wire.

    Its own execute_command waits without a deadline, refuses empty values (PyPI's version) and
    all but 7-bit ones, strips NULs off values, and fails on an error that it cannot spell.
    """

    over = False  # set when the transaction has ended: tx_id 0 would mean "outside of any"

    def execute_command(self, op: int, *args: bytes) -> bytes:
        if self.over:
            raise pyxs.PyXSError(errno.EINVAL, "the transaction is over")
        payload = b"".join(args)
        if len(payload) > MAX_REQUEST:  # xenstored would drop the connection
            raise pyxs.PyXSError(errno.E2BIG, os.strerror(errno.E2BIG))
        reply = self.router.exchange(op, self.tx_id, payload)
        if reply.op == ERROR:
            raise _refusal(reply.payload.rstrip(b"\0"))
        answer: bytes = reply.payload
        return answer if op in (_READ, _DIRECTORY_PART) else answer.rstrip(b"\0")

    def list(self, path: bytes) -> Sequence[bytes]:
        try:
            names: Sequence[bytes] = super().list(path)
            return names
        except pyxs.PyXSError as error:
            if error.args[0] != errno.E2BIG:
                raise
        return self._list_in_parts(path)

    def _list_in_parts(self, path: bytes) -> Sequence[bytes]:
        """Read a directory piece by piece, from the start again when it changed in between."""
        for _ in range(_RESTARTS):
            whole = self._parts(path)
            if whole is not None:
                return whole.split(b"\0") if whole else []
        raise pyxs.PyXSError(errno.EAGAIN, f"it changed {_RESTARTS} times while being read")

    def _parts(self, path: bytes) -> bytes | None:
        """Return all names, separated by NULs, or None when the generation count changed.

        A part is the generation count, NUL, then names that each end with NUL; the last part
        ends with one more NUL.
        """
        names, generation = bytearray(), None
        while True:
            offset = b"%d\0" % len(names)
            part = self.execute_command(_DIRECTORY_PART, path + b"\0", offset)
            count, _, piece = part.partition(b"\0")
            if generation not in (None, count):
                return None
            generation = count
            if piece == b"\0" or piece.endswith(b"\0\0"):
                return bytes(names + piece[:-1]).rstrip(b"\0")
            if not piece.endswith(b"\0"):
                raise pyxs.PyXSError(errno.EPROTO, "a part of the directory was cut off")
            names += piece


class _Unopened:
    """The router of a Store that was never entered."""

    WHY = "there is no connection to xenstored yet: use the Store in a with statement"

    def exchange(self, *_request: object) -> NoReturn:
        raise XenstoreUnreachableError(self.WHY)


class Tree:
    """The operations on xenstore's tree, which a Store and a Transaction share."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, path: str) -> str | None:
        """Return the value, or None when there is no such node."""
        raw = self._find("read", path, self._client.read)
        return None if raw is None else from_wire(raw)

    def exists(self, path: str) -> bool:
        """Say whether the node exists."""
        return self.read(path) is not None

    def list(self, path: str) -> list[str] | None:
        """Return the names of the children, or None when there is no such node."""
        raw = self._find("list", path, self._client.list)
        return None if raw is None else [from_wire(name) for name in raw]

    def permissions(self, path: str) -> tuple[str, ...] | None:
        """Return entries such as "n0" (the first names the owner), or None without the node."""
        raw = self._find("read the permissions of", path, self._client.get_perms)
        return None if raw is None else tuple(from_wire(entry) for entry in raw)

    def write(self, path: str, value: str) -> None:
        """Set the value; make the node, and its parents, when it does not exist."""
        with _asking("write", path):
            self._client.write(_path(path), to_wire(value))

    def mkdir(self, path: str) -> None:
        """Make an empty node, and its parents; an existing one stays as it is."""
        with _asking("make", path):
            self._client.mkdir(_path(path))

    def remove(self, path: str) -> None:
        """Remove the node and all below it; no error when it does not exist."""
        self._find("remove", path, self._client.delete)

    def set_permissions(self, path: str, perms: Sequence[str]) -> None:
        """Replace the permissions; see `permissions`."""
        with _asking("set the permissions of", path):
            self._client.set_perms(_path(path), [_one_line(perm) for perm in perms])

    def _find(self, verb: str, path: str, call: Callable[[bytes], Any]) -> Any:
        try:
            with _asking(verb, path):
                return call(_path(path))
        except XenstoreError as error:
            if error.errno != errno.ENOENT:
                raise
            return None


class Transaction(Tree):
    """A Tree whose changes appear all at once, at `commit`, or never."""

    def commit(self) -> bool:
        """End the transaction; False when others were in its way (EAGAIN): do it all again."""
        try:
            with _asking("commit", "the transaction"):
                return bool(self._client.commit())
        finally:
            self._client.over = True

    def abort(self) -> None:
        """End the transaction, if it has not ended; silent also when the connection is gone."""
        with suppress(XenstoreError, XenstoreUnreachableError), _asking("abort", "it"):
            self._client.rollback()
        self._client.over = True


class Store(Tree):
    """A connection to xenstored, open inside `with`.

    `path` is the socket (None: see socket_path), `timeout` the seconds for connecting and for
    every request as a whole.
    """

    def __init__(self, path: str | None = None, *, timeout: float = 5.0) -> None:
        super().__init__(_Client(router=_Unopened()))
        self._path = path
        self._timeout = timeout
        self._wire: Wire | None = None

    def __enter__(self) -> Self:
        self.close()
        self._wire = self._open()
        self._client = _Client(router=self._wire)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; xenstored then drops its watches and transactions."""
        if self._wire is not None:
            self._wire.close()

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._wire.requests if self._wire else 0

    @property
    def pending(self) -> bool:
        """True while `next_event` has one at hand; select on `fileno` only when False."""
        return self._connected().pending

    def fileno(self) -> int:
        """Return the file descriptor, readable when xenstored has sent something."""
        return self._connected().fileno()

    def ping(self) -> None:
        """Return if xenstored answers, and raise as usual if not."""
        with _asking("ask for", "the path of domain 0"):
            self._client.get_domain_path(0)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Start a transaction that is aborted at the end of `with` unless it was committed."""
        client = _Client(router=self._connected())
        with _asking("start", "a transaction"):
            if not 0 < client.transaction() <= 0xFFFFFFFF:
                raise pyxs.PyXSError(errno.EPROTO, "its number is out of range")
        transaction = Transaction(client)
        try:
            yield transaction
        finally:
            transaction.abort()

    def watch(self, path: str, token: str) -> None:
        """Ask for events at and below `path`; the first one comes at once.

        Also takes @introduceDomain, @releaseDomain and @releaseDomain/<domid>.
        """
        with _asking("watch", path):
            self._client.ack(_WATCH, _watch_path(path) + b"\0", _one_line(token) + b"\0")

    def unwatch(self, path: str, token: str) -> None:
        """Take a watch back; events of it that are queued already still come."""
        with _asking("unwatch", path):
            self._client.ack(_UNWATCH, _watch_path(path) + b"\0", _one_line(token) + b"\0")

    def next_event(self, timeout: float) -> WatchEvent | None:
        """Return the oldest event, waiting up to `timeout` seconds; None when none came.

        Of equal events one is kept until it is taken, so read the tree after taking it.
        """
        return self._connected().next_event(timeout)

    def _connected(self) -> Wire:
        if self._wire is None:
            raise XenstoreUnreachableError(_Unopened.WHY)
        return self._wire

    def _open(self) -> Wire:
        place = locate(self._path)
        return Wire(connect(place, self._timeout), place, self._timeout)


@contextmanager
def _asking(verb: str, what: str) -> Iterator[None]:
    """Turn pyxs's errors into ours, with what was being asked for."""
    try:
        yield
    except (pyxs.PyXSError, ValueError) as error:
        number, reason = _reason(error)
        what = what if what.isprintable() else ascii(what)
        raise XenstoreError(f"cannot {verb} {what}: {reason}", number) from error


def _reason(error: Exception) -> tuple[int, str]:
    """Return the errno and the words of an error of pyxs."""
    match error.args:
        case (int(number), str(text)):
            name = errno.errorcode.get(number)
            return number, f"{text} ({name})" if name else text
    match error:
        case pyxs.InvalidPath():
            return errno.EINVAL, "this is not a xenstore path (EINVAL)"
        case pyxs.exceptions.InvalidPermission() | UnicodeError():
            return errno.EINVAL, f"{error} cannot be sent (EINVAL)"
        case _:
            return errno.EPROTO, f"xenstored's answer makes no sense: {error} (EPROTO)"


def _refusal(name: bytes) -> pyxs.PyXSError:
    number = _ERRNO.get(name, 0)
    return pyxs.PyXSError(number, os.strerror(number) if number else f"xenstored says {name!r}")


def _one_line(text: str) -> bytes:
    """Refuse what would end the field early, or slip past pyxs's `$`, which allows a newline."""
    raw = to_wire(text)
    if b"\0" in raw or b"\n" in raw:
        raise pyxs.PyXSError(errno.EINVAL, f"{text!a} has a NUL or a newline in it")
    return raw


def _path(path: str) -> bytes:
    raw: bytes = check_path(_one_line(path))
    return raw


def _watch_path(path: str) -> bytes:
    raw = _path(path)
    if raw.startswith(b"@") and not _SPECIAL.fullmatch(raw):
        raise pyxs.InvalidPath(raw)
    return raw
