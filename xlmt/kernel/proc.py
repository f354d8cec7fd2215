# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this kernel holds and runs: backend devices from sysfs, threads from proc.

Reads directory entries and proc(5) files only: nothing here takes a lock that a blocked
xenwatch may hold.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from xlmt.kernel import places
from xlmt.kernel.status import THREAD, WORKER, domid_of
from xlmt.model import Spinner, Thread

_KTHREADD = 2
_SECOND_LOOK_S = 0.25
_XENFEAT_DOM0 = 11  # xen/include/public/features.h
_device = re.compile(r"(?P<type>.+)-(?P<domid>\d+)-(?P<devid>[^-]+)")
_stat = re.compile(r"(?P<pid>\d+) \((?P<name>.*)\) (?P<state>\S) (?P<parent>\d+) ", re.DOTALL)
_watcher = re.compile(rf"xenwatch|xenbus|{THREAD}.+")
#: drivers/net/xen-netback/interface.c; the name may be cut, and the interface renamed.
_releaser = re.compile(r"(?P<interface>.+)-q\d+-d[ealoc]*")
_vif = re.compile(r"vif(\d+)\.\d+(?:-emu)?")
_frame = re.compile(r"^\[<\w+>\] ([^\s+]+)\+", re.MULTILINE)
#: proc(5): utime and stime, counted from the state on.
_TIMES = slice(11, 13)
_CPU = 36
#: The share of a CPU from which on a thread that does not sleep is a burden: more than one has that
#: was throttled, and no more than many of them have where CPUs are few.
_SPINS = 0.05


def backends() -> dict[int, tuple[str, ...]]:
    """Return the backend devices that this kernel holds, by the domid they serve.

    Names are sysfs's, "<type>-<domid>-<devid>" (drivers/xen/xenbus/xenbus_probe_backend.c).
    Raises OSError when sysfs cannot be read, or is not there.

    Both places count. What stalls a teardown may be the driver's remove(), and before that is
    called, bus_remove_device() has taken the device off its bus (drivers/base/bus.c). The device
    itself, which has no parent, is in /sys/devices until the end of device_del()
    (drivers/base/core.c).
    """
    held: dict[int, tuple[str, ...]] = {}
    for name in sorted(_on_the_bus() | {entry.name for entry in places.devices().iterdir()}):
        if match := _device.fullmatch(name):
            domid = int(match["domid"])
            held[domid] = (*held.get(domid, ()), name)
    return held


def _on_the_bus() -> set[str]:
    """Return the names of the devices on the backends' bus, none where there is no such bus."""
    try:
        return {entry.name for entry in places.backends().iterdir()}
    except FileNotFoundError:
        places.backends().parents[1].stat()  # the bus may be missing; all of sysfs may not
        return set()


def mtwatch_threads() -> dict[int, Thread]:
    """Return the kernel half's threads, by domid. Raises OSError when /proc cannot be read.

    Where one is blocked (D), all that are get a second look a moment later: `stalled_s` is how
    long they are known to have been blocked without having run once.

    Those whose domid their name does not tell are left out.
    """
    running = release()
    named = [(domid_of(thread.name, running), thread) for thread in _kernel_threads()]
    threads = {domid: thread for domid, thread in named if domid is not None}
    changes = _changes([t.pid for t in threads.values() if t.state == "D"], _SECOND_LOOK_S)
    return {domid: _judged(thread, changes) for domid, thread in threads.items()}


def watchers(seconds: float, untold_s: float) -> tuple[tuple[Thread, ...], tuple[Spinner, ...]]:
    """Return xenwatch, xenbus and all threads of the kernel half; and what spins in netback.

    If one of them is blocked or runs, there is a second look after `seconds`; and where the kernel
    does not tell for how long one has been blocked, another after `untold_s`. Raises OSError when
    /proc does not show the kernel's threads.
    """
    kthreadd = places.processes() / str(_KTHREADD) / "stat"
    if not kthreadd.exists() or "(kthreadd)" not in kthreadd.read_text(errors="replace"):
        raise FileNotFoundError(f"{places.processes()} does not show the threads of the kernel")
    seen = tuple(_kernel_threads())
    threads = [t for t in seen if _watcher.fullmatch(t.name)]
    running = [t for t in seen if t.state == "R" and _waits_for_packets(t.name)]
    blocked = [t for t in threads if t.state == "D"]
    changes = _changes([t.pid for t in (*blocked, *running)], seconds)
    spinning = [t for t in running if changes[t.pid].ran_on and changes[t.pid].cpu >= _SPINS]
    untold = [t.pid for t in blocked if changes[t.pid].stood_still and not _tells(t.pid)]
    changes |= _changes(untold, untold_s)
    return (
        tuple(_judged(thread, changes) for thread in threads),
        tuple(_spinner(thread, changes[thread.pid].cpu) for thread in spinning),
    )


def blocked(seconds: float) -> tuple[Thread, ...]:
    """Return the tasks of all kinds, the watchers apart, that are blocked for so many seconds."""
    found = [
        task
        for task in _tasks()
        if task.state == "D" and (task.name == "xenbus" or not _watcher.fullmatch(task.name))
    ]
    changes = _changes([task.pid for task in found], seconds)
    judged = (_judged(task, changes) for task in found)
    return tuple(task for task in judged if task.stalled_s)


def blocked_s(pid: int) -> float:
    """Return for how many seconds, at least, a task has not run.

    By the scheduler's clock of its CPU, which does not count what the hypervisor gave to others:
    so we go there to read it. Raises OSError, ValueError: this kernel does not tell.
    """
    stat = (places.processes() / str(pid) / "stat").read_text(errors="replace")
    fields = stat.rpartition(")")[2].split()
    if len(fields) <= _CPU:
        raise ValueError("this kernel does not tell on which CPU a task is")
    cpu = int(fields[_CPU])
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        return max(_last_ran("self") - _last_ran(str(pid)), 0.0)
    finally:
        os.sched_setaffinity(0, before)


def _tells(pid: int) -> bool:
    """Whether the kernel tells for how long a task has not run."""
    with contextlib.suppress(OSError, ValueError):
        blocked_s(pid)
        return True
    return False


def _last_ran(process: str) -> float:
    """Return when it last ran, in seconds of its CPU's clock; see kernel/sched/debug.c."""
    told = (places.processes() / process / "sched").read_text(errors="replace")
    match = re.search(r"^se\.exec_start\s*:\s*([\d.]+)", told, re.MULTILINE)
    if not match:
        raise ValueError("this kernel does not tell when a task last ran")
    ran = float(match[1]) / 1000
    if ran == float("inf"):
        raise ValueError("this is no time")
    return ran


def pid_of(name: str) -> int | None:
    """Return the process id of the kernel thread of that name."""
    return next((thread.pid for thread in _kernel_threads() if thread.name == name), None)


def switches(pid: int) -> tuple[str, ...]:
    """Return the state and how often the thread gave way, by its own will and not; see proc(5).

    Nothing once it has ended.
    """
    try:
        status = (places.processes() / str(pid) / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(re.findall(r"^(?:State|\w*ctxt_switches):\s*(\w+)", status, re.MULTILINE))


def frames(pid: int) -> tuple[str, ...]:
    """Return where a kernel thread is, the innermost function first; nothing if not to be told.

    All of it is for root; others may get the innermost from wchan, or nothing.
    """
    with contextlib.suppress(OSError):
        stack = (places.processes() / str(pid) / "stack").read_text(errors="replace")
        if found := tuple(_frame.findall(stack)):
            return found
    with contextlib.suppress(OSError):
        where = (places.processes() / str(pid) / "wchan").read_text(errors="replace").strip()
        return (where,) if where not in {"", "0"} else ()
    return ()


def runs_on_xen() -> bool:
    """Whether this kernel found a Xen hypervisor below itself."""
    try:
        return (places.hypervisor() / "type").read_text().strip() == "xen"
    except OSError:
        return False


def is_guest() -> bool:
    """Whether the hypervisor has told this kernel that it is not that of domain 0."""
    try:
        features = int((places.hypervisor() / "properties/features").read_text(), 16)
    except (OSError, ValueError):
        return False
    return not features >> _XENFEAT_DOM0 & 1


def has_patch() -> bool:
    """Whether the 2018 patch is built into this kernel, by the names of its functions.

    A module's symbols have the module's name behind them, in brackets.
    """
    try:
        symbols = (places.processes() / "kallsyms").read_bytes()
    except OSError:
        return False
    return re.search(rb" mtwatch_[\w.]+\n", symbols) is not None


def release() -> str:
    """Return the release of the kernel that runs."""
    return os.uname().release


class _Change(NamedTuple):
    """What became of a thread in a moment of `seconds`; `ran_on`: it has not slept."""

    seconds: float
    stood_still: bool
    ran_on: bool
    cpu: float


def _changes(pids: Sequence[int], seconds: float) -> dict[int, _Change]:
    """Look at these threads twice; without any, at once.

    The kernel's own hung task detector looks for the same: D, and not one switch of context.
    """
    if not pids:
        return {}
    started, before = time.monotonic(), {pid: (switches(pid), _ticks(pid)) for pid in pids}
    time.sleep(seconds)
    after = {pid: (switches(pid), _ticks(pid)) for pid in pids}
    elapsed = round(time.monotonic() - started, 3)
    per_second = os.sysconf("SC_CLK_TCK")
    return {
        pid: _Change(
            elapsed,
            before[pid][0][:1] == ("D",) and after[pid][0] == before[pid][0],
            before[pid][0][:1] == ("R",) and after[pid][0][:2] == before[pid][0][:2],
            round((after[pid][1] - before[pid][1]) / per_second / elapsed, 2) if elapsed else 0.0,
        )
        for pid in pids
    }


def _judged(thread: Thread, changes: Mapping[int, _Change]) -> Thread:
    change = changes.get(thread.pid)
    if not change or not change.stood_still:
        return thread._replace(stalled_s=0.0)
    with contextlib.suppress(OSError, ValueError):  # older than our look, where the kernel tells
        return thread._replace(stalled_s=max(change.seconds, blocked_s(thread.pid)))
    return thread._replace(stalled_s=change.seconds)


def _waits_for_packets(name: str) -> bool:
    """Whether this is a thread of netback whose interface is down; that of one that is up is busy.

    netback takes the carrier from it before it waits: drivers/net/xen-netback/interface.c,
    xenvif_disconnect_data(). Not read from "carrier", which waits for a lock in newer kernels.
    """
    match = _releaser.fullmatch(name)
    if not match:
        return False
    with contextlib.suppress(OSError):  # it may have been renamed
        return (places.interfaces() / match["interface"] / "operstate").read_text() == "down\n"
    return False


def _spinner(thread: Thread, cpu: float) -> Spinner:
    match = _releaser.fullmatch(thread.name)
    interface = match["interface"] if match else thread.name
    return Spinner(thread.name, thread.pid, interface, domid_of_interface(interface), cpu)


def domid_of_interface(interface: str) -> int | None:
    """Return whose interface this is, by the device behind it, else by its name; None: nobody's."""
    with contextlib.suppress(OSError):
        device = (places.interfaces() / interface / "device").readlink().name
        if match := _device.fullmatch(device):
            return int(match["domid"])
    vif = _vif.fullmatch(interface)
    return int(vif[1]) if vif else None


def _ticks(pid: int) -> int:
    """Return how long a thread has run, in clock ticks; 0 once it has ended."""
    try:
        stat = (places.processes() / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = stat.rpartition(")")[2].split()
    return sum(int(field) for field in fields[_TIMES] if field.isdecimal())


def _kernel_threads() -> Iterator[Thread]:
    for line in _stats():
        if thread := parse_stat(line):
            yield thread


def _tasks() -> Iterator[Thread]:
    """Yield all tasks; none that only calls itself like a thread of the kernel's, as any may."""
    for line in _stats():
        if match := _stat.match(line):
            name, of_kernel = match["name"], int(match["parent"]) == _KTHREADD
            if of_kernel or not (_watcher.fullmatch(name) or WORKER.fullmatch(name)):
                yield Thread(name, int(match["pid"]), match["state"])


def _stats() -> Iterator[str]:
    for process in places.each_process():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            yield (process / "stat").read_text(errors="replace")


def parse_stat(line: str) -> Thread | None:
    """Return the thread of a /proc/<pid>/stat, None for anything but a kernel thread.

    The name may contain spaces and brackets; it ends at the last one.
    """
    match = _stat.match(line)
    if not match or int(match["parent"]) != _KTHREADD:
        return None
    return Thread(match["name"], int(match["pid"]), match["state"])
