# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a call trace means: who waits there for whom, and what becomes of the host. Pure.

The innermost function that belongs to a driver decides. `frontend_changed` and `backend_changed`
exist in several modules, so they never do. The functions are of Linux 2.6.32 to 7.x:
drivers/xen/xenbus, xen-pciback, xen-scsiback.c, net/xen-netback and block/xen-blkback.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from xlmt.doctor.traces import Report, Trace
from xlmt.kernel.diagnose import Serves, serves
from xlmt.kernel.status import THREAD, WORKER


class Kind(StrEnum):
    """What a task waits for, or what has become of it."""

    NETBACK_INFLIGHT = "netback-inflight"
    BLKBACK_IO = "blkback-io"
    BLKBACK_GRANTS = "blkback-grants"
    SCSIBACK = "scsiback"
    PCIBACK = "pciback"
    RTNL_LOCK = "rtnl-lock"
    MEMORY_RECLAIM = "memory-reclaim"
    XENBUS_TRANSACTION = "xenbus-transaction"
    XENSTORED_SILENT = "xenstored-silent"
    XENBUS_GONE = "xenbus-gone"
    XENWATCH_GONE = "xenwatch-gone"
    BACKEND_GONE = "backend-gone"
    XENWATCH_MUTEX = "xenwatch-mutex"
    DOMU_SIDE = "domU-side"
    PROGRAMS = "xenbus-programs"
    OWN_DEVICES = "own-devices"
    NOT_A_STALL = "not-a-stall"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """What is to be said of the task.

    `stall`: xenwatch or xenbus does not go on, so the host does not; `contained`: one guest's own
    thread; `will-stall`: a backend's worker, for which xenwatch will wait as soon as that device is
    torn down; `collateral`: waits for xenwatch, or for xenstored.
    """

    STALL = "stall"
    CONTAINED = "contained"
    WILL_STALL = "will-stall"
    GONE = "gone"
    COLLATERAL = "collateral"
    NO = "no"


class Cause(NamedTuple):
    """`decided_by` is the function that decided; None where none did."""

    kind: Kind
    verdict: Verdict
    decided_by: str | None = None


class _Role(StrEnum):
    """What a task is to the host."""

    XENWATCH = "xenwatch"
    XENBUS = "xenbus"
    OF_GUEST = "of a guest"  # a thread of the kernel half
    OF_DOMAIN_0 = "of domain 0"  # another, for its own devices
    OF_PROGRAMS = "of programs"  # another, for those that watch by /dev/xen/xenbus
    WORKER = "worker"  # a backend's own
    OTHER = "other"


_ROLE_BY_FRAME = {
    "xenwatch_thread": _Role.XENWATCH,
    "xenbus_thread": _Role.XENBUS,
    "mtw_dom_thread": _Role.OF_GUEST,
    "xen_blkif_schedule": _Role.WORKER,
    "xenvif_kthread_guest_rx": _Role.WORKER,
    "xenvif_dealloc_kthread": _Role.WORKER,
}
_OF_THREAD = {
    Serves.GUEST: _Role.OF_GUEST,
    Serves.DOMAIN_0: _Role.OF_DOMAIN_0,
    Serves.PROGRAMS: _Role.OF_PROGRAMS,
}
#: What such a thread waits for where no function of a driver tells it.
_UNNAMED = {_Role.OF_DOMAIN_0: Kind.OWN_DEVICES, _Role.OF_PROGRAMS: Kind.PROGRAMS}
#: These are of frontends, so the kernel is a guest's. A guest resumes its devices in its xenwatch.
_FRONTEND = re.compile(
    r"(?:blkback|netback)_changed|talk_to_blkback|blkfront_\w+|"
    r"xlvbd_\w+|xennet_\w+|netfront_\w+|talk_to_netback|pcifront_\w+|async_synchronize_\w+|"
    r"xen_drm_front\w*|scsifront_\w+|dpm_resume\w*"
)
#: By the innermost function that one of these names. What waits inside comes before whom for.
_WAITS = (
    (
        Kind.MEMORY_RECLAIM,
        r"(?:do_)?try_to_free_pages|shrink_(?:zone|node|list|page_list|folio_list)|"
        r"throttle_direct_reclaim|out_of_memory",
    ),
    (Kind.RTNL_LOCK, r"rtnl_lock\w*"),
    (Kind.XENSTORED_SILENT, r"xs_talkv|xs_wait_for_reply|read_reply|xenbus_dev_request_and_reply"),
    (Kind.XENWATCH_MUTEX, r"(?:un)?register_xenbus_watch|xenbus_watch_path\w*|xs_suspend"),
    (
        Kind.BLKBACK_GRANTS,
        r"gnttab_unmap_refs_sync|(?:xen_)?free_persistent_gnts|xen_blkbk_free_caches|"
        r"xen_blkbk_unmap_purged_grants",
    ),
    (Kind.NETBACK_INFLIGHT, r"xenvif_(?:disconnect\w*|deinit_queue|free|dealloc_kthread\w*)"),
    (
        Kind.BLKBACK_IO,
        r"xen_blkif_(?:disconnect|schedule|free)|xen_blkbk_remove|blkback_remove|"
        r"dispatch_rw_block_io|_?_?do_block_io_op|xen_vbd_\w+",
    ),
    (Kind.SCSIBACK, r"scsiback_\w+"),
    (Kind.PCIBACK, r"xen_pcibk_\w+|pcistub_\w+|pciback_\w+"),
)
_KINDS = tuple((kind, re.compile(pattern)) for kind, pattern in _WAITS)
#: What these threads are in when they have nothing to do.
_IDLE = re.compile(
    r"_?_?schedule|schedule_timeout|wait_woken|xb_read|xb_wait_for_data_to_read|xenwatch_thread|"
    r"xenbus_thread|mtw_dom_thread|kthread|ret_from_fork\w*|child_rip|kernel_thread_helper"
)
_WORKERS_KINDS = {Kind.NETBACK_INFLIGHT, Kind.BLKBACK_IO, Kind.BLKBACK_GRANTS, Kind.MEMORY_RECLAIM}
_NOTHING = Cause(Kind.NOT_A_STALL, Verdict.NO)


def cause_of(trace: Trace) -> Cause:
    """Return what the trace means for the host that it is of."""
    if any("::" in frame for frame in trace.frames):  # no C: another system's xenwatch
        return _NOTHING
    role = _role_of(trace)
    frontend = _first(_FRONTEND, trace.frames)
    if frontend and role is not _Role.OF_DOMAIN_0:
        return Cause(Kind.DOMU_SIDE, Verdict.NO, frontend)
    if trace.report is Report.WARNING:
        return _NOTHING
    if trace.report is Report.CRASH:
        return _of_crash(role)
    if all(_IDLE.fullmatch(frame) for frame in trace.frames):
        return _NOTHING
    return _of_wait(role, trace)


def _of_crash(role: _Role) -> Cause:
    match role:
        case _Role.XENWATCH:
            return Cause(Kind.XENWATCH_GONE, Verdict.GONE)
        case _Role.XENBUS:
            return Cause(Kind.XENBUS_GONE, Verdict.GONE)
        case _Role.WORKER | _Role.OF_GUEST | _Role.OF_DOMAIN_0:
            return Cause(Kind.BACKEND_GONE, Verdict.NO)
    return _NOTHING


def _of_wait(role: _Role, trace: Trace) -> Cause:
    kind, frame = _decisive(trace.frames)
    match role:
        case _Role.XENBUS:
            # It reads the answers of xenstored: waiting for one it waits for itself.
            waits = kind is Kind.XENSTORED_SILENT
            return Cause(Kind.XENBUS_TRANSACTION if waits else kind, Verdict.STALL, frame)
        case _Role.XENWATCH | _Role.OF_GUEST | _Role.OF_DOMAIN_0 | _Role.OF_PROGRAMS:
            return _of_watcher(role, kind, frame)
        case _Role.WORKER if kind in _WORKERS_KINDS:
            return Cause(kind, Verdict.WILL_STALL, frame)
        case _Role.OTHER if kind in {Kind.XENSTORED_SILENT, Kind.XENWATCH_MUTEX}:
            return Cause(kind, Verdict.COLLATERAL, frame)
    return _NOTHING


def _of_watcher(role: _Role, kind: Kind, frame: str | None) -> Cause:
    if kind is Kind.XENSTORED_SILENT:
        return Cause(kind, Verdict.COLLATERAL, frame)
    if kind is Kind.UNKNOWN:
        kind = _UNNAMED.get(role, kind)
    contained = role is not _Role.XENWATCH
    return Cause(kind, Verdict.CONTAINED if contained else Verdict.STALL, frame)


def _decisive(frames: tuple[str, ...]) -> tuple[Kind, str | None]:
    for frame in frames:
        for kind, names in _KINDS:
            if names.fullmatch(frame):
                return kind, frame
    return Kind.UNKNOWN, None


def _role_of(trace: Trace) -> _Role:
    """Return by its name what a task is, or by the function that its thread began with."""
    if trace.task in {"xenwatch", "xenbus"}:
        return _Role(trace.task)
    if trace.task.startswith(THREAD):
        return _OF_THREAD[serves(trace.task)]
    if WORKER.fullmatch(trace.task):
        return _Role.WORKER
    by_frame = (_ROLE_BY_FRAME[frame] for frame in trace.frames if frame in _ROLE_BY_FRAME)
    return next(by_frame, _Role.OTHER)


def _first(names: re.Pattern[str], frames: tuple[str, ...]) -> str | None:
    return next((frame for frame in frames if names.fullmatch(frame)), None)
