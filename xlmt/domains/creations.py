# SPDX-License-Identifier: LGPL-2.1-or-later
"""Creations that are under way, below /run/xlmt: a name is given once, and nothing half-made stays.

libxl looks whether a name is free and then makes the domain; in between another creation may do
the same. So whoever creates holds a lock on a file that stands for the name. Before it begins, it
writes into that file what it is about to make. It empties the file when the domain is whole, or
gone again; if it is killed before that, the lock is free and the file tells what to look for.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from xlmt import files, locks, paths
from xlmt.domains import shape
from xlmt.errors import TimedOutError
from xlmt.model import Domain
from xlmt.text import dumped, printable

_FOLDER = Path(paths.RUN) / "creations"
_FILE = re.compile(r"[0-9a-f]{32}")

_log = logging.getLogger("xlmt")


@dataclass(frozen=True, slots=True)
class Begun:
    """What is about to be made: by which process, and which domids had that uuid `before`.

    `domid` is known once libxl has got it from the hypervisor; a stub domain comes after it.
    """

    name: str
    uuid: str
    pid: int
    before: tuple[int, ...] = ()
    domid: int | None = None

    def dump(self) -> bytes:
        fields = ("name", "uuid", "pid", "before")
        return dumped({field: getattr(self, field) for field in fields}) + b"\n"

    @classmethod
    def load(cls, data: bytes) -> "Begun":
        """Return what was written down. Raises ValueError when it makes no sense."""
        first, _, rest = data.partition(b"\n")
        domids = rest.split()
        values = shape.values_of(first)
        try:
            return cls(
                str(values["name"]),
                str(values["uuid"]),
                shape.count(values["pid"]),
                tuple(shape.count(domid) for domid in values["before"]),
                paths.parse_domid(domids[0].decode("ascii")) if domids else None,
            )
        except (KeyError, TypeError) as e:
            raise ValueError(f"this is no creation of xlmt: {e}") from None


class Claim:
    """The right to create a domain of one name; `left` is what a killed creation was about."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self.left = _read(fd) if fd is not None else None
        self._begun: Begun | None = None
        self._noted: set[int] = set()

    def write_down(self, begun: Begun) -> None:
        """Say what is to be made, before it is."""
        self.done()
        self._begun = begun
        self._append(begun.dump())

    def note(self, domid: int) -> None:
        """Say which domid libxl has got for it."""
        self._noted.add(domid)
        self._append(b"%d\n" % domid)

    def may_have_made(self, found: Domain) -> bool:
        """Whether the domain is of this creation, as far as can be told."""
        if found.domid in self._noted:
            return True
        begun = self._begun
        return begun is not None and found.uuid == begun.uuid and found.domid not in begun.before

    def done(self) -> None:
        """Nothing is half-made (any more)."""
        self.left = None
        if self._fd is not None:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)

    def _append(self, data: bytes) -> None:
        if self._fd is None:
            return
        try:
            os.lseek(self._fd, 0, os.SEEK_END)
            os.write(self._fd, data)
        except OSError as e:
            _log.warning("cannot write the creation down: %s; if it is killed, see: xlmt list", e)


def _read(fd: int) -> Begun | None:
    data = os.pread(fd, 1 << 20, 0)
    with suppress(ValueError):
        return Begun.load(data) if data else None
    return None


@contextmanager
def claim(name: str) -> Iterator[Claim]:
    """Hold the name for the block. Raises TimedOutError when another process creates it just now.

    Where the file cannot be had the creation goes on without, and says so.
    """
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    with ExitStack() as held:
        try:
            for folder in (Path(paths.RUN), _FOLDER):
                folder.mkdir(mode=0o700, exist_ok=True)
            ours, holder = held.enter_context(claim_file(key))
        except OSError as e:
            _log.warning("cannot write the creation down: %s", e)
            ours, holder = Claim(), None
        if ours is None:
            who = f"process {holder}" if holder else "another process"
            raise TimedOutError(f"the name {printable(name)} is taken: {who} is creating it")
        yield ours


@contextmanager
def claim_file(key: str) -> Iterator[tuple[Claim | None, int | None]]:
    """Yield the claim of a file, or None and who holds it. Raises OSError."""
    file = _FOLDER / key
    fd, holder = _locked(file)
    try:
        yield (None, holder) if fd is None else (Claim(fd), None)
    finally:
        if fd is not None:
            with suppress(OSError):
                if not os.fstat(fd).st_size:
                    file.unlink()
            os.close(fd)


def _locked(file: Path) -> tuple[int | None, int | None]:
    """Return a descriptor of the file, with its lock; or None, and who has that."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        fd = os.open(file, flags, 0o600)
        if not locks.acquire(fd):
            holder = locks.holder(fd)
            os.close(fd)
            return None, holder
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), file.stat()):
                return fd, None
        os.close(fd)  # it was removed by who had the lock before


def left_over() -> dict[str, Begun]:
    """Return the creations that were killed, by the keys of their files. Raises nothing."""
    found = {}
    with suppress(OSError):
        for key in filter(_FILE.fullmatch, os.listdir(_FOLDER)):  # noqa: PTH208
            with suppress(OSError, ValueError):
                if (data := files.read_plain(_FOLDER / key)) and not _is_held(_FOLDER / key):
                    found[key] = Begun.load(data)
    return found


def _is_held(file: Path) -> bool:
    fd = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return locks.holder(fd) is not None
    finally:
        os.close(fd)
