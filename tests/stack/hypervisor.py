# SPDX-License-Identifier: LGPL-2.1-or-later
"""The test's hand on the fake hypervisor: its library, its domains, its faults."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.stack.daemon import xen_release

SOURCES = Path(__file__).parent / "fakehv"
CACHE = Path(__file__).parents[2] / ".cache" / "fakehv"
CFLAGS = ("-std=gnu2x", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")

DYING, HVM, SHUTDOWN, PAUSED, BLOCKED, RUNNING = 1, 2, 4, 8, 16, 32  # XEN_DOMINF_*
XS_DOMAIN = 128  # XEN_DOMINF_xs_domain
REASON_SHIFT, REASON_MASK = 16, 0xFF
REASONS = {"poweroff": 0, "reboot": 1, "suspend": 2, "crash": 3, "watchdog": 4, "soft_reset": 5}


def build(cc: str = "gcc") -> Path:
    """The preload library, compiled when its sources changed; raises CalledProcessError."""
    sources = sorted(SOURCES.glob("*.c"))
    major, _, minor = (xen_release() or "0.0").partition(".")
    flags = [*CFLAGS, f"-DXEN_MAJOR={major}", f"-DXEN_MINOR={minor}"]
    digest = hashlib.sha256("\0".join((cc, *flags)).encode())
    for source in (*sources, *sorted(SOURCES.glob("*.h"))):
        digest.update(source.read_bytes())
    target = CACHE / f"fakehv-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        temp = target.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [cc, *flags, "-Wl,-z,defs", "-o", temp, *sources, "-ldl"], check=True, timeout=120
        )
        temp.rename(target)
    return target


@dataclass(frozen=True)
class DomainFile:
    """A domain as the hypervisor has it."""

    domid: int
    flags: int = RUNNING
    ssid: int = 0
    vcpus: int = 1
    handle: str = "0" * 32

    @property
    def dying(self) -> bool:
        return bool(self.flags & DYING)

    @property
    def paused(self) -> bool:
        return bool(self.flags & PAUSED)

    @property
    def reason(self) -> str | None:
        """Why it shut itself down, if it did."""
        if not self.flags & SHUTDOWN:
            return None
        code = self.flags >> REASON_SHIFT & REASON_MASK
        return next((name for name, number in REASONS.items() if number == code), str(code))

    @classmethod
    def parse(cls, domid: int, text: str) -> DomainFile:
        values = dict(word.split("=", 1) for word in text.split())
        return cls(
            domid,
            int(values["flags"], 16),
            int(values["ssid"]),
            int(values["vcpus"]),
            values["handle"],
        )

    def format(self) -> str:
        return f"flags={self.flags:#x} ssid={self.ssid} vcpus={self.vcpus} handle={self.handle}\n"


class Hypervisor:
    """The folder that is the hypervisor's state. Raises FileNotFoundError for an unknown domid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def domains(self) -> dict[int, DomainFile]:
        found = {}
        for name in os.listdir(self.folder / "doms"):  # noqa: PTH208 - the names are enough
            if name.isdigit():
                with suppress(FileNotFoundError):
                    found[int(name)] = self.domain(int(name))
        return dict(sorted(found.items()))

    def domain(self, domid: int) -> DomainFile:
        return DomainFile.parse(domid, self._file(domid).read_text())

    def add(self, domid: int, flags: int = RUNNING, handle: str | None = None) -> None:
        """A living domain; one that is there already stays as it is."""
        with self._locked():
            if not self._file(domid).exists():
                self._store(DomainFile(domid, flags, handle=handle or uuid.uuid4().hex))

    def change(self, domid: int, *, add: int = 0, clear: int = 0) -> None:
        """Set and clear XEN_DOMINF_* bits; tells nobody."""
        with self._locked():
            domain = self.domain(domid)
            self._store(replace(domain, flags=domain.flags & ~clear | add))

    def shut_down(self, domid: int, reason: str) -> None:
        """The domain stops by itself; a toolstack has still to destroy it."""
        bits = SHUTDOWN | REASONS[reason] << REASON_SHIFT
        self.change(domid, add=bits, clear=RUNNING | BLOCKED)
        self.poke()

    def remove(self, domid: int) -> None:
        """The domain is gone, whatever anybody else thinks."""
        with self._locked():
            self._file(domid).unlink()
        self.poke()

    def bury(self, domid: int) -> None:
        """A zombie is gone; a domain that lives, maybe since a moment ago, stays."""
        with self._locked():
            if self.domain(domid).dying:
                self._file(domid).unlink()
        self.poke()

    def poke(self) -> None:
        """Raise VIRQ_DOM_EXC: the daemon looks at its domains again."""
        with suppress(OSError):  # no daemon: nobody to tell
            fd = os.open(self.folder / "virq", os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"x")
            os.close(fd)

    def set_rover(self, domid: int) -> None:
        """The domid that was given out last."""
        (self.folder / "rover").write_text(f"{domid}\n")

    @contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """A fault, for as long as the block runs; for the toolstack, never for the daemon.

        zombie, zombie-<domid>: a destroyed domain stays, dying.   relinquish: destroying takes
        as long as the fault lasts (60 s at most), and the domain is listed as alive meanwhile.
        builder: creation fails while the image is loaded; with memory, too: for want of it.
        create: no domain can be made.
        list, info: asking for all domains, or for one, fails.
        """
        self.set_fault(name)
        try:
            yield
        finally:
            self.set_fault(name, on=False)

    def set_fault(self, name: str, *, on: bool = True) -> None:
        switch = self.folder / "faults" / name
        if on:
            switch.touch()
        else:
            switch.unlink(missing_ok=True)

    def _file(self, domid: int) -> Path:
        return self.folder / "doms" / str(domid)

    def _store(self, domain: DomainFile) -> None:
        temp = self.folder / "doms" / ".new"  # the lock is ours: one name is enough
        temp.write_text(domain.format())
        temp.rename(self._file(domain.domid))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("a") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield
