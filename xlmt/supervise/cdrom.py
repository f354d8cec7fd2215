# SPDX-License-Identifier: LGPL-2.1-or-later
"""CDs that guests eject: libxl has to be told, as xl does for its guests.

The guest says so in the node `eject` of the drive, in the frontend's directory. That is the
guest's, or that of the domain in which its device model runs (libxl_disk.c,
libxl_evenable_disk_eject). It is the only node here that a guest may write, and only whether it
says "eject" is asked. Which drives there are, and what they are called, is read below /libxl,
which is domain 0's: the frontend's own link to its backend is the guest's.

A guest may write as often as it likes. So a drive is watched until it tells something, looked at,
and then not watched for a while, which grows.
"""

import logging
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from xlmt import paths
from xlmt.domains.managed import Record
from xlmt.libxl import Context, eject_cd
from xlmt.model import Domain
from xlmt.text import guest
from xlmt.timing import Pause
from xlmt.xenstore import Store, WatchEvent

_log = logging.getLogger("xlmt.supervise")

_WATCH = "eject "
_EJECTED = "eject"
#: For so long a drive that has told something is not watched; and from when on that is said.
_QUIET_S = (1.0, 600.0)
_SAID_S = 60.0
#: xen-vbd-interface(7): hdc, sda1, xvda, d0p1. And no more than a guest can have.
_VDEV = re.compile(r"[a-z0-9]{1,16}")
_DEVID = re.compile(r"[0-9]{1,10}")
_MOST = 64


@dataclass(frozen=True, slots=True)
class Eject:
    """The task of a worker: tell libxl that a drive is empty; `node` is where the guest says so."""

    key: str
    domid: int
    devid: str
    vdev: str
    node: str

    @property
    def what(self) -> str:
        return f"the ejected CD of domain {self.domid}"

    def carry_out(self, ctx: Context, store: Store) -> None:
        """Tell libxl, unless another process was faster. Raises LibxlError, XenstoreError."""
        if store.read(self.node) != _EJECTED:
            return
        store.write(self.node, "")  # before all else, as libxl does it
        if not store.exists(f"{_ours(self.domid)}/{self.devid}/backend"):
            return  # the drive is gone, not only empty
        eject_cd(ctx, self.domid, self.vdev)
        who = guest(ctx.name_of(self.domid), self.domid)
        _log.info("%s has ejected the CD in %s", who, self.vdev, extra={"domid": self.domid})


@dataclass(slots=True)
class _Drive:
    """A drive; watched, or to be watched again from `due` on."""

    eject: Eject
    pause: Pause = field(default_factory=lambda: Pause(*_QUIET_S))
    watched: float | None = None
    fresh: bool = True  # a watch tells at once that it is set
    due: float = 0.0


class Drives:
    """Watches the CD drives of the managed guests, over one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._drives: dict[tuple[int, str], list[_Drive]] = {}
        self._told: dict[str, _Drive] = {}
        self._by_token: dict[str, _Drive] = {}

    def take(self, event: WatchEvent) -> bool:
        """Take note of an event; say whether it is one of ours."""
        if not event.token.startswith(_WATCH):
            return False
        if drive := self._by_token.get(event.token):
            self._told[event.token] = drive
        return True

    def look(self, guests: Iterable[tuple[Domain, str]]) -> None:
        """Watch the drives of who is new, and no more those of who is gone; by domain and life."""
        here = {(domain.domid, life) for domain, life in guests}
        for one in self._drives.keys() - here:
            for drive in self._drives.pop(one):
                self._unwatch(drive)
        for domid, life in here - self._drives.keys():
            found = [_Drive(eject) for eject in drives_of(self._store, domid, life)]
            self._drives[domid, life] = found
            for drive in found:
                self._watch(drive)

    def ejected(self) -> Iterator[Eject]:
        """Yield a task for each drive that was ejected; watch those that were quiet long enough."""
        told, self._told = self._told, {}
        for drive in told.values():
            if drive.watched is None:
                continue
            ejected = self._store.read(drive.eject.node) == _EJECTED
            if ejected or not drive.fresh:  # to be watched again tells once more, if it still is
                self._leave_alone(drive)
            drive.fresh = False
            if ejected:
                yield drive.eject
        for drive in self._resting():
            if drive.due <= time.monotonic():
                self._watch(drive)

    def next_s(self) -> float:
        """Return in how many seconds a drive is to be watched again."""
        first = min((drive.due for drive in self._resting()), default=float("inf"))
        return max(first - time.monotonic(), 0.0)

    def _resting(self) -> list[_Drive]:
        return [d for found in self._drives.values() for d in found if d.watched is None]

    def _watch(self, drive: _Drive) -> None:
        node = drive.eject.node
        drive.watched, drive.fresh = time.monotonic(), True
        self._by_token[_WATCH + node] = drive
        self._store.watch(node, _WATCH + node)

    def _unwatch(self, drive: _Drive) -> None:
        node = drive.eject.node
        if drive.watched is not None:
            self._store.unwatch(node, _WATCH + node)
        drive.watched = None
        self._by_token.pop(_WATCH + node, None)

    def _leave_alone(self, drive: _Drive) -> None:
        if drive.watched is not None and time.monotonic() - drive.watched > _QUIET_S[1]:
            drive.pause.reset()
        self._unwatch(drive)
        seconds = drive.pause.next()
        drive.due = time.monotonic() + seconds
        if seconds <= _SAID_S < 2 * seconds:
            eject = drive.eject
            _log.info(
                "domain %d keeps writing to its CD drive %s, which is looked at less often now, "
                "down to every %.0f min",
                eject.domid, eject.vdev, _QUIET_S[1] / 60, extra={"domid": eject.domid},
            )  # fmt: skip


def drives_of(store: Store, domid: int, life: str) -> Iterator[Eject]:
    """Yield a domain's CD drives, by what domain 0 says of them."""
    where = _home_of_the_device_model(store, domid)
    devids = filter(_DEVID.fullmatch, store.list(_ours(domid)) or ())
    for devid in sorted(devids)[:_MOST]:
        ours = f"{_ours(domid)}/{devid}"
        vdev = store.read(f"{ours}/dev") or ""
        if store.read(f"{ours}/device-type") == "cdrom" and _VDEV.fullmatch(vdev):
            yield Eject(life, domid, devid, vdev, f"{where}/device/vbd/{devid}/eject")


def _ours(domid: int) -> str:
    return f"/libxl/{domid}/device/vbd"


def _home_of_the_device_model(store: Store, domid: int) -> str:
    home = paths.domain(domid)
    stubdom = paths.parse_domid(store.read(f"{home}/image/device-model-domid") or "")
    return paths.domain(stubdom) if stubdom else home


def has_cds(record: Record) -> bool:
    """Whether the guest has a drive for CDs."""
    return any(disk.get("is_cdrom") for disk in record.config.get("disks", ()))
