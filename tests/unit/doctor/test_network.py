# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has packets, and what is on what: as tc(8), ip(8) and the kernel tell it."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt import files
from xlmt.doctor import network
from xlmt.doctor.holders import Holder, Lender, Link, What
from xlmt.kernel import places

#: As tc prints them: a default mq has the handle 0:, and its queues the parents :1, :2.
EMPTY = {"kind": "noqueue", "handle": "0:", "dev": "lo", "root": True, "backlog": 0, "qlen": 0}
NETEM = {"kind": "netem", "handle": "8001:", "dev": "sink0", "root": True, "packets": 3, "qlen": 37}
OUTER = {"kind": "mq", "handle": "0:", "dev": "eth0", "root": True, "packets": 9, "qlen": 5}
ONE = {"kind": "fq", "handle": "0:", "parent": ":1", "dev": "eth0", "packets": 4, "qlen": 2}
TWO = {"kind": "fq", "handle": "0:", "parent": ":2", "dev": "eth0", "packets": 5, "qlen": 3}
CLASSY = {"kind": "htb", "handle": "1:", "dev": "br0", "root": True, "qlen": 9}
LEAF = {"kind": "pfifo", "handle": "10:", "parent": "1:10", "dev": "br0", "qlen": 9}


def parsed(*rows: object) -> list[Holder]:
    return [holder for holder, _ in network.parse_queues(json.dumps(rows).encode())]


def test_only_queues_that_have_packets_hold_any() -> None:
    assert parsed(EMPTY, NETEM) == [Holder(What.QUEUE, "sink0", "netem", 37)]


def test_a_queue_in_another_is_the_one_that_is_named() -> None:
    assert parsed(CLASSY, LEAF) == [Holder(What.QUEUE, "br0", "pfifo", 9)]


@pytest.mark.parametrize("rows", [(OUTER, ONE, TWO), (ONE, TWO, OUTER), (ONE, TWO)])
def test_an_interface_is_told_once(rows: tuple[object, ...]) -> None:
    told = network.parse_queues(json.dumps(rows).encode())
    assert told == [(Holder(What.QUEUE, "eth0", "fq", 5), 9)]


@pytest.mark.parametrize("output", [b"", b"{}", b"null", b"[", b"\xff"])
def test_what_is_no_list_is_an_error(output: bytes) -> None:
    with pytest.raises(ValueError, match=r"list|Expecting|decode"):
        network.parse_queues(output)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(st.sampled_from(["dev", "kind", "qlen", "handle", "parent"]), v)
        ),
    )
)
def test_no_row_is_too_odd(row: object) -> None:
    for queue in parsed(row):
        assert queue.packets


#: Every interface that is up has the former.
LINK_LOCAL = {"family": "inet6", "local": "fe80::1", "scope": "link"}
GLOBAL = {"family": "inet", "local": "10.0.0.1", "scope": "global"}


def test_a_row_of_ip_becomes_a_link() -> None:
    rows = [
        {},  # what ip leaves out
        {"ifindex": 3, "ifname": "br0", "linkinfo": {"info_kind": "bridge"}, "addr_info": [GLOBAL]},
        {"ifindex": 4, "ifname": "vif1.0", "master": "br0", "addr_info": [LINK_LOCAL]},
        {"ifindex": 5, "ifname": "v9", "link": "bond0", "linkinfo": {"info_kind": "vlan"}},
        {"ifindex": 6, "ifname": "p0", "link_index": 2, "linkinfo": {"info_kind": "veth"}},
    ]
    assert network.parse_links(json.dumps(rows).encode(), 812) == [
        Link("br0", 3, "bridge", addressed=True, pid=812),
        Link("vif1.0", 4, master="br0", pid=812),
        Link("v9", 5, "vlan", lower="bond0", pid=812),
        Link("p0", 6, "veth", lower_number=2, pid=812),
    ]


def test_programs_that_packets_wait_for() -> None:
    """The columns: number, reader, packets, copy mode and range, dropped twice, the last id, 1."""
    table = "    7 4242 37 2 65531 0 0 37 1\n    8 4243 0 2 65531 0 0 5 1\n"
    (held,) = network.parse_programs(table)
    assert held == Holder(What.PROGRAM, "nfqueue 7", "port id 4242", packets=37)


@given(st.text())
def test_no_table_of_programs_is_too_odd(table: str) -> None:
    network.parse_programs(table)


STATISTICS = """NIC statistics:
     rx_gso_checksum_fixup: 0
     tx_zerocopy_sent: 24
     tx_zerocopy_success: 3
     tx_zerocopy_fail: 1
     tx_frag_overflow: 0
"""


def test_what_is_lent_is_what_was_sent_and_has_not_come_back() -> None:
    assert network.parse_lent(STATISTICS) == 20
    assert network.parse_lent(STATISTICS.replace("24", "4")) == 0
    assert network.parse_lent("") == 0


@given(st.text())
def test_no_statistics_are_too_odd(statistics: str) -> None:
    assert network.parse_lent(statistics) >= 0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose tc and files the test writes."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/net").symlink_to("net:[1]")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(network, "_LOOK_S", 0.01)
    return tmp_path


def becomes(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_every_namespace_is_asked_once(host: Path) -> None:
    for pid, namespace in (("7", "net:[1]"), ("8", "net:[2]"), ("9", "net:[2]")):
        (host / f"proc/{pid}/ns").mkdir(parents=True)
        (host / f"proc/{pid}/ns/net").symlink_to(namespace)
    becomes(host / "tc", f"echo '{json.dumps([NETEM])}'")
    becomes(host / "nsenter", 'shift 2; exec "$@"')
    asked = {(queue.device, queue.pid) for queue in network.queues()}
    assert ("sink0", None) in asked
    assert len(asked) == 2


def test_a_queue_that_sends_is_no_holder(host: Path) -> None:
    """A busy card always has packets; what counts is whether they go."""
    becomes(host / "nsenter", "exit 1")
    sends = NETEM | {"dev": "eth0", "packets": 0}
    rows = json.dumps([NETEM, sends]).replace('"packets": 0', '"packets": $n')
    lines = f"n=$(cat {host}/n); echo $((n + 9)) >{host}/n\ncat <<E\n{rows}\nE"
    (host / "n").write_text("0")
    becomes(host / "tc", lines)
    assert [queue.device for queue in network.queues()] == ["sink0"]


def test_a_tc_that_fails_is_named(host: Path) -> None:
    becomes(host / "tc", "exit 3")
    with pytest.raises(OSError, match="tc failed with status 3"):
        network.queues()


def test_without_tc_that_is_said(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(host))
    monkeypatch.setattr(files, "_SBIN", ())
    with pytest.raises(OSError, match="there is no tc here"):
        network.queues()


def test_a_card_has_what_its_queues_have(host: Path) -> None:
    for device, queue, inflight in (("eth0", 0, "1514"), ("eth0", 1, "66"), ("eth1", 0, "0")):
        limits = host / f"sys/class/net/{device}/queues/tx-{queue}/byte_queue_limits"
        limits.mkdir(parents=True)
        (limits / "inflight").write_text(f"{inflight}\n")
    assert network.cards() == [Holder(What.CARD, "eth0", "card", bytes=1580)]


@pytest.mark.parametrize(
    ("bus", "driver", "bound"),
    [
        ("pci", "igb", "/sys/bus/pci/drivers/igb/it"),
        ("virtio", "virtio_net", "/sys/bus/virtio/drivers/virtio_net/it"),
        ("xen-backend", "vif", ""),  # a guest's
        (None, None, ""),
    ],
)
def test_the_driver_of_a_card_is_told(host: Path, bus: str | None, driver: str, bound: str) -> None:
    card, device = host / "sys/class/net/eth0", host / "sys/devices/it"
    (card / "queues/tx-0/byte_queue_limits").mkdir(parents=True)
    (card / "queues/tx-0/byte_queue_limits/inflight").write_text("66\n")
    if bus:
        (host / f"sys/bus/{bus}/drivers/{driver}").mkdir(parents=True)
        device.mkdir(parents=True)
        (card / "device").symlink_to("../../../devices/it")
        (device / "driver").symlink_to(f"../../bus/{bus}/drivers/{driver}")
    assert [held.driver for held in network.cards()] == [bound]


def test_a_card_that_sends_is_no_holder(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = host / "sys/class/net/eth0"
    (card / "queues/tx-0/byte_queue_limits").mkdir(parents=True)
    (card / "queues/tx-0/byte_queue_limits/inflight").write_text("66\n")
    (card / "statistics").mkdir()
    sent = card / "statistics/tx_packets"
    sent.write_text("1\n")
    assert network.cards()
    monkeypatch.setattr(time, "sleep", lambda _: sent.write_text("2\n"))
    assert network.cards() == []


def test_a_guests_interface_is_known_by_its_device(host: Path) -> None:
    for name, device in (("web", "vif-3-0"), ("eth0", "0000:00:02.0")):
        (host / "sys/class/net" / name).mkdir(parents=True)
        (host / "sys/class/net" / name / "device").symlink_to(f"../../{device}")
    (host / "sys/class/net/web/operstate").write_text("down\n")
    (host / "sys/class/net/web/ifindex").write_text("7\n")
    becomes(host / "ethtool", f"cat <<'E'\n{STATISTICS}E")
    assert network.lenders() == [Lender("web", 3, 20, down=True)]


def taps(host: Path, reads: str, number: str = "1:3") -> None:
    """A macvtap, of the device number of /dev/null, and a program that has it open."""
    (host / "sys/class/net/mvt0/tap5").mkdir(parents=True)
    (host / "sys/class/net/mvt0/tap5/dev").write_text(f"{number}\n")
    (host / "sys/class/net/eth0").mkdir()
    program = host / "proc/77"
    (program / "fd").mkdir(parents=True)
    (program / "fd/0").symlink_to("/dev/zero")
    (program / "fd/5").symlink_to("/dev/null")
    (program / "fd/6").symlink_to("socket:[9]")
    (program / "comm").write_text("qemu\n")
    (program / "io").write_text(f"rchar: 9\nwchar: 9\n{reads}\n")
    (host / "proc/78").mkdir()


def test_a_program_that_reads_nothing_from_its_macvtap_may_have_packets(host: Path) -> None:
    taps(host, "syscr: 7")
    assert network.taps() == [Holder(What.TAP, "mvt0", "qemu", reader=77)]


def test_a_program_that_reads_has_none(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taps(host, "syscr: 7")
    monkeypatch.setattr(time, "sleep", lambda _: (host / "proc/77/io").write_text("syscr: 8\n"))
    assert network.taps() == []


@pytest.mark.parametrize("number", ["1:9", "", "x:y"])
def test_another_device_is_no_macvtap(host: Path, number: str) -> None:
    taps(host, "syscr: 7", number)
    assert network.taps() == []
