# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where xenstored is to be reached on this machine."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from xlmt.errors import XenstoreUnreachableError

SOCKETS = ("/run/xenstored/socket", "/var/run/xenstored/socket")
XENBUS = ("/dev/xen/xenbus", "/proc/xen/xenbus")


def socket_path(environ: Mapping[str, str]) -> str:
    """Return where xenstored's socket is, or where it should be when there is none.

    $XENSTORED_PATH counts even when nothing is there; then the first that exists of
    $XENSTORED_RUNDIR/socket and the usual places.
    """
    if chosen := environ.get("XENSTORED_PATH"):
        return chosen
    rundir = environ.get("XENSTORED_RUNDIR")
    candidates = ((f"{rundir}/socket",) if rundir else ()) + SOCKETS
    return next(filter(_exists, candidates), candidates[0])


def locate(path: str | None) -> str:
    """Return the socket to open: the caller's choice, or for None ours.

    Raises XenstoreUnreachableError when only the kernel's device is there: its watches come by
    xenwatch, and taking one back can block past all deadlines.
    """
    place = path or socket_path(os.environ)
    why = ""
    device = next(filter(_exists, XENBUS), None)
    if path is None and device and not _exists(place):
        why, place = f" ({place} does not exist)", device
    if _is_device(place):
        raise XenstoreUnreachableError(
            f"xenstored is not reachable by socket{why}, only by {place}, whose watches are "
            "delivered by xenwatch, the very thread that may be stuck: start xenstored"
        )
    return place


def _exists(path: str) -> bool:
    """Say whether something is there; what we may not look at is left to connect to refuse."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(Path(path).stat().st_mode)
    except OSError:
        return False
