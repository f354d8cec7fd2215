# SPDX-License-Identifier: LGPL-2.1-or-later
"""The supervisor's part of the guard: a socket for every vif that is to be guarded.

The trip of a vif. netback registers it, rtnetlink tells of it, and the supervisor's wait calls
`take`: a look at the host, a plan (guard/plan.py), a socket. All this is over long before the
vif's script has run, and only then does the kernel take packets of the guest. Every pass looks,
too: for settings that have changed, and for what an event that was lost would have told.

What is held is what the kernel says is held (kernel/vifs.py), so that a socket whose interface has
gone and come back is opened anew. A supervisor that is killed takes its sockets with it.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, Self

from xlmt.errors import UnreadableError, XenstoreUnreachableError, XlmtError
from xlmt.guard import kept, sockets
from xlmt.guard.plan import news, plan
from xlmt.guard.settings import IN_DOUBT, Settings
from xlmt.kernel import vifs
from xlmt.kernel.vifs import Known, Tap
from xlmt.logs import Once
from xlmt.model import Vif
from xlmt.supervise import surroundings
from xlmt.text import guest

#: A guest's name is asked for again after so long: it may have been renamed.
_NAMES_S = 60.0
#: What is over when it is tried again, without an event.
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

_log = logging.getLogger("xlmt.supervise")


class _Held(NamedTuple):
    vif: Vif
    fd: int
    inode: int


class Guards:
    """The sockets. `name_of` asks for a domain's name, `alive` is called within long work."""

    def __init__(self, name_of: Callable[[int], str | None], alive: Callable[[], None]) -> None:
        self._name_of = name_of
        self._alive = alive
        self._listener: socket.socket | None = None
        self._settings: Settings | None = None
        self._held: dict[int, _Held] = {}
        self._known: Known = {}
        self._seen: set[int] = set()
        self._names: dict[int, str] = {}
        self._named = 0.0
        self._limit: int | None = None  # of descriptors, before there were sockets
        self._wrong: dict[str, str] = {}
        self._once = Once(_log)
        #: Whether what failed may succeed soon, without an event.
        self.unsettled = False

    def __enter__(self) -> Self:
        try:
            self._listener = sockets.listener()
        except OSError as e:
            self._deaf(e)
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Close all sockets, or our copies of them in a forked child."""
        for held in self._held.values():
            with suppress(OSError):
                os.close(held.fd)
        self._held.clear()
        if self._limit is not None:
            surroundings.limit_descriptors(self._limit)
            self._limit = None
        if self._listener:
            self._listener.close()
            self._listener = None

    def fds(self) -> list[int]:
        return [self._listener.fileno()] if self._listener else []

    def take(self) -> None:
        """Take in what is told of interfaces, and look if one has come or gone."""
        if self._listener is None:
            return
        try:
            changes = list(sockets.told(self._listener))
        except OSError as e:  # it would wake us again at once
            self._listener.close()
            self._listener = None
            return self._deaf(e)
        known = [change for change in changes if change is not None]
        if news(known, self._seen) or len(known) < len(changes):
            self.look()

    def _deaf(self, error: OSError) -> None:
        _log.warning("new vifs are guarded late: cannot listen for them: %s", error.strerror)

    # One look

    def look(self) -> None:
        """Look at the settings and the vifs; open and close what that calls for."""
        self._wrong, self.unsettled = {}, False
        settings = self._load()
        if settings.active or self._held:
            try:
                self._set_right(settings)
            except OSError as e:
                self._wrong["look"] = f"cannot look for vifs to be guarded: {e}"
        else:
            self._known = {}
        self._once.say(set(self._wrong.values()))

    def _load(self) -> Settings:
        before = self._settings
        try:
            self._settings = kept.load()
        except UnreadableError as e:
            so = "all guests are guarded" if before in {None, IN_DOUBT} else "the guard stays as is"
            self._wrong["settings"] = f"{so}: {e}"
            self._settings = before or IN_DOUBT
        if self._settings != before:
            self._names.clear()
        return self._settings

    def _set_right(self, settings: Settings) -> None:
        self._known = vifs.look(self._known)
        found = [vif for vif in self._known.values() if vif]
        names = self._names_of(found) if settings.exceptions else {}
        taps = vifs.taps() if self._held else set()
        live = {i for i, held in self._held.items() if Tap(i, held.inode) in taps}
        held = {ifindex: held.vif for ifindex, held in self._held.items()}
        todo = plan(settings, found, names, held, live)
        there = {vif.ifindex for vif in found}
        for ifindex in todo.close:
            self._alive()  # the kernel waits for a moment at each
            self._close(ifindex, said=ifindex in there and ifindex in live)
        for vif in todo.open:
            self._alive()
            self._open(vif)

    def _names_of(self, found: Iterable[Vif]) -> dict[int, str | None]:
        """Return the names of the guests, as far as xenstored tells."""
        now = time.monotonic()
        if now - self._named > _NAMES_S:
            self._names.clear()
            self._named = now
        names: dict[int, str | None] = {}
        with suppress(XenstoreUnreachableError):  # whoever needs it more will say so
            for domid in {vif.domid for vif in found}:
                if name := self._names.get(domid) or self._ask(domid):
                    names[domid] = self._names[domid] = name
        return names

    def _ask(self, domid: int) -> str | None:
        try:
            return self._name_of(domid)
        except XenstoreUnreachableError:
            raise
        except XlmtError:
            return None

    def _open(self, vif: Vif) -> None:
        if not self._held and self._limit is None:
            self._limit = surroundings.raise_descriptors()
        try:
            fd = surroundings.set_aside(sockets.guard(vif.ifindex).detach())
        except OSError as e:
            if e.errno not in {errno.ENODEV, errno.ENXIO}:  # it is gone
                self._failed(vif, e)
            return
        self._held[vif.ifindex] = _Held(vif, fd, os.fstat(fd).st_ino)
        self._log("guarding %s of %s", vif)

    def _failed(self, vif: Vif, error: OSError) -> None:
        """Take note of it: once for each reason, of which a host may have many guests."""
        self.unsettled = self.unsettled or error.errno in _SHORT
        reason = error.strerror or str(error)
        whose = guest(self._name(vif), vif.domid)
        self._wrong.setdefault(reason, f"cannot guard {vif.interface} of {whose}: {reason}")

    def _close(self, ifindex: int, *, said: bool) -> None:
        held = self._held.pop(ifindex)
        os.close(held.fd)
        if said:
            self._log("no longer guarding %s of %s", held.vif)

    def _log(self, words: str, vif: Vif) -> None:
        name = self._name(vif)
        fields = {"domid": vif.domid, "domain": name}
        _log.info(words, vif.interface, guest(name, vif.domid), extra=fields)

    def _name(self, vif: Vif) -> str | None:
        with suppress(XenstoreUnreachableError):
            return self._names.get(vif.domid) or self._ask(vif.domid)
        return None
