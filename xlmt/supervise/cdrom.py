# SPDX-License-Identifier: LGPL-2.1-or-later
"""CDs that guests eject: a drive's node `eject` in the frontend's directory then says so.

That directory is the guest's, or that of the domain in which its device model runs; and somebody
has to tell libxl (libxl_disk.c, libxl_evenable_disk_eject).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from xlmt import paths
from xlmt.libxl import Context, eject_cd
from xlmt.model import Domain
from xlmt.supervise import handler as undertaker
from xlmt.xenstore import Store, WatchEvent

_WATCH = "eject "
_EJECTED = "eject"


class Drive(NamedTuple):
    """A drive whose CD the guest has ejected; `path` is the frontend's."""

    domain: Domain
    path: str


class Ejects:
    """Watches the drives of the marked domains, over one connection."""

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
        here = {replace(d, paused=False, shutdown=None) for d in domains if undertaker.has_cds(d)}
        for domain in self._watched.keys() - here:
            folder = self._watched.pop(domain)
            self._store.unwatch(folder, _WATCH + folder)
        for domain in here - self._watched.keys():
            folder = self._watched[domain] = self._folder(domain.domid)
            self._store.watch(folder, _WATCH + folder)  # which tells at once, too

    def ejected(self) -> Iterator[Drive]:
        """Return the drives that are to be seen to."""
        told, self._told = self._told, set()
        for domain, folder in self._watched.items():
            for drive in self._store.list(folder) or () if folder in told else ():
                if self._store.read(f"{folder}/{drive}/eject") == _EJECTED:
                    yield Drive(domain, f"{folder}/{drive}")

    def _folder(self, domid: int) -> str:
        home = paths.domain(domid)
        stubdom = paths.parse_domid(self._store.read(f"{home}/image/device-model-domid") or "")
        return f"{paths.domain(stubdom) if stubdom else home}/device/vbd"


def eject(ctx: Context, store: Store, drive: Drive) -> str | None:
    """Tell libxl that a drive is empty; return its name, None when somebody was faster.

    Raises LibxlError, XenstoreError.
    """
    if store.read(f"{drive.path}/eject") != _EJECTED:
        return None
    store.write(f"{drive.path}/eject", "")  # before all else, as libxl does it
    backend = store.read(f"{drive.path}/backend")
    vdev = store.read(f"{backend}/dev") if backend else None
    if vdev:  # else the drive is gone, not only empty
        eject_cd(ctx, drive.domain.domid, vdev)
    return vdev
