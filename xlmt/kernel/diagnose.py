# SPDX-License-Identifier: LGPL-2.1-or-later
"""Judge one look at the kernel: who is stuck, and who suffers from it. Pure.

There are two ways to tell that a thread is stuck. The module knows for how long a callback has
run, and xenwatch has not answered; the kernel's own hung task detector, and so do we without the
module's word, looks for D and not one switch of context. The former is better: a thread may
well be in D for a second while a device is connected, and may wait for ever in S.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from xlmt.kernel.status import THREAD, USERS_THREAD, Share, Status, domid_of, is_users
from xlmt.model import Doing, Spinner, Thread

#: A callback that takes longer is stuck. Connecting a slow disk takes a second or two, and libxl
#: gives up after ten.
STUCK_S = 5.0

XENWATCH = "xenwatch"
#: Reads the answers of xenstored, all of them: without it xenwatch looks idle for ever.
XENBUS = "xenbus"


class Half(StrEnum):
    """What in this kernel reads the nodes: our module, the patch of 2018, or nothing."""

    MODULE = "module"
    BUILTIN = "builtin"
    NONE = "none"


class Serves(StrEnum):
    """Whom a thread of the kernel half serves: a guest, domain 0's own devices, or programs."""

    GUEST = "guest"
    DOMAIN_0 = "domain-0"
    PROGRAMS = "programs"


class Verdict(StrEnum):
    """How things stand; `exposed`: nothing is stuck, but one guest could take the host.

    `silent`: it is xenstored that does not answer, so that the kernel can do nothing.
    """

    HEALTHY = "healthy"
    EXPOSED = "exposed"
    STALLED = "stalled"
    SILENT = "silent"
    CONTAINED = "contained"
    GONE = "gone"
    UNKNOWN = "unknown"


class View(NamedTuple):
    """One look at the kernel. `threads` is None, as is `status`, when it could not be read.

    `in_guest`: it is not domain 0's, but has a xenwatch as well, and a driver domain has backends.
    `parameters` are the module's, as sysfs has them; `frames` is where stuck threads are, by
    process id, the innermost function first; `guests` are the domids that the kernel has devices
    for, and `names` what they are called. `xenbus` is whether that thread is there.
    """

    release: str = ""
    in_guest: bool = False
    half: Half = Half.NONE
    version: str | None = None
    parameters: Mapping[str, str] = MappingProxyType({})
    status: Status | None = None
    threads: tuple[Thread, ...] | None = ()
    spinners: tuple[Spinner, ...] = ()
    guests: frozenset[int] = frozenset()
    names: Mapping[int, str] = MappingProxyType({})
    frames: Mapping[int, tuple[str, ...]] = MappingProxyType({})
    problems: tuple[str, ...] = ()
    xenbus: bool = True


class Watcher(NamedTuple):
    """xenwatch, or a thread of the kernel half; `share` is what the module keeps of the latter.

    `domid` of xenwatch is that of the callback it is in. `still_s` is for how long it is known
    to have been in D without running, `silent_s` how long it has owed the module an answer.
    """

    name: str
    domid: int | None = None
    pid: int | None = None
    state: str | None = None
    doing: Doing | None = None
    still_s: float = 0.0
    silent_s: float | None = None
    share: Share | None = None

    @property
    def stuck_s(self) -> float:
        """For how many seconds, at least, it has been stuck; 0 when it is not."""
        told = max(self.doing.age_s if self.doing else 0.0, self.silent_s or 0.0)
        if told >= STUCK_S:
            return max(told, self.still_s)  # it may have been before the module came and asked
        # A callback that has just begun is at work, however blocked. That xenwatch has owed an
        # answer for a moment says nothing: the module may have asked only now. And a busy host's
        # is blocked for a second or two, by a lock of the network's or a slow disk.
        return 0.0 if self.doing or self.still_s < STUCK_S else self.still_s


# --- threads -------------------------------------------------------------------------------


def serves(thread: str) -> Serves:
    """Return whom a thread of the kernel half serves, by its name."""
    if is_users(thread):
        return Serves.PROGRAMS
    return Serves.DOMAIN_0 if thread == f"{THREAD}0" else Serves.GUEST


def xenwatch(view: View) -> Watcher | None:
    """Return the thread that stock Linux does everything in; None when there is none."""
    thread = next((t for t in view.threads or () if t.name == XENWATCH), None)
    if thread is None:
        return None
    if view.status is None:
        return Watcher(XENWATCH, None, thread.pid, thread.state, None, thread.stalled_s)
    told = view.status.xenwatch
    return Watcher(
        name=XENWATCH,
        domid=told.domid if told.doing else None,
        pid=thread.pid,
        state=thread.state,
        doing=told.doing,
        still_s=thread.stalled_s,
        silent_s=told.silent_s,
    )


def watchers(view: View) -> tuple[Watcher, ...]:
    """Return the threads of the kernel half, the most stuck first and then by domid.

    The module's word on which thread is whose goes first: names may be cut.
    """
    by_pid = {t.pid: t for t in view.threads or () if t.name.startswith(THREAD)}
    shares = view.status.domains if view.status else ()
    told = [_of_share(share, by_pid.get(share.pid or 0)) for share in shares]
    known = {watcher.pid for watcher in told}
    seen = [_of_thread(thread, view.release) for pid, thread in by_pid.items() if pid not in known]
    return tuple(sorted([*told, *seen], key=lambda w: (-w.stuck_s, w.domid or 0, w.name)))


def _of_share(share: Share, thread: Thread | None) -> Watcher:
    return Watcher(
        name=USERS_THREAD if share.domid is None else f"{THREAD}{share.domid}",
        domid=share.domid,
        pid=share.pid,
        state=thread.state if thread else None,
        doing=share.doing,
        still_s=thread.stalled_s if thread else 0.0,
        share=share,
    )


def _of_thread(thread: Thread, release: str) -> Watcher:
    return Watcher(
        name=thread.name,
        domid=domid_of(thread.name, release),
        pid=thread.pid,
        state=thread.state,
        doing=thread.doing,
        still_s=thread.stalled_s,
    )


def everybody(view: View) -> tuple[Watcher, ...]:
    """Return xenwatch, if it is there, and then the threads of the kernel half."""
    main = xenwatch(view)
    return (*([main] if main else []), *watchers(view))


def stuck(view: View) -> tuple[Watcher, ...]:
    """Return those of them that are stuck, in the same order."""
    return tuple(watcher for watcher in everybody(view) if watcher.stuck_s)


# --- verdict -------------------------------------------------------------------------------


def judge(view: View) -> Verdict:
    """Return how things stand, the worst first."""
    if view.threads is None:
        return Verdict.UNKNOWN
    main = xenwatch(view)
    if main is None or not view.xenbus:
        return Verdict.GONE
    if main.stuck_s:
        return Verdict.STALLED
    if store_silent_s(view) >= STUCK_S:
        return Verdict.SILENT
    if stuck(view):
        return Verdict.CONTAINED
    return Verdict.HEALTHY if protects(view) else Verdict.EXPOSED


def store_silent_s(view: View) -> float:
    """Return for how many seconds xenstored has owed the module an answer."""
    return (view.status.module.store_silent_s if view.status else None) or 0.0


def protects(view: View) -> bool:
    """Whether the kernel half is there and at work, as far as can be told."""
    match view.half:
        case Half.MODULE:
            return state_of_module(view) == "on"
        case Half.BUILTIN:  # and may be switched off, by a parameter of the kernel
            return bool(watchers(view)) or not view.guests
        case Half.NONE:
            return False


def state_of_module(view: View) -> str:
    """Return the module's own word; without it, what its parameter `enabled` was set to."""
    if view.status and view.status.module.state:
        return view.status.module.state
    return "off" if view.parameters.get("enabled") in {"0", "N"} else "on"
