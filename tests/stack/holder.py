# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds a stack's mount namespace open, and takes everything in it along when it ends.

Run under `unshare --mount`, with its standard input a pipe from the test process: the pipe's
end, even by SIGKILL of the test process, is the end of the stack. Says "ready" when mounted.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import time
from pathlib import Path

SYSFS = ("/sys/bus", "/sys/devices")
EMPTY = ("/run", "/var/log", "/var/lib/xen", "/var/lib/xenstored", "/var/lib/xlmt", *SYSFS)
FOLDERS = (
    "/run/lock",
    "/run/xen",
    "/run/xenstored",
    "/run/fakexen/doms",
    "/run/fakexen/faults",
    "/var/log/xen",
    "/sys/bus/xen-backend/devices",
)
MS_BIND = 4096
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def furnish() -> None:
    """Empty places where Xen's programs write; a copy of /etc/xen with scripts that do nothing."""
    for folder in EMPTY:
        if folder not in SYSFS:
            Path(folder).mkdir(parents=True, exist_ok=True)
        mount("none", folder, "tmpfs")
    for folder in FOLDERS:
        Path(folder).mkdir(parents=True)
    etc = Path("/run/etc-xen")
    if Path("/etc/xen").is_dir():
        shutil.copytree("/etc/xen", etc, symlinks=True)
        mount(str(etc), "/etc/xen", "none", MS_BIND)
        for script in (etc / "scripts").iterdir() if (etc / "scripts").is_dir() else ():
            # The real ones would set up the machine's own network and loop devices.
            script.unlink()
            script.symlink_to("/bin/true")


def neighbours(namespace: str) -> list[int]:
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):  # noqa: PTH208
        try:
            if pid != os.getpid() and os.readlink(f"/proc/{pid}/ns/mnt") == namespace:  # noqa: PTH115
                found.append(pid)
        except OSError:
            continue  # gone meanwhile
    return found


def reap(deadline: float) -> None:
    """Kill whoever lives in this namespace, daemonised or not, until nobody is left."""
    namespace = os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
    pause = 0.001
    while (pids := neighbours(namespace)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def main() -> None:
    furnish()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    reap(time.monotonic() + 10)


if __name__ == "__main__":
    main()
