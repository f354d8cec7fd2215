# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a process has from whoever started it: a supervisor must not live with a caller's habits."""

import errno
import fcntl
import os
import resource
import signal
from collections.abc import Mapping
from contextlib import suppress

from xlmt.errors import WantError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What says where Xen is, and what our settings are. The loader's: without them it would be another
#: libxl than that which the domain was made with.
_KEPT = ("XENSTORED_", "XLMT_", "LD_")
_DESCRIPTORS = 4096
#: systemd gives services as many; xenstored's and libxl's own children may use select(2).
_SOFT_DESCRIPTORS = 1024
#: So many are enough for what is set aside.
_MOST_DESCRIPTORS = 1 << 16
#: Connections, pipes to children, locks: some 20 at the same time.
_NEEDED = 24
_UNLIMITED = ("CPU", "FSIZE", "DATA", "RSS", "NPROC", "AS")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment a supervisor is started with."""
    kept = {name: value for name, value in environ.items() if name.startswith(_KEPT)}
    return {**kept, "PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}


def settle() -> None:
    """Take on the habits of a service: umask, limits, priority, none of them the caller's."""
    os.umask(0o022)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, there is nothing to be waited for
    make_room_for_descriptors()
    for name in _UNLIMITED:
        if (number := getattr(resource, f"RLIMIT_{name}", None)) is not None:
            _limit(number, resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def make_room_for_descriptors() -> None:
    """Have at least the usual number of descriptors, as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(hard, _DESCRIPTORS)
    if soft < _SOFT_DESCRIPTORS and not _limit(resource.RLIMIT_NOFILE, _SOFT_DESCRIPTORS, wanted):
        _limit(resource.RLIMIT_NOFILE, min(_SOFT_DESCRIPTORS, hard), hard)


def require_descriptors() -> None:
    """Raise WantError unless libxl can have the descriptors that a creation takes.

    Also to be destroyed again takes some, and without them a domain would be left half-made.
    """
    make_room_for_descriptors()
    spare: list[int] = []
    try:
        while len(spare) < _NEEDED:
            spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as e:
        few = f"a creation takes {_NEEDED} file descriptors, there are {len(spare)}"
        raise WantError(f"{few}: {e.strerror}; see: ulimit -n") from None
    finally:
        for fd in spare:
            os.close(fd)


def raise_descriptors() -> int | None:
    """Allow for many that are set aside; return the limit before, None when it is as it was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = min(hard, _MOST_DESCRIPTORS)
    return soft if high > soft and _limit(resource.RLIMIT_NOFILE, high, hard) else None


def limit_descriptors(soft: int) -> None:
    """Take that back: for the programs that a child becomes."""
    _limit(resource.RLIMIT_NOFILE, soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def set_aside(fd: int) -> int:
    """Return the descriptor as one that select(2) cannot take: those are left to all others.

    Where there are no higher ones, no more than half of the low ones go to what is set aside.
    Raises OSError, with the descriptor closed.
    """
    try:
        aside = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SOFT_DESCRIPTORS)
    except OSError:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if fd < min(soft, _SOFT_DESCRIPTORS) // 2:
            return fd
        os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
    os.close(fd)
    return aside


def _limit(number: int, soft: int, hard: int) -> bool:
    try:
        resource.setrlimit(number, (soft, hard))
    except (OSError, ValueError):
        return False
    return True
