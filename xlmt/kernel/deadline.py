# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel threads that spin are kept from the CPU, by the scheduler's deadlines: see sched(7).

For kernels whose control groups do not limit their own threads. glibc has had a function for it
since 2.41 only, so it is called by its number.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable

from xlmt.errors import XlmtError

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SCHED_DEADLINE = 6
#: PERCENT of the control group, for each of them. What it overruns, up to a tick, is made up for.
_RUNTIME_NS, _PERIOD_NS = 1_000_000, 100_000_000
#: struct sched_attr: size, policy, flags, nice, priority; runtime, deadline and period.
_ATTR = struct.Struct("=IIQiIQQQ")
_WHY = {
    errno.EPERM: "its CPUs are not all that there are: cpusets or isolated CPUs divide them",
    errno.EBUSY: "all the time that there is for real-time tasks is taken",
}


def limit(pids: Iterable[int]) -> None:
    """Leave each of these threads a little of a CPU, for as long as it lives.

    Who has ended is left out. Raises XlmtError.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        raise _refused(f"xlmt does not know how on {platform.machine()}")
    attr = _ATTR.pack(_ATTR.size, _SCHED_DEADLINE, 0, 0, 0, _RUNTIME_NS, _PERIOD_NS, _PERIOD_NS)
    for pid in pids:
        code = _call(number, pid, attr)
        if code == errno.EPERM and os.geteuid():
            raise _refused("only root can")
        if code not in {0, errno.ESRCH}:
            raise _refused(_WHY.get(code, os.strerror(code)))


def _refused(why: str) -> XlmtError:
    return XlmtError(f"cannot limit the spinning netback thread: {why}")


def _call(number: int, pid: int, attr: bytes) -> int:
    """Return the error, 0 for none."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    failed = call(ctypes.c_long(number), ctypes.c_int(pid), ctypes.c_char_p(attr), ctypes.c_uint(0))
    return ctypes.get_errno() if failed else 0
