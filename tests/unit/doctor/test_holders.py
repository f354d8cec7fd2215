# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of the things that hold something is the likeliest: what is on the guest's way."""

import pytest

from xlmt.doctor.holders import (
    Disk,
    Holder,
    Link,
    What,
    of_packets,
    of_requests,
    reachable,
)

VIF = Link("vif1.0", 9, master="br0")
BRIDGE = Link("br0", 3, "bridge")
OTHER = Link("eth9", 4)
#: (None, "br0") and what hangs on it: a VLAN on a bond of a card, and a veth into a container.
HOST = [
    VIF,
    BRIDGE,
    OTHER,
    Link("v7", 5, "vlan", master="br0", lower="bond0"),
    Link("bond0", 6, "bond"),
    Link("eth0", 7, master="bond0"),
    Link("ve0", 8, "veth", master="br0", lower_number=2),
    Link("inner", 2, "veth", lower_number=8, pid=812),
    Link("tap", 3, "dummy", pid=812),
]


def test_the_way_goes_over_bridges_bonds_vlans_and_veths() -> None:
    reached = reachable(HOST, [(None, "vif1.0")])
    inside = {(None, name) for name in ("vif1.0", "br0", "v7", "bond0", "eth0", "ve0")}
    assert reached == inside | {(812, "inner")}


def test_an_interface_that_is_on_nothing_leads_nowhere() -> None:
    assert reachable(HOST, [(None, "eth9"), (None, "gone")]) == set()


def test_what_is_on_the_way_counts_more_than_what_is_full() -> None:
    near = Holder(What.QUEUE, "eth0", "fq", packets=3)
    far = Holder(What.QUEUE, "eth9", "fq", packets=900)
    inner = Holder(What.QUEUE, "inner", "netem", packets=5, pid=812)
    ranked = of_packets([far, near, inner], HOST, ["vif1.0"])
    assert [(h.device, h.on_path) for h in ranked] == [
        ("inner", True),
        ("eth0", True),
        ("eth9", False),
    ]


def test_the_same_name_in_another_namespace_is_not_on_the_way() -> None:
    elsewhere = Holder(What.QUEUE, "eth0", "fq", packets=3, pid=812)
    assert not of_packets([elsewhere], HOST, ["vif1.0"])[0].on_path


def test_a_macvtap_counts_on_the_way_only() -> None:
    """How many packets it has is not known."""
    host = [
        *HOST,
        Link("mvt0", 11, "macvtap", lower="br0"),
        Link("mvt1", 12, "macvtap", lower="eth9"),
    ]
    held = [Holder(What.TAP, name, "qemu", reader=77) for name in ("mvt0", "mvt1")]
    full = Holder(What.QUEUE, "eth0", "fq", packets=3)
    ranked = of_packets([*held, full], host, ["vif1.0"])
    assert [h.device for h in ranked] == ["eth0", "mvt0"]


def disks(*them: Disk) -> dict[str, Disk]:
    return {disk.name: disk for disk in them}


LOOP = Disk("loop4", "loop", ("dm-0",), 4, stands=True, guests=frozenset({1}))
DM = Disk("dm-0", "dm", ("sda",), 4, stands=True, state="suspended", detail="vg-web")
BUSY = Disk("sdb", "scsi", (), 30)


def held_by(*them: Disk, domid: int | None = 1, waiting: tuple[int, ...] = ()) -> list[Holder]:
    return list(of_requests(disks(*them), domid, waiting))


def test_of_disks_on_each_other_the_lowest_that_does_not_answer_is_told() -> None:
    (held,) = held_by(LOOP, DM, Disk("sda", "scsi"), BUSY)
    assert (held.device, held.state, held.on_path, held.guests) == ("dm-0", "suspended", True, (1,))


def test_a_suspended_disk_waits_for_none_that_is_below_it() -> None:
    told = held_by(DM, Disk("sda", "scsi", requests=1, stands=True))
    assert {held.device for held in told} == {"dm-0", "sda"}


def test_a_disk_that_answers_is_not_told() -> None:
    assert held_by(BUSY) == []


OTHERS = Disk("dm-7", "dm", state="suspended", guests=frozenset({9}))


def test_a_disk_of_others_is_not_told() -> None:
    assert [held.device for held in held_by(OTHERS, LOOP, DM)] == ["dm-0"]
    assert held_by(OTHERS) == held_by(OTHERS, domid=None) == []
    assert held_by(OTHERS, waiting=(1, 9))  # unless they wait as well


def test_a_disk_that_does_not_say_whose_it_is_may_be_the_guests() -> None:
    (held,) = held_by(Disk("nbd0", "nbd", (), 4, stands=True))
    assert not held.on_path
    assert [h.device for h in held_by(Disk("nbd0", "nbd", (), 4, stands=True), LOOP, DM)] == [
        "dm-0"
    ]


@pytest.mark.parametrize("used", [True, False])
def test_a_disk_that_dom0_uses_itself_is_known_as_such(used: bool) -> None:
    top = Disk("dm-1", "dm", ("nbd0",), used=used)
    (held,) = held_by(Disk("nbd0", "nbd", (), 2, stands=True), top)
    assert held.ours is used


def test_disks_in_a_circle_are_no_endless_walk() -> None:
    held_by(Disk("a", below=("b",), stands=True), Disk("b", below=("a",), stands=True))
