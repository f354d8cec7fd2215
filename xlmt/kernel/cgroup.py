# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel threads that spin are kept from the CPU, by a control group: see cgroups(7).

Not by their priority: what is idle to dom0's kernel still keeps a virtual CPU of dom0 busy, which
the hypervisor then takes from the guests.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from xlmt.errors import XlmtError

MOUNTS = Path("/proc/self/mounts")
PERCENT = 1
_NAME = "xlmt-spinning"
#: The kernel's own period, and the smallest quota that it takes.
_PERIOD_US, _QUOTA_US = 100_000, 1_000


def limit(pids: Iterable[int]) -> None:
    """Leave these threads PERCENT of a CPU together, for as long as they live.

    Who has ended is left out. Raises XlmtError.
    """
    try:
        group = _group()
        for pid in pids:
            try:
                (group / "cgroup.procs").write_text(str(pid))
            except ProcessLookupError:
                continue
    except OSError as e:
        # A file that is not there cannot be made there: that is EACCES for root as well.
        why = "only root can" if os.geteuid() else f"{e}"
        raise XlmtError(f"cannot limit the spinning netback thread: {why}") from None


def _group() -> Path:
    """Make the group, which stays: it has one name, and is nothing without threads."""
    for mount in os.fsdecode(MOUNTS.read_bytes()).split("\n")[:-1]:
        _, place, kind, options, *_ = mount.split(" ")
        root = Path(place)
        if kind == "cgroup2" and "cpu" in _controllers(root):
            (root / "cgroup.subtree_control").write_text("+cpu")
            return _made(root, {"cpu.max": f"{_QUOTA_US} {_PERIOD_US}"})
        if kind == "cgroup" and "cpu" in options.split(","):
            quota = {"cpu.cfs_period_us": f"{_PERIOD_US}", "cpu.cfs_quota_us": f"{_QUOTA_US}"}
            return _made(root, quota)
    raise XlmtError(
        "cannot limit the spinning netback thread: no CPU control group is mounted; "
        "try: mount -t cgroup2 none /sys/fs/cgroup"
    )


def _controllers(root: Path) -> list[str]:
    """Return the controllers of this hierarchy; none if something is mounted over it."""
    try:
        return (root / "cgroup.controllers").read_text().split()
    except FileNotFoundError:
        return []


def _made(root: Path, limits: dict[str, str]) -> Path:
    group = root / _NAME
    group.mkdir(exist_ok=True)
    for name, value in limits.items():
        (group / name).write_text(value)
    return group
