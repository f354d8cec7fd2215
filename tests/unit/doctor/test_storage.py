# SPDX-License-Identifier: LGPL-2.1-or-later
"""Block devices as sysfs shows them: what is on what, what stands, and whose it is."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.doctor import storage
from xlmt.kernel import places


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(storage, "_LOOK_S", 0.01)
    places.blocks().mkdir(parents=True)
    return tmp_path


def disk(name: str, number: str, inflight: str = "0", **files: str) -> Path:
    """Make a disk; a file's name has "__" for "/"."""
    folder = places.blocks() / name
    folder.mkdir()
    told = {"dev": number, "inflight": f"0 {inflight}", "stat": "7 0 0 0 5 0 0 0 0 0 0", **files}
    for file, text in told.items():
        path = folder / file.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return folder


def is_on(upper: Path, lower: Path) -> None:
    (upper / "slaves").mkdir(exist_ok=True)
    (upper / "slaves" / lower.name).symlink_to(lower)


def is_of(domid: int, number: str) -> None:
    folder = places.devices() / f"vbd-{domid}-51712"
    folder.mkdir(parents=True)
    (folder / "physical_device").write_text(f"{number}\n")


def test_a_suspended_disk_below_a_loop_device(root: Path) -> None:
    lower = disk("dm-0", "fd:0", dm__name="stall", dm__suspended="1")
    is_on(lower, disk("loop1", "7:1", loop__backing_file="/run/stall"))
    disk("loop4", "7:4", "4", loop__backing_file="/run/x/img")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n36 22 fd:0 / /run/x rw - ext4 /dev/dm-0 rw\n"
    )
    is_of(3, "7:4")
    told = storage.disks()
    assert (told["dm-0"].state, told["dm-0"].detail, told["dm-0"].below) == (
        "suspended",
        "stall",
        ("loop1",),
    )
    assert told["loop4"].stands
    assert told["loop4"].guests == {3}
    assert told["loop4"].below == ("dm-0",)
    assert told["loop4"].detail == "on /run/x/img (ext4 at /run/x)"
    assert told["dm-0"].used
    assert not told["loop4"].used


def test_a_number_in_hexadecimal_is_told_to_its_disk() -> None:
    """blkback writes them so: drivers/block/xen-blkback/xenbus.c."""
    disk("dm-10", "254:10")
    is_of(5, "fe:a")
    assert storage.disks()["dm-10"].guests == {5}


def test_a_partition_is_of_its_disk() -> None:
    whole = disk("sda", "8:0")
    (whole / "sda1").mkdir()
    (whole / "sda1/dev").write_text("8:1\n")
    (whole / "sda1/partition").write_text("1\n")
    upper = disk("dm-0", "254:0", dm__name="vg-web", dm__suspended="0")
    (upper / "slaves").mkdir()
    (upper / "slaves/sda1").symlink_to(whole / "sda1")
    is_of(2, "8:1")
    told = storage.disks()
    assert told["dm-0"].below == ("sda",)
    assert told["sda"].guests == {2}


@pytest.mark.parametrize(
    ("name", "files", "state"),
    [
        ("nbd0", {"size": "2048"}, "without server"),
        ("nbd0", {"size": "2048", "pid": "99"}, ""),
        ("nbd1", {"size": "0"}, ""),
        ("sda", {"device__state": "transport-offline"}, "transport-offline"),
        ("sda", {"device__state": "running"}, ""),
        ("md0", {"md__array_state": "suspended", "md__level": "raid1"}, "suspended"),
        ("md0", {"md__array_state": "clean", "md__level": "raid1"}, ""),
        ("dm-0", {"dm__name": "x", "dm__suspended": "0"}, ""),
    ],
)
def test_a_disk_that_does_not_work_says_so(name: str, files: dict[str, str], state: str) -> None:
    disk(name, "9:0", **files)
    assert storage.disks()[name].state == state


def test_an_iscsi_session_that_is_down_is_told(root: Path) -> None:
    folder = disk("sdb", "8:16")
    device = root / "sys/devices/platform/host3/session5/target3:0:0/3:0:0:1"
    device.mkdir(parents=True)
    (device / "state").write_text("running\n")
    (folder / "device").symlink_to(device)
    session = places.classes() / "iscsi_session/session5"
    session.mkdir(parents=True)
    (session / "state").write_text("FAILED\n")
    assert storage.disks()["sdb"].state == "iSCSI session5 failed"
    (session / "state").write_text("LOGGED_IN\n")
    assert storage.disks()["sdb"].state == ""


def test_a_disk_that_is_suspended_for_a_moment_is_none_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changing = disk("dm-0", "254:0", dm__name="vg-web", dm__suspended="0")
    monkeypatch.setattr(time, "sleep", lambda _: (changing / "dm/suspended").write_text("1\n"))
    assert storage.disks()["dm-0"].state == ""


def test_what_dom0_has_of_a_disk_is_found_by_its_node(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """btrfs is mounted under a number that is no disk's; swap is not mounted at all."""
    monkeypatch.setattr(storage, "_number_of", {"/dev/nbd0": "43:0"}.get)
    disk("nbd0", "43:0")
    (root / "proc/self").mkdir(parents=True)
    files = {"proc/self/mountinfo": "36 22 0:35 / /srv rw - btrfs /dev/nbd0 rw\n"}
    files["proc/swaps"] = "Filename Type Size\n/dev/nbd0 partition 9 0 -2\n"
    for file, text in files.items():
        assert not storage.disks()["nbd0"].used
        (root / file).write_text(text)
        assert storage.disks()["nbd0"].used
        (root / file).unlink()
    (root / "proc/77/fd").mkdir(parents=True)
    (root / "proc/77/fd/3").symlink_to("/dev/nbd0")
    assert storage.disks()["nbd0"].used
    (root / "proc/77/comm").write_text("nbd-client\n")  # which serves it
    assert not storage.disks()["nbd0"].used


def test_requests_that_end_are_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = disk("sda", "8:0", "9")
    monkeypatch.setattr(
        time, "sleep", lambda _: (busy / "stat").write_text("8 0 0 0 5 0 0 0 0 0 0\n")
    )
    told = storage.disks()["sda"]
    assert (told.requests, told.stands) == (9, False)


FILES = st.sampled_from(["stat", "inflight", "dev", "loop__backing_file"])


@given(st.dictionaries(FILES, st.text()))
def test_no_file_is_too_odd(files: dict[str, str]) -> None:
    folder = places.blocks() / "loop0"
    for old in folder.rglob("*"):
        if old.is_file():
            old.unlink()
    for file, text in files.items():
        path = folder / file.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    storage.disks()
