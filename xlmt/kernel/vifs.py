# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guests' network interfaces in domain 0, and whether the kernel copies what comes in by them.

It does where a packet socket for all protocols listens: deliver_skb() gives every such socket its
packet by way of skb_orphan_frags_rx() (net/core/dev.c), which puts copies in place of the pages
that netback has lent. Whoever has opened it, and whatever its filter takes: so this is the kernel's
own word on whether an interface is guarded.

Only this network namespace is seen. Nothing here takes the lock of all network interfaces.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from xlmt.kernel import places
from xlmt.model import Vif

#: linux/if_ether.h: all protocols.
ETH_P_ALL = 0x0003
_vif = re.compile(r"vif-(?P<domid>\d{1,5})-\d+")


class Tap(NamedTuple):
    """A packet socket for all protocols; `ifindex` is 0 when it listens to all interfaces."""

    ifindex: int
    inode: int


Known = Mapping[tuple[str, int], Vif | None]


def guarded() -> dict[Vif, bool]:
    """Return the vifs, each with whether its packets are copied. Raises OSError."""
    heard = {tap.ifindex for tap in taps()}
    return {vif: not heard.isdisjoint({0, vif.ifindex}) for vif in vifs()}


def guests() -> dict[int, bool]:
    """Return the domids that have vifs, each with whether all of them are guarded."""
    found: dict[int, bool] = {}
    for vif, copied in guarded().items():
        found[vif.domid] = copied and found.get(vif.domid, True)
    return found


def vifs() -> list[Vif]:
    """Return the interfaces that netback has made, in no order. Raises OSError."""
    return [vif for vif in look({}).values() if vif]


def look(known: Known) -> dict[tuple[str, int], Vif | None]:
    """Return what each interface is, None for those that are no vif, by its name and its inode.

    What is `known` from the last look is not read again: sysfs gives no inode to a second file.
    """
    found: dict[tuple[str, int], Vif | None] = {}
    with os.scandir(places.interfaces()) as entries:
        for entry in entries:
            key = entry.name, entry.inode()
            found[key] = known[key] if key in known else _vif_called(entry.name)
    return found


def _vif_called(interface: str) -> Vif | None:
    """Return the vif of that name; an interface may have been renamed, and gone meanwhile."""
    folder = f"{places.interfaces()}/{interface}"  # no Path: there may be thousands
    with suppress(OSError, ValueError):
        device = os.readlink(f"{folder}/device").rpartition("/")[2]  # noqa: PTH115
        if match := _vif.fullmatch(device):
            with open(f"{folder}/ifindex", "rb") as file:  # noqa: PTH123
                return Vif(int(file.read(20)), interface, int(match["domid"]), device)
    return None


def taps() -> set[Tap]:
    """Return the packet sockets that hear everything, as the kernel lists them.

    One that is bound to an interface that is down does not run, but will from the moment on that
    the interface is up; of one for all interfaces that means that it hears nothing.
    """
    try:
        listed = (places.processes() / "net/packet").read_text(errors="replace")
    except FileNotFoundError:  # a kernel without packet sockets
        return set()
    return set(_taps(listed))


def _taps(listed: str) -> Iterator[Tap]:
    """Yield those of /proc/net/packet: sk RefCnt Type Proto Iface R Rmem User Inode."""
    for line in listed.splitlines():
        fields = line.split()
        with suppress(ValueError, IndexError):
            tap = Tap(int(fields[4]), int(fields[8]))
            if int(fields[3], 16) == ETH_P_ALL and (tap.ifindex > 0 or fields[5] == "1"):
                yield tap
