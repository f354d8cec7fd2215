# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may hold a guest's packets or requests, and which of it is the likeliest. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple


class What(StrEnum):
    """What kind of thing holds something."""

    QUEUE = "queue"  # of an interface, see tc(8)
    CARD = "card"  # packets that a real card has, by the kernel's own limit of them (BQL)
    PROGRAM = "program"  # that is asked about each packet (nfnetlink_queue)
    TAP = "tap"  # a macvtap, whose program reads nothing; how many packets it has is not known
    DISK = "disk"


class Link(NamedTuple):
    """A network interface; `pid` is a process in its network namespace, None for ours.

    `lower` is the interface that it is on top of, or a veth's peer; `lower_number` its number,
    which is all that is told of one in another namespace.
    """

    name: str
    number: int
    kind: str = ""
    master: str = ""
    lower: str = ""
    lower_number: int = 0
    addressed: bool = False
    pid: int | None = None

    @property
    def place(self) -> tuple[int | None, str]:
        return self.pid, self.name


class Lender(NamedTuple):
    """A guest's interface in our network namespace; `lent`: packets that have not come back."""

    name: str
    domid: int
    lent: int = 0
    down: bool = False


class Disk(NamedTuple):
    """A block device; `below` are the names of those that it is on.

    `stands` is whether it had requests over a whole look, and none of them ended. `state` is a
    word of the device's own for that it does not work. `guests` are the domids whose disk it is,
    and `used` is whether dom0 has it itself: mounted, for swap, or open in a program.
    """

    name: str
    kind: str = ""
    below: tuple[str, ...] = ()
    requests: int = 0
    stands: bool = False
    state: str = ""
    detail: str = ""
    guests: frozenset[int] = frozenset()
    used: bool = False

    @property
    def troubled(self) -> bool:
        return self.stands or bool(self.state)


class Holder(NamedTuple):
    """What may hold packets or requests; `pid` as a Link's.

    `on_path`: the guest's packets or requests come by there. `guests` are those for whose
    requests that is so, and `ours` is whether it is for those of dom0. `driver` is where in sysfs a
    card's driver has it, `reader` the process that is to read from a tap.
    """

    what: What
    device: str
    kind: str
    packets: int = 0
    bytes: int = 0
    requests: int = 0
    state: str = ""
    pid: int | None = None
    on_path: bool = False
    guests: tuple[int, ...] = ()
    ours: bool = False
    driver: str = ""
    reader: int | None = None


# --- packets -------------------------------------------------------------------------------


def of_packets(
    held: Iterable[Holder], links: Sequence[Link], vifs: Iterable[str]
) -> tuple[Holder, ...]:
    """Return what has packets, the likeliest first: what is on the way from these interfaces.

    A tap may have none, and counts only there.
    """
    reached = reachable(links, [(None, vif) for vif in vifs])
    seen = [h._replace(on_path=(h.pid, h.device) in reached) for h in held]
    seen = [h for h in seen if h.on_path or h.what is not What.TAP]
    order = [What.PROGRAM, What.QUEUE, What.TAP, What.CARD, What.DISK]
    return tuple(
        sorted(seen, key=lambda h: (not h.on_path, order.index(h.what), -h.packets, -h.bytes))
    )


def reachable(
    links: Sequence[Link], start: Iterable[tuple[int | None, str]]
) -> set[tuple[int | None, str]]:
    """Return where packets from there may get to by bridges, bonds, VLANs and veths."""
    neighbours: dict[tuple[int | None, str], set[tuple[int | None, str]]] = {}
    for link in links:
        for other in _next_to(link, links):
            neighbours.setdefault(link.place, set()).add(other)
            neighbours.setdefault(other, set()).add(link.place)
    reached: set[tuple[int | None, str]] = set()
    new = [place for place in start if place in neighbours]
    while new:
        place = new.pop()
        if place not in reached:
            reached.add(place)
            new += neighbours.get(place, ())
    return reached


def _next_to(link: Link, links: Sequence[Link]) -> list[tuple[int | None, str]]:
    found = [(link.pid, name) for name in (link.master, link.lower) if name]
    if link.kind == "veth" and link.lower_number and not link.lower:
        found += [
            other.place
            for other in links
            if other.kind == "veth"
            and (other.number, other.lower_number) == (link.lower_number, link.number)
        ]
    return found


# --- requests ------------------------------------------------------------------------------


def of_requests(
    disks: Mapping[str, Disk], domid: int | None, waiting: Collection[int]
) -> tuple[Holder, ...]:
    """Return the disks that do not answer, the likeliest first.

    Of those that rest on each other the lowest, as the others only wait for it. One that others
    have, and not the guest or another of those `waiting`, is none; but a disk that is being taken
    from its guest does not say any more whose it is.
    """
    lowest = [disk for disk in disks.values() if disk.troubled and not _waits_below(disk, disks)]
    held = [_holder(disk, disks, domid) for disk in lowest]
    held = [h for h in held if h.on_path or {*h.guests} <= {*waiting}]
    if any(h.on_path for h in held):
        held = [h for h in held if h.on_path]
    return tuple(sorted(held, key=lambda h: (h.ours, not h.state, -h.requests, h.device)))


def _holder(disk: Disk, disks: Mapping[str, Disk], domid: int | None) -> Holder:
    using = [disk, *(other for other in disks.values() if disk in _below(other, disks))]
    guests = frozenset[int]().union(*(other.guests for other in using))
    return Holder(
        What.DISK,
        disk.name,
        f"{disk.kind} {disk.detail}".strip(),
        requests=disk.requests,
        state=disk.state,
        on_path=domid in guests,
        guests=tuple(sorted(guests)),
        ours=any(other.used for other in using),
    )


def _waits_below(disk: Disk, disks: Mapping[str, Disk]) -> bool:
    """Whether something below is what does not answer. One that says so itself waits for none."""
    return not disk.state and any(under.troubled for under in _below(disk, disks))


def _below(disk: Disk, disks: Mapping[str, Disk]) -> list[Disk]:
    found: dict[str, Disk] = {}
    new = list(disk.below)
    while new:
        name = new.pop()
        if name not in found and name in disks and name != disk.name:
            found[name] = disks[name]
            new += disks[name].below
    return list(found.values())
