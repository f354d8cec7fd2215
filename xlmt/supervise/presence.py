# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a supervisor runs, for commands that only want to know that.

Apart from instance.py, which takes longer to import than they take to run.
"""

import os

from xlmt import locks, paths

LOCK = f"{paths.RUN}/supervise.pid"


def pid() -> int | None:
    """Return the process that is the supervisor, None when none is, or when we may not look."""
    try:
        fd = os.open(LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return locks.holder(fd)
    finally:
        os.close(fd)
