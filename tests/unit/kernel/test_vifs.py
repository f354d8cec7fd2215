# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which interfaces are guests', and which of them somebody listens to."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.kernel import places, vifs
from xlmt.kernel.vifs import Tap
from xlmt.model import Vif

HEAD = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Below which the kernel shows what there is."""
    monkeypatch.setattr(places, "ROOT", tmp_path)
    places.interfaces().mkdir(parents=True)
    (places.processes() / "net").mkdir(parents=True)
    return tmp_path


def interface(name: str, ifindex: str, device: str | None = None) -> None:
    folder = places.interfaces() / name
    folder.mkdir()
    (folder / "ifindex").write_text(f"{ifindex}\n")
    if device:
        (folder / "device").symlink_to(f"../../../devices/{device}")


def listening(*rows: str) -> None:
    text = HEAD + "".join(f"0000000000000000 3      {row}\n" for row in rows)
    (places.processes() / "net/packet").write_text(text)


def test_a_vif_is_known_by_its_device_whatever_it_is_called() -> None:
    interface("vif1.0", "7", "vif-1-0")
    interface("web", "8", "vif-22-1")
    interface("vif3.0-emu", "9")
    interface("eth0", "2", "0000:00:03.0")
    interface("vbd", "3", "vbd-3-51712")
    assert sorted(vifs.vifs()) == [Vif(7, "vif1.0", 1, "vif-1-0"), Vif(8, "web", 22, "vif-22-1")]


def test_what_is_odd_or_gone_is_no_vif() -> None:
    interface("a", "seven", "vif-1-0")
    interface("b", "", "vif-1-0")
    interface("c", "7", "vif-1-0-0")
    interface("d", "7", "vif-123456-0")
    (places.interfaces() / "e").symlink_to("nowhere")
    (places.interfaces() / "bonding_masters").write_text("bond0\n")
    assert vifs.vifs() == []


def test_a_vif_is_guarded_when_somebody_hears_all_of_its_packets() -> None:
    for number in range(1, 6):
        interface(f"vif{number}.0", f"{10 + number}", f"vif-{number}-0")
    listening(
        "3    0003   11    1 0      0      42",
        "3    0800   12    1 0      0      43",  # IP only: it gets them behind the bridge
        "2    0003   13    0 0      0      44",  # the interface is down; it will
        "3    0003   0     0 0      0      45",  # for all interfaces, but not at work
    )
    assert vifs.guests() == {1: True, 2: False, 3: True, 4: False, 5: False}
    listening("3    0003   0     1 0      0      45")
    assert set(vifs.guests().values()) == {True}


def test_a_guest_is_guarded_when_all_of_its_vifs_are() -> None:
    interface("vif1.0", "7", "vif-1-0")
    interface("vif1.1", "8", "vif-1-1")
    listening("3    0003   8    1 0      0      42")
    assert vifs.guests() == {1: False}


def test_a_kernel_without_packet_sockets_guards_nobody() -> None:
    interface("vif1.0", "7", "vif-1-0")
    assert vifs.guests() == {1: False}


def test_a_look_reads_only_what_is_new() -> None:
    interface("vif1.0", "7", "vif-1-0")
    interface("vif2.0", "8", "vif-2-0")
    interface("eth0", "2")
    first = vifs.look({})
    for name in ("vif1.0", "vif2.0"):
        (places.interfaces() / name / "ifindex").write_text("99\n")
    (places.interfaces() / "vif1.0").rename(places.interfaces() / "web1")
    interface("vif3.0", "9", "vif-3-0")
    assert sorted(vif for vif in vifs.look(first).values() if vif) == [
        Vif(8, "vif2.0", 2, "vif-2-0"),
        Vif(9, "vif3.0", 3, "vif-3-0"),
        Vif(99, "web1", 1, "vif-1-0"),
    ]


@given(st.text() | st.lists(st.sampled_from(["3", "0003", "-1", "x", "\n"])).map(" ".join))
def test_hostile_lines_do_no_harm(text: str) -> None:
    assert all(isinstance(tap, Tap) for tap in vifs._taps(text))
