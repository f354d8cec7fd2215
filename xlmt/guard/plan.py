# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which vifs need a socket and which sockets nobody needs, by one look at the host. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from xlmt.guard.netlink import Change
from xlmt.guard.settings import Settings
from xlmt.model import Vif


class Plan(NamedTuple):
    """The vifs to open a socket for, and the interfaces whose sockets are to be closed."""

    open: tuple[Vif, ...]
    close: tuple[int, ...]


def plan(
    settings: Settings,
    vifs: Iterable[Vif],
    names: Mapping[int, str | None],
    held: Mapping[int, Vif],
    live: Collection[int],
) -> Plan:
    """Return what is to change, by domid and interface.

    `held` are the vifs that we have sockets for, by interface; `live` those of them that the
    kernel confirms. An interface may be another one than it was, if an event was lost.
    """
    wanted = {vif.ifindex: vif for vif in vifs if settings.wants(names.get(vif.domid))}
    right = {
        ifindex
        for ifindex, vif in held.items()
        if ifindex in live and ifindex in wanted and wanted[ifindex].device == vif.device
    }
    missing = [vif for ifindex, vif in wanted.items() if ifindex not in right]
    return Plan(
        open=tuple(sorted(missing, key=lambda vif: (vif.domid, vif.ifindex))),
        close=tuple(sorted(held.keys() - right)),
    )


def news(changes: Iterable[Change], seen: set[int]) -> bool:
    """Take the changes into what was `seen`; say whether an interface has come or gone.

    An interface is told of whenever anything about it changes, as often as a guest likes.
    """
    before = frozenset(seen)
    for change in changes:
        (seen.discard if change.gone else seen.add)(change.ifindex)
    return seen != before
