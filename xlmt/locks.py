# SPDX-License-Identifier: LGPL-2.1-or-later
"""POSIX locks on files, as xl takes them.

They end with their process, whatever happens to it, and no child inherits them, as one of
flock(2) would be by everything that libxl forks. But closing any descriptor of a file gives up
all locks that this process holds on it (fcntl(2)): so one descriptor at a time.
"""

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi")  # struct flock, 64 bit


def acquire(fd: int, *, start: int = 0, length: int = 0) -> bool:
    """Lock a part of the file, by default all of it; False, at once, when somebody else has it."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
    except (BlockingIOError, PermissionError):
        return False
    return True


def holder(fd: int, *, start: int = 0, length: int = 0) -> int | None:
    """Return the process that has a lock on a part of the file; None when none can be named."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, wanted))
    return int(pid) if kind != fcntl.F_UNLCK and pid > 0 else None
