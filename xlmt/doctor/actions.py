# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ends a stall, the least harm first: what doctor says, and release carries out. Pure."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from xlmt.doctor.causes import Kind
from xlmt.doctor.holders import Holder, Lender, Link, What
from xlmt.doctor.words import ADVICE

#: So many holders are worth an action: one of which there are more likelier ones is not the one.
MOST_HOLDERS = 3
#: Interfaces of these kinds are no hardware: nothing outside of this host sees them go.
_VIRTUAL = {"dummy", "ifb", "veth", "vlan", "tun", "macvlan", "macvtap"}
_SET = ("ip", "link", "set", "dev")
_BINDING = ("unbind", "bind")


class Level(IntEnum):
    """What an action costs. One that is only said, as xlmt never does it, is `SAID`."""

    NOTHING = 1
    PACKETS = 2
    DEVICE = 3
    DATA = 4
    SAID = 5

    @property
    def word(self) -> str:
        return self.name.lower()


COSTS: Mapping[Level, str] = {
    Level.NOTHING: "nothing else is touched",
    Level.PACKETS: "packets of other guests are lost, too",
    Level.DEVICE: "a device of dom0 stops working for a moment",
    Level.DATA: "data of this guest may be lost",
}


class Action(NamedTuple):
    """Commands, and those that put back what they took down; one of one word is a line of shell.

    `interface` is one that is taken down: its addresses and routes are kept, where release does
    it.
    """

    level: Level
    commands: tuple[tuple[str, ...], ...]
    undo: tuple[tuple[str, ...], ...] = ()
    interface: str | None = None

    @property
    def typed(self) -> str:
        """The same as a line that can be typed."""
        return "; ".join(map(_typed, (*self.commands, *self.undo)))


def _typed(command: tuple[str, ...]) -> str:
    """Return the command as a line; one that is only said is a line already."""
    return command[0] if len(command) == 1 else shlex.join(command)


class Network(NamedTuple):
    """The interfaces of the host, and whose they are."""

    links: Sequence[Link] = ()
    vifs: Sequence[Lender] = ()


def actions_of(
    kind: Kind, domid: int | None, holders: Sequence[Holder], network: Network
) -> tuple[Action, ...]:
    """Return what can be done about a task that waits, the least harm first.

    Where nothing is known that holds anything: what to type to find it.
    """
    found: list[Action] = []
    if any(holder.what is What.PROGRAM for holder in holders):
        found += _own(domid, network.vifs)
    for holder in holders[:MOST_HOLDERS]:
        found += _about(holder, domid, network.links)
    if not found:
        found = [Action(Level.SAID, ((command,),)) for command in ADVICE[kind].actions]
    return tuple(sorted(dict.fromkeys(found), key=lambda action: action.level))


def _own(domid: int | None, vifs: Iterable[Lender]) -> list[Action]:
    """Take the guest's own interface down: what waits for a program's word is dropped then.

    See nfqnl_dev_drop() in net/netfilter/nfnetlink_queue.c. Only one that its driver has taken
    the carrier from, and that has lent packets: that is the one that goes, nothing is put back.
    """
    return [
        Action(Level.NOTHING, ((*_SET, vif.name, "down"),), interface=vif.name)
        for vif in vifs
        if vif.domid == domid and vif.down and vif.lent
    ]


def _about(holder: Holder, domid: int | None, links: Sequence[Link]) -> list[Action]:
    match holder.what:
        case What.QUEUE:
            return [_drops(holder, links)]
        case What.CARD:
            return [_drops(holder, links), *_unbinds(holder)]
        case What.PROGRAM:  # its port id need not be its process
            return [Action(Level.SAID, (("ss -f netlink -p",),))]
        case What.TAP:  # whose it is, and what it does for whom, only a person can tell
            look = f"ps -o pid,stat,wchan,args -p {holder.reader}"
            return [Action(Level.SAID, ((f"{look}; kill -CONT {holder.reader}",),))]
    return _of_disk(holder, domid)


def _drops(holder: Holder, links: Sequence[Link]) -> Action:
    """Take an interface down and up again, which drops what is in its queues, of all guests."""
    enter = ("nsenter", "-n", "-t", str(holder.pid)) if holder.pid else ()
    change = (*enter, *_SET, holder.device)
    level = _level(holder, links)
    if level is Level.SAID:
        typed = "; ".join(shlex.join((*change, state)) for state in ("down", "up"))
        return Action(level, ((typed,),))
    return Action(level, ((*change, "down"),), ((*change, "up"),), holder.device)


def _unbinds(holder: Holder) -> list[Action]:
    """Have a card's driver let go of it, and all that it has: the last resort.

    The interface is another one afterwards, without addresses and on no bridge; so it is only said.
    """
    if not holder.driver:
        return []
    driver, _, device = holder.driver.rpartition("/")
    typed = [f"echo {shlex.quote(device)} > {shlex.quote(f'{driver}/{verb}')}" for verb in _BINDING]
    return [Action(Level.SAID, (("; ".join(typed),),))]


def _level(holder: Holder, links: Sequence[Link]) -> Level:
    """Return what it costs to take an interface down.

    VLANs on it go down with it, with their routes, and all come up with it, also those that were
    down (vlan_device_event() in net/8021q/vlan.c). And of another namespace only a process is
    known, which may be gone, or be another one, by the time that somebody agrees.
    """
    link = next((x for x in links if x.place == (holder.pid, holder.device)), None)
    on_it = any(x.kind == "vlan" and (x.pid, x.lower) == (holder.pid, holder.device) for x in links)
    if on_it or holder.pid:
        return Level.SAID
    virtual = link is not None and link.kind in _VIRTUAL and not link.addressed
    return Level.PACKETS if virtual else Level.DEVICE


def _of_disk(holder: Holder, domid: int | None) -> list[Action]:
    """Return what to do about a disk; what may be another's is only told of."""
    kind, _, detail = holder.kind.partition(" ")
    alone = domid is not None and not {*holder.guests} - {domid} and not holder.ours
    if kind == "dm" and holder.state == "suspended":
        level = Level.SAID if holder.ours else Level.DEVICE
        return [Action(level, (("dmsetup", "resume", detail),))]
    if kind == "nbd":
        level = Level.DATA if alone else Level.SAID
        return [Action(level, (("nbd-client", "-d", f"/dev/{holder.device}"),))]
    if kind == "loop" and " at " in detail:  # on a file system, which may be frozen
        point = detail.rpartition(" at ")[2].rstrip(")")
        return [Action(Level.SAID, ((shlex.join(("fsfreeze", "--unfreeze", point)),),))]
    if kind == "scsi":
        state = f"/sys/block/{holder.device}/device/state"
        return [Action(Level.SAID, ((f"cat {state}; echo running > {state}",),))]
    return [Action(Level.SAID, ((command,),)) for command in ADVICE[Kind.BLKBACK_IO].actions]
