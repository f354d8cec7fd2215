# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which files of which control groups are written; what the kernel does then is for the lab."""

import errno
import os
from pathlib import Path

import pytest

from xlmt.errors import XlmtError
from xlmt.kernel import cgroup


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where control groups are mounted, once a test has written the mounts."""
    monkeypatch.setattr(cgroup, "MOUNTS", tmp_path / "mounts")
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n")
    return tmp_path


def mounted(mount: Path, kind: str, options: str = "rw") -> Path:
    root = mount / kind
    root.mkdir()
    with (mount / "mounts").open("a") as mounts:
        mounts.write(f"{kind} {root} {kind} {options} 0 0\n")
    return root


def test_one_hierarchy(mount: Path) -> None:
    root = mounted(mount, "cgroup2")
    (root / "cgroup.controllers").write_text("cpuset cpu io\n")
    cgroup.limit([360])
    group = root / "xlmt-spinning"
    assert (root / "cgroup.subtree_control").read_text() == "+cpu"
    assert (group / "cpu.max").read_text() == "1000 100000"
    assert (group / "cgroup.procs").read_text() == "360"
    cgroup.limit([361])  # the group is there already
    assert (group / "cgroup.procs").read_text() == "361"


def test_other_mounts_may_have_any_name_and_hide_one(mount: Path) -> None:
    hidden = mounted(mount, "cgroup2")
    (mount / "mounts").write_bytes(
        b"x /mnt/caf\xe9 fuse rw 0 0\nx /mnt/a\xe2\x80\xa8b\rc fuse rw 0 0\n"
        + (mount / "mounts").read_bytes()
    )
    root = mounted(mount, "cgroup", "rw,cpu")
    cgroup.limit([360])
    assert (root / "xlmt-spinning/cgroup.procs").read_text() == "360"
    assert not (hidden / "xlmt-spinning").exists()


def test_a_hierarchy_for_each_controller(mount: Path) -> None:
    unified = mounted(mount, "cgroup2")
    (unified / "cgroup.controllers").write_text("\n")
    root = mounted(mount, "cgroup", "rw,cpu,cpuacct")
    cgroup.limit([360])
    group = root / "xlmt-spinning"
    assert (group / "cpu.cfs_period_us").read_text() == "100000"
    assert (group / "cpu.cfs_quota_us").read_text() == "1000"
    assert (group / "cgroup.procs").read_text() == "360"
    assert not (unified / "xlmt-spinning").exists()


def test_without_control_groups_the_error_says_how_to_get_them(mount: Path) -> None:
    mounted(mount, "cgroup", "rw,memory")
    with pytest.raises(XlmtError, match="mount -t cgroup2 none /sys/fs/cgroup"):
        cgroup.limit([360])


def test_who_has_ended_is_left_out(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, write = mounted(mount, "cgroup", "cpu"), Path.write_text

    def write_text(path: Path, text: str) -> int:
        if text == "360":
            raise ProcessLookupError
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", write_text)
    cgroup.limit([360, 361])
    assert (root / "xlmt-spinning/cgroup.procs").read_text() == "361"


@pytest.mark.parametrize(("uid", "said"), [(1000, "only root can"), (0, "Permission denied.*max")])
def test_what_is_not_permitted_is_a_matter_of_who_we_are(
    mount: Path, monkeypatch: pytest.MonkeyPatch, uid: int, said: str
) -> None:
    mounted(mount, "cgroup", "cpu")

    def write_text(path: Path, text: str) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "/sys/fs/cgroup/cpu.max")

    monkeypatch.setattr(Path, "write_text", write_text)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(XlmtError, match=said):
        cgroup.limit([360])


def test_what_the_kernel_refuses_is_told(mount: Path) -> None:
    root = mounted(mount, "cgroup", "cpu")
    (root / "xlmt-spinning").write_text("no folder")
    with pytest.raises(XlmtError, match=r"cannot limit .*xlmt-spinning"):
        cgroup.limit([360])
