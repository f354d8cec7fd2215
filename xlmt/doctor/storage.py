# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domain 0's block devices: which are on which, which do not answer, and whose they are.

All from sysfs and /proc/self/mountinfo: no disk and no file system is asked itself.
"""

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from xlmt.doctor.holders import Disk
from xlmt.kernel import places

#: From one look at the counters to the next; a disk that works ends a request in less.
_LOOK_S = 1.0
#: These have a disk open to serve it.
_SERVERS = {"nbd-client"}
_vbd = re.compile(r"vbd-(?P<domid>\d+)-\d+")
#: Words of drivers/scsi/scsi_sysfs.c and of drivers/md/md.c for what does not answer.
_SCSI_STOPPED = {"offline", "transport-offline", "blocked", "created-blocked", "quiesce", "deleted"}
_MD_STOPPED = {"suspended", "inactive", "broken"}


class _Mount(NamedTuple):
    point: str
    device: str  # major:minor; of btrfs and others it is no disk's
    kind: str
    source: str


def disks() -> dict[str, Disk]:
    """Return the block devices, by name. Raises OSError where there is no such folder."""
    found = sorted(places.blocks().iterdir())
    before = {disk.name: _counters(disk) for disk in found}
    working = {disk.name for disk in found if places.text(disk / "dm/suspended") == "0"}
    time.sleep(_LOOK_S)
    after = {disk.name: _counters(disk) for disk in found}
    mounts = [*_mounts()]
    names = {
        places.text(part / "dev"): disk.name for disk in found for part in (disk, *_parts(disk))
    }
    owners, used = _owners(names), _used(names, mounts)
    told = {}
    for disk in found:
        (ended, inflight), (ended_now, inflight_now) = before[disk.name], after[disk.name]
        one = _disk(disk, names, mounts)._replace(
            requests=inflight_now,
            stands=min(inflight, inflight_now) > 0 and ended == ended_now,
            guests=frozenset(owners.get(disk.name, ())),
            used=disk.name in used,
        )
        # LVM suspends a device for a moment whenever it changes one
        told[disk.name] = one._replace(state="") if disk.name in working else one
    return told


def _parts(disk: Path) -> list[Path]:
    """Return the partitions of a disk."""
    return [entry for entry in _entries(disk) if (entry / "partition").exists()]


def _counters(disk: Path) -> tuple[int, int]:
    """Return how many requests have ended, and how many are in flight.

    Of reads, writes, discards and flushes: Documentation/admin-guide/iostats.rst.
    """
    fields = [int(field) for field in places.text(disk / "stat").split() if field.isdecimal()]
    ended = sum(fields[i] for i in (0, 4, 11, 15) if i < len(fields))
    with suppress(ValueError):
        return ended, sum(map(int, places.text(disk / "inflight").split()))
    return ended, 0


def _disk(disk: Path, names: dict[str, str], mounts: list[_Mount]) -> Disk:
    lower = (
        names.get(places.text(entry / "dev"), entry.name) for entry in _entries(disk / "slaves")
    )
    below = tuple(sorted(lower))
    if name := places.text(disk / "dm/name"):
        suspended = places.text(disk / "dm/suspended") == "1"
        return Disk(disk.name, "dm", below, state="suspended" if suspended else "", detail=name)
    if told := places.text(disk / "md/array_state"):
        state = told if told in _MD_STOPPED else ""
        return Disk(disk.name, "md", below, state=state, detail=places.text(disk / "md/level"))
    if file := places.text(disk / "loop/backing_file"):
        on, where = _of_file(file, names, mounts)
        return Disk(disk.name, "loop", on, detail=where)
    if disk.name.startswith("nbd"):
        open_, served = places.text(disk / "size") != "0", (disk / "pid").exists()
        return Disk(disk.name, "nbd", state="without server" if open_ and not served else "")
    if told := places.text(disk / "device/state"):
        session = _session(disk)
        state = told if told in _SCSI_STOPPED else session
        return Disk(disk.name, "scsi", state=state)
    return Disk(disk.name)


def _session(disk: Path) -> str:
    """Return that the iSCSI session of a disk is down, nothing where it is not, or has none."""
    with suppress(OSError):
        for part in (disk / "device").resolve().parts:
            if re.fullmatch(r"session\d+", part):
                state = places.text(places.classes() / "iscsi_session" / part / "state")
                return "" if state in {"", "LOGGED_IN"} else f"iSCSI {part} {state.lower()}"
    return ""


def _of_file(file: str, names: dict[str, str], mounts: list[_Mount]) -> tuple[tuple[str, ...], str]:
    """Return what a loop device's file is on, and where that is in words."""
    if number := _number_of(file):
        return tuple(filter(None, [names.get(number)])), f"on {file}"
    on = [mount for mount in mounts if (file + "/").startswith(mount.point.rstrip("/") + "/")]
    if not on:
        return (), f"on {file}"
    last = max(on, key=lambda mount: len(mount.point))
    lower = names.get(last.device)
    return (lower,) if lower else (), f"on {file} ({last.kind} at {last.point})"


def _mounts() -> Iterator[_Mount]:
    """Yield what is mounted where; see proc_pid_mountinfo(5)."""
    for line in places.text(places.processes() / "self/mountinfo").splitlines():
        fields = line.split()
        if "-" in fields[6:] and len(fields) > (dash := fields.index("-", 6)) + 1:
            source = fields[dash + 2] if len(fields) > dash + 2 else ""
            yield _Mount(_unescaped(fields[4]), fields[2], fields[dash + 1], _unescaped(source))


def _used(names: dict[str, str], mounts: list[_Mount]) -> set[str]:
    """Return the disks that dom0 has itself: mounted, as swap space, or open in a program.

    What the kernel alone has open, for a guest or for a disk on top of it, is not among these.
    """
    used = {names.get(mount.device, "") for mount in mounts}
    paths = {mount.source for mount in mounts}
    paths |= {
        line.split(" ")[0] for line in places.text(places.processes() / "swaps").splitlines()[1:]
    }
    for process in _entries(places.processes()):
        if process.name.isdecimal() and places.text(process / "comm") not in _SERVERS:
            for descriptor in _entries(process / "fd"):
                with suppress(OSError):
                    paths.add(str(descriptor.readlink()))
    return used | {names.get(_number_of(path), "") for path in paths}


def _number_of(path: str) -> str:
    """Return the number of a block device by its node, which no disk has to be asked for."""
    if path.startswith("/dev/"):
        with suppress(OSError):
            told = Path(path).stat()
            if stat.S_ISBLK(told.st_mode):
                return f"{os.major(told.st_rdev)}:{os.minor(told.st_rdev)}"
    return ""


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _owners(names: dict[str, str]) -> dict[str, set[int]]:
    """Return whose disks these are: blkback says by the number which one it has opened."""
    owners: dict[str, set[int]] = {}
    for device in places.devices().glob("vbd-*"):
        match = _vbd.fullmatch(device.name)
        major, _, minor = places.text(device / "physical_device").partition(":")
        with suppress(ValueError):
            number = f"{int(major, 16)}:{int(minor, 16)}"
            name = names.get(number)
            if match and name:
                owners.setdefault(name, set()).add(int(match["domid"]))
    return owners


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []
