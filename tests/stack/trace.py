# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a xenstored saw, from its own log, in the order in which it worked.

The C daemon (`-T FILE`) writes a line per message in and out and no transaction id, so requests
belong to the transaction that is open on their connection: a request that libxl makes outside
of its open transaction (only reads) counts as inside. oxenstored's access log has the ids.
Values in oxenstored's log are OCaml-escaped, and stay so here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from tests.stack.wire import MARK

MODIFYING = frozenset({"WRITE", "MKDIR", "RM", "SET_PERMS"})


@dataclass(frozen=True)
class Request:
    """One request: `tx` is None outside any transaction, else numbered per connection."""

    conn: str
    op: str  # the wire name: RM, WRITE, SET_PERMS, TRANSACTION_END …
    path: str
    args: tuple[str, ...]
    tx: int | None
    error: str | None  # EAGAIN, ENOENT …

    def of_start(self, number: int) -> Request:
        """The same, with the connection named apart from those of the daemon's other starts."""
        return replace(self, conn=f"{number}/{self.conn}")


def writes(requests: Iterable[Request]) -> list[Request]:
    """Only the requests that change the store."""
    return [r for r in requests if r.op in MODIFYING]


def creation(requests: Sequence[Request], domid: int) -> list[Request]:
    """The committed transaction that made /local/domain/<domid>, without START and END.

    The last one, where the domid was used again. Raises LookupError when there is none.
    """
    home = f"/local/domain/{domid}"
    bodies: dict[tuple[str, int | None], list[Request]] = defaultdict(list)
    for r in requests:
        bodies[r.conn, r.tx].append(r)
    for end in reversed(requests):
        if end.op != "TRANSACTION_END" or end.error or end.args == ("F",):
            continue
        body = [r for r in bodies[end.conn, end.tx] if not r.op.startswith("TRANSACTION_")]
        if any(r.op in {"WRITE", "MKDIR"} and r.path == home and not r.error for r in body):
            return body
    raise LookupError(f"no committed transaction made {home}")


@dataclass
class _Log:
    """Requests in order, still to be completed by what the log says later."""

    requests: list[Request] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)

    def add(self, request: Request) -> int:
        self.requests.append(request)
        if request.path == MARK:
            self.marked.add(request.conn)
        return len(self.requests) - 1

    def amend(self, index: int, **changes: object) -> None:
        self.requests[index] = replace(self.requests[index], **changes)  # type: ignore[arg-type]

    def result(self) -> list[Request]:
        return [r for r in self.requests if r.conn not in self.marked]


def _words(op: str, data: str) -> tuple[str, tuple[str, ...]]:
    """Path and arguments: NULs were logged as spaces, and only a WRITE's value has its own."""
    if op.startswith("TRANSACTION_"):
        return "", tuple(data.split())
    if op == "WRITE":
        path, _, value = data.partition(" ")
        return path, (value,)
    path, *args = data.split() or [""]
    return path, tuple(args)


# Since 4.18 a line says first what it is about, since 4.19 whose connection it is, and an answer
# that does not go out at once has a line for its start and one for its end.
_C_LINE = re.compile(
    r"^(?:(?:io: )?(?P<dir>IN|OUT)(?:\(END\))? (?P<conn>0x[0-9a-f]+) (?:\(d\d+\) )?"
    r"\d{8} [\d:]{8} (?P<op>[A-Z_]+) \((?P<data>.*)\)"
    r"|(?:obj: )?(?P<event>CREATE|DESTROY) connection (?P<peer>0x[0-9a-f]+))$",
    re.MULTILINE | re.DOTALL,
)
_C_START = re.compile(
    r"^(?=(?:io: )?(?:IN|OUT)(?:\(\w+\))? |(?:obj: )?(?:CREATE|DESTROY) "
    r"|wrl: |acc: |trans: |tdb: |TDB: |watch event path |\*\*\*)",
    re.MULTILINE,
)


class _CParser:
    def __init__(self) -> None:
        self.log = _Log()
        self.uses: dict[str, int] = defaultdict(int)  # addresses are used again
        self.pending: dict[str, list[int]] = defaultdict(list)
        self.open: dict[str, int] = {}  # connection -> transaction
        self.last: dict[str, int] = defaultdict(int)  # connection -> number given last

    def line(self, text: str) -> None:
        m = _C_LINE.match(text.rstrip("\n"))
        if not m:
            return
        if m["event"] == "CREATE":
            self.uses[m["peer"]] += 1
        elif m["dir"]:
            conn = f"{m['conn']}#{self.uses[m['conn']]}"
            (self.came if m["dir"] == "IN" else self.went)(conn, m["op"], m["data"])

    def came(self, conn: str, op: str, data: str) -> None:
        path, args = _words(op, data)
        tx = self.open.get(conn)
        if op == "TRANSACTION_START":
            tx = self.open[conn] = self.last[conn] = self.last[conn] + 1
        elif op == "TRANSACTION_END":
            self.open.pop(conn, None)
        self.pending[conn].append(self.log.add(Request(conn, op, path, args, tx, None)))

    def went(self, conn: str, op: str, data: str) -> None:
        if op == "WATCH_EVENT" or not self.pending[conn]:
            return
        index = self.pending[conn].pop(0)
        if op != "ERROR":
            return
        self.log.amend(index, error=data.strip())
        if self.log.requests[index].op == "TRANSACTION_START":
            self.open.pop(conn, None)


def parse_c(text: str) -> list[Request]:
    """The log of `xenstored -T`."""
    parser = _CParser()
    for line in _C_START.split(text):  # values may hold newlines
        parser.line(line)
    return parser.log.result()


_OCAML_LINE = re.compile(
    r"^\[\S+\] +(?P<conn>A\d+)(?:\.(?P<tx>\d+))? +(?P<what>[a-z ]{9,}?)(?: (?P<data>.*))?$"
)
_OCAML_OPS = {
    "debug": "CONTROL",
    "directory": "DIRECTORY",
    "read": "READ",
    "getperms": "GET_PERMS",
    "watch": "WATCH",
    "unwatch": "UNWATCH",
    "t start": "TRANSACTION_START",
    "t end": "TRANSACTION_END",
    "introduce": "INTRODUCE",
    "release": "RELEASE",
    "getdomain": "GET_DOMAIN_PATH",
    "is introduced": "IS_DOMAIN_INTRODUCED",
    "resume": "RESUME",
    "write": "WRITE",
    "mkdir": "MKDIR",
    "rm": "RM",
    "setperms": "SET_PERMS",
    "reset watches": "RESET_WATCHES",
    "settarget": "SET_TARGET",
    "invalid": "INVALID",
}


class _OcamlParser:
    """Lines of a replay (`r(1):A5.4`) do not match, and are the daemon's own doing.

    After a conflict the daemon opens a transaction on the client's connection, replays into it
    and ends it: that start and that end are not the client's either.
    """

    def __init__(self) -> None:
        self.log = _Log()
        self.latest: dict[tuple[str, int | None], int] = {}
        self.conflicted: set[str] = set()
        self.replays: set[tuple[str, int | None]] = set()

    def line(self, text: str) -> None:
        m = _OCAML_LINE.match(text)
        if not m:
            return
        conn, tx = m["conn"], int(m["tx"]) if m["tx"] else None
        what, data = self._kind(m["what"], m["data"] or "")
        if what == "error":
            self._answer(conn, tx, error=data.strip())
        elif what in {"commit", "conflict", "coalesce"}:
            self._answer(conn, tx, args=("T",))
            if what == "conflict":
                self.conflicted.add(conn)
        elif what in _OCAML_OPS:
            self._request(conn, tx, _OCAML_OPS[what], data)

    @staticmethod
    def _kind(what: str, data: str) -> tuple[str, str]:
        # Names are padded to nine places, but two of them are longer.
        for long in ("reset watches", "is introduced"):
            if f"{what} {data}".startswith(long):
                return long, f"{what} {data}".removeprefix(long).strip()
        return what.strip(), data

    def _answer(self, conn: str, tx: int | None, **changes: object) -> None:
        index = self.latest.get((conn, tx))
        if index is not None:
            self.log.amend(index, **changes)

    def _request(self, conn: str, tx: int | None, op: str, data: str) -> None:
        if op == "TRANSACTION_START" and conn in self.conflicted:
            self.conflicted.discard(conn)
            self.replays.add((conn, tx))
            return
        if (conn, tx) in self.replays:
            self.replays.discard((conn, tx))
            return
        path, args = _words(op, data.rstrip(" ") if op != "WRITE" else data)
        if op == "TRANSACTION_END":
            args = ("F",)  # until a commit or a conflict says otherwise
        self.latest[conn, tx] = self.log.add(Request(conn, op, path, args, tx, None))


def parse_ocaml(text: str) -> list[Request]:
    """oxenstored's access log, with read, transaction and special operations switched on.

    A TRANSACTION_END is ("F",) when it aborted, and also when nothing had been written.
    """
    parser = _OcamlParser()
    for line in text.splitlines():
        parser.line(line)
    return parser.log.result()


PARSERS: dict[str, Callable[[str], list[Request]]] = {"c": parse_c, "ocaml": parse_ocaml}
