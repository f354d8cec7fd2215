# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this kernel holds and runs: backend devices from sysfs, threads from proc.

Reads directory entries and proc(5) files only: nothing here takes a lock that a blocked
xenwatch may hold.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from xlmt.model import Thread

BACKENDS = Path("/sys/bus/xen-backend/devices")
DEVICES = Path("/sys/devices")
_PROC = Path("/proc")
_KTHREADD = 2
_SECOND_LOOK_S = 0.25
_FULL_THREAD_NAMES = (5, 17)  # Linux d6986ce24fc0 "kthread: dynamically allocate memory …"
_device = re.compile(r"(?P<type>.+)-(?P<domid>\d+)-(?P<devid>[^-]+)")
_stat = re.compile(r"(?P<pid>\d+) \((?P<name>.*)\) (?P<state>\S) (?P<parent>\d+) ", re.DOTALL)


def backends() -> dict[int, tuple[str, ...]]:
    """Return the backend devices that this kernel holds, by the domid they serve.

    Names are sysfs's, "<type>-<domid>-<devid>" (drivers/xen/xenbus/xenbus_probe_backend.c).
    Raises OSError when sysfs cannot be read, or is not there.

    Both places count. What stalls a teardown may be the driver's remove(), and before that is
    called, bus_remove_device() has taken the device off its bus (drivers/base/bus.c). The device
    itself, which has no parent, is in DEVICES until the end of device_del() (drivers/base/core.c).
    """
    held: dict[int, tuple[str, ...]] = {}
    for name in sorted(_on_the_bus() | {entry.name for entry in DEVICES.iterdir()}):
        if match := _device.fullmatch(name):
            domid = int(match["domid"])
            held[domid] = (*held.get(domid, ()), name)
    return held


def _on_the_bus() -> set[str]:
    """Return the names of the devices on the backends' bus, none where there is no such bus."""
    try:
        return {entry.name for entry in BACKENDS.iterdir()}
    except FileNotFoundError:
        BACKENDS.parents[1].stat()  # the bus may be missing; all of sysfs may not
        return set()


def mtwatch_threads() -> dict[int, Thread]:
    """Return the kernel half's threads, by domid. Raises OSError when /proc cannot be read.

    Where one is blocked (D), all that are get a second look a moment later: `stalled_s` is how
    long they are known to have been blocked without having run once.

    Before Linux 5.17 a kernel thread's name is cut after 15 characters, which leaves three
    digits of the domid: names of that length are ambiguous there and are left out.
    """
    cut = _release() < _FULL_THREAD_NAMES
    threads = {}
    for thread in _kernel_threads():
        prefix, _, domid = thread.name.rpartition("-")
        if prefix == "xen-mtwatch" and domid.isdecimal() and not (cut and len(thread.name) >= 15):
            threads[int(domid)] = thread
    stalled = _stalled(thread.pid for thread in threads.values() if thread.state == "D")
    return {d: replace(t, stalled_s=stalled.get(t.pid, 0.0)) for d, t in threads.items()}


def _stalled(pids: Iterable[int]) -> dict[int, float]:
    """Return for how many seconds these threads have stood still, as far as a moment can tell.

    The kernel's own hung task detector looks for the same: D, and not one switch of context.
    """
    started, before = time.monotonic(), {pid: _switches(pid) for pid in pids}
    if not before:
        return {}
    time.sleep(_SECOND_LOOK_S)
    still = [
        pid for pid, count in before.items() if count[:1] == ("D",) and _switches(pid) == count
    ]
    elapsed = round(time.monotonic() - started, 3)
    return dict.fromkeys(still, elapsed)


def _switches(pid: int) -> tuple[str, ...]:
    """Return the state and the counts of context switches; nothing once the thread has ended."""
    try:
        status = (_PROC / str(pid) / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(re.findall(r"^(?:State|\w*ctxt_switches):\s*(\w+)", status, re.MULTILINE))


def _release() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def _kernel_threads() -> Iterator[Thread]:
    for process in _PROC.iterdir():
        if not process.name.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end meanwhile
            thread = parse_stat((process / "stat").read_text(errors="replace"))
            if thread:
                yield thread


def parse_stat(line: str) -> Thread | None:
    """Return the thread of a /proc/<pid>/stat, None for anything but a kernel thread.

    The name may contain spaces and brackets; it ends at the last one.
    """
    match = _stat.match(line)
    if not match or int(match["parent"]) != _KTHREADD:
        return None
    return Thread(match["name"], int(match["pid"]), match["state"])
