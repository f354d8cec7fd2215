# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be done about what holds something, and what that costs."""

from typing import Any

import pytest

from xlmt.doctor.actions import Action, Level, Network, actions_of
from xlmt.doctor.causes import Kind
from xlmt.doctor.holders import Holder, Lender, Link, What
from xlmt.doctor.words import ADVICE

SINK = Holder(What.QUEUE, "sink0", "netem", packets=37)
PORT = Link("sink0", 4, "dummy", master="br0")


def done(holder: Holder, *links: Link, domid: int = 1) -> tuple[Action, ...]:
    kind = Kind.BLKBACK_IO if holder.what is What.DISK else Kind.NETBACK_INFLIGHT
    vifs = [
        Lender("vif1.0", 1, 9, down=True),
        Lender("vif1.1", 1, 9),
        Lender("vif1.2", 1, down=True),
    ]
    return actions_of(kind, domid, [holder], Network(links, vifs))


@pytest.mark.parametrize(
    ("link", "level"),
    [
        (PORT, Level.PACKETS),
        (PORT._replace(addressed=True), Level.DEVICE),
        (PORT._replace(kind=""), Level.DEVICE),
        (PORT._replace(pid=7), Level.DEVICE),  # that is another one
    ],
    ids=["virtual", "with-addresses", "a-card", "elsewhere"],
)
def test_a_queue_is_emptied_by_its_interface(link: Link, level: Level) -> None:
    (action,) = done(SINK, link)
    assert action.level is level
    assert action.typed == "ip link set dev sink0 down; ip link set dev sink0 up"
    assert action.interface == "sink0"


def test_an_interface_that_vlans_are_on_is_for_somebody_to_decide() -> None:
    """They would go down with it, and all come up with it, with other routes than before."""
    (action,) = done(SINK, PORT, Link("v7", 9, "vlan", lower="sink0", addressed=True))
    assert action.level is Level.SAID
    (action,) = done(SINK, PORT, Link("v7", 9, "vlan", lower="eth0"))
    assert action.level is Level.PACKETS


def test_a_bridge_that_goes_down_takes_its_ports_along() -> None:
    (action,) = done(SINK, PORT._replace(kind="bridge"))
    assert action.level is Level.DEVICE


def test_a_card_that_keeps_its_packets_is_taken_from_its_driver_in_the_end() -> None:
    """By somebody: it comes back without its addresses, and on no bridge."""
    bound = "/sys/bus/pci/drivers/igb/0000:03:00.0"
    card = Holder(What.CARD, "eth0", "card", bytes=1580, driver=bound)
    down, unbound = done(card, Link("eth0", 2, addressed=True))
    assert (down.level, down.interface) == (Level.DEVICE, "eth0")
    assert (unbound.level, unbound.typed) == (
        Level.SAID,
        "echo 0000:03:00.0 > /sys/bus/pci/drivers/igb/unbind; "
        "echo 0000:03:00.0 > /sys/bus/pci/drivers/igb/bind",
    )
    (down,) = done(card._replace(driver=""), Link("eth0", 2))
    assert down.level is Level.DEVICE


def test_an_interface_of_another_namespace_is_only_told_of() -> None:
    """Of which a process is known, that may be another one when somebody agrees."""
    (action,) = done(SINK._replace(device="$(x)", pid=812))
    enter = "nsenter -n -t 812 ip link set dev '$(x)'"
    assert (action.level, action.typed) == (Level.SAID, f"{enter} down; {enter} up")


def test_what_a_program_has_goes_with_the_guests_own_interface() -> None:
    """The one that is being taken down: another of the same guest may be in use."""
    own, program = done(Holder(What.PROGRAM, "nfqueue 7", "port id 42", packets=9))
    assert own.commands == (("ip", "link", "set", "dev", "vif1.0", "down"),)
    assert (own.level, own.undo) == (Level.NOTHING, ())
    assert (program.level, program.typed) == (Level.SAID, "ss -f netlink -p")


def test_whose_macvtap_it_is_a_person_has_to_see() -> None:
    (action,) = done(Holder(What.TAP, "mvt0", "qemu", reader=77))
    assert action.level is Level.SAID
    assert action.typed == "ps -o pid,stat,wchan,args -p 77; kill -CONT 77"


def disk(kind: str, **fields: Any) -> Holder:
    return Holder(What.DISK, "nbd0", kind)._replace(**fields)


@pytest.mark.parametrize(("ours", "level"), [(False, Level.DEVICE), (True, Level.SAID)])
def test_a_suspended_disk_is_resumed(ours: bool, level: Level) -> None:
    (action,) = done(disk("dm vg-web", state="suspended", ours=ours))
    assert (action.level, action.typed) == (level, "dmsetup resume vg-web")


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"guests": (1,)}, Level.DATA),
        ({"guests": ()}, Level.DATA),
        ({"guests": (1, 2)}, Level.SAID),
        ({"guests": (2,)}, Level.SAID),
        ({"guests": (1,), "ours": True}, Level.SAID),
    ],
    ids=["its-own", "no-other", "shared", "another-s", "dom0-s"],
)
def test_what_could_cost_others_their_data_is_only_said(
    fields: dict[str, Any], level: Level
) -> None:
    (action,) = done(disk("nbd", **fields))
    assert (action.level, action.typed) == (level, "nbd-client -d /dev/nbd0")


def test_a_file_system_that_may_be_frozen_is_named() -> None:
    (action,) = done(disk("loop on /run/fs/img (ext4 at /run/fs)"))
    assert (action.level, action.typed) == (Level.SAID, "fsfreeze --unfreeze /run/fs")


def test_nobodys_disk_is_given_up_on_a_guess() -> None:
    (action,) = actions_of(Kind.BLKBACK_IO, None, [disk("nbd")], Network())
    assert action.level is Level.SAID


@pytest.mark.parametrize("kind", Kind)
def test_where_nothing_is_known_it_is_said_how_to_look(kind: Kind) -> None:
    told = actions_of(kind, None, [], Network())
    assert [action.typed for action in told] == [*ADVICE[kind].actions]
    assert {action.level for action in told} <= {Level.SAID}


def test_the_mildest_comes_first() -> None:
    card = SINK._replace(device="eth0")
    levels = [a.level for a in actions_of(Kind.NETBACK_INFLIGHT, 1, [card, SINK], Network([PORT]))]
    assert levels == [Level.PACKETS, Level.DEVICE]
