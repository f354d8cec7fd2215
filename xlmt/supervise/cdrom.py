# SPDX-License-Identifier: LGPL-2.1-or-later
"""CDs that guests eject: libxl has to be told, as xl does for its guests.

The guest says so in the node `eject` of the drive, in the frontend's directory. That is the
guest's, or that of the domain in which its device model runs (libxl_disk.c,
libxl_evenable_disk_eject).
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xlmt import paths
from xlmt.domains.managed import record_of
from xlmt.libxl import Context, eject_cd
from xlmt.model import Domain
from xlmt.text import guest
from xlmt.xenstore import Store, WatchEvent

_log = logging.getLogger("xlmt.supervise")

_WATCH = "eject "
_EJECTED = "eject"


@dataclass(frozen=True, slots=True)
class Eject:
    """The task of a worker: tell libxl that a drive is empty; `path` is the frontend's."""

    key: str
    domid: int
    path: str

    @property
    def what(self) -> str:
        return f"the ejected CD of domain {self.domid}"

    def carry_out(self, ctx: Context, store: Store) -> None:
        """Tell libxl, unless another process was faster. Raises LibxlError, XenstoreError."""
        if store.read(f"{self.path}/eject") != _EJECTED:
            return
        store.write(f"{self.path}/eject", "")  # before all else, as libxl does it
        backend = store.read(f"{self.path}/backend")
        vdev = store.read(f"{backend}/dev") if backend else None
        if not vdev:  # the drive is gone, not only empty
            return
        eject_cd(ctx, self.domid, vdev)
        who = guest(ctx.name_of(self.domid), self.domid)
        _log.info("%s has ejected the CD in %s", who, vdev, extra={"domid": self.domid})


class Drives:
    """Watches the CD drives of the managed guests, over one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watched: dict[Domain, str] = {}
        self._told: set[str] = set()

    def take(self, event: WatchEvent) -> None:
        """Take note of an event, if it is one of ours."""
        if event.token.startswith(_WATCH):
            self._told.add(event.token.removeprefix(_WATCH))

    def look(self, domains: Iterable[Domain]) -> None:
        """Watch the drives of who is new, and no more those of who is gone."""
        here = {d._replace(paused=False, shutdown=None) for d in domains if has_cds(d)}
        for domain in self._watched.keys() - here:
            folder = self._watched.pop(domain)
            self._store.unwatch(folder, _WATCH + folder)
        for domain in here - self._watched.keys():
            folder = self._watched[domain] = self._folder(domain.domid)
            self._store.watch(folder, _WATCH + folder)  # which tells at once, too

    def ejected(self) -> Iterator[Eject]:
        """Return a task for each drive that was ejected since the last call."""
        told, self._told = self._told, set()
        for domain, folder in self._watched.items():
            for drive in self._store.list(folder) or () if folder in told else ():
                if self._store.read(f"{folder}/{drive}/eject") == _EJECTED:
                    yield Eject(_key(domain), domain.domid, f"{folder}/{drive}")

    def _folder(self, domid: int) -> str:
        home = paths.domain(domid)
        stubdom = paths.parse_domid(self._store.read(f"{home}/image/device-model-domid") or "")
        return f"{paths.domain(stubdom) if stubdom else home}/device/vbd"


def _key(domain: Domain) -> str:
    record = record_of(domain)
    return record.life(domain.domid) if record else str(domain.domid)


def has_cds(found: Domain) -> bool:
    """Whether the domain is managed, and has a drive for CDs. Raises OSError."""
    record = record_of(found)
    return record is not None and any(d.get("is_cdrom") for d in record.config.get("disks") or ())
