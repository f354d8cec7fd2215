# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether dom0's kernel has complained: what a warning, an oops or a checker's report looks like.

with quiet(lab):
    ...  # raises Complained when the kernel's log of meanwhile has a complaint

Every report of the checkers in the debug kernel (tests/lab/debug_kernel.py) is meant to match.
"""

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator

from tests.lab.vm import Lab

COMPLAINTS = (
    r"\bWARNING:",  # WARN_ON(), and lockdep's and RCU's headlines
    r"\bBUG\b",  # BUG(), KASAN, SLUB, sleeping in atomic context, NULL pointers, soft lockups
    r"\bOops\b|general protection fault|double fault|Kernel panic|stack guard page",
    r"Call Trace:",  # whatever prints one
    r"suspicious RCU usage|DEBUG_LOCKS_WARN_ON|turning off the locking|non-static key",
    r"rcu: INFO:|INFO: task .* blocked for more than|lockup",
    r"UBSAN:|KFENCE:|ODEBUG:",
    r"kmemleak: (\d+ new suspected|.*([Dd]isabled|Cannot))",
    r"list_(add|del) corruption|refcount_t:|Bad page|[Rr]edzone|Padding overwritten",
    r"unregister_netdevice: waiting for",
    r"Unknown symbol|disagrees about version",
)
HUNG_TASKS = "/proc/sys/kernel/hung_task_timeout_secs"
_COMPLAINT = re.compile("|".join(COMPLAINTS))
_marks = itertools.count(1)


class Complained(AssertionError):  # noqa: N818
    """The kernel's log has a complaint; the message has it with what is around it."""


def complaints(log: str, allowed: Iterable[str] = ()) -> list[str]:
    """The lines of a kernel log that complain, but those in which a regex of `allowed` matches."""
    allow = [re.compile(pattern) for pattern in allowed]
    found = [line for line in log.splitlines() if _COMPLAINT.search(line)]
    return [line for line in found if not any(pattern.search(line) for pattern in allow)]


def require_quiet(log: str, allowed: Iterable[str] = ()) -> None:
    """Raise Complained with the log from the first complaint on, if there is one."""
    if found := complaints(log, allowed):
        lines = log.splitlines()
        first = lines.index(found[0])
        shown = "\n".join(lines[max(0, first - 5) : first + 60])
        raise Complained(f"{len(found)} complaint(s) of the kernel, the first here:\n{shown}")


@contextlib.contextmanager
def quiet(lab: Lab, allowed: Iterable[str] = ()) -> Iterator[None]:
    """Raise Complained after the block when the kernel has complained inside it.

    `allowed` names lines that are none by regex.
    """
    mark = f"xlmt lab: mark {next(_marks)}"
    lab.run(f"echo '{mark}' > /dev/kmsg", check=True)
    yield
    require_quiet(since(lab, mark), allowed)


@contextlib.contextmanager
def stalls_are_meant(lab: Lab) -> Iterator[None]:
    """What hangs for minutes inside the block is no complaint, however slow this machine is."""
    patience = int(lab.read(HUNG_TASKS))
    lab.run(f"echo 0 > {HUNG_TASKS}", check=True)
    try:
        yield
    finally:
        lab.run(f"echo {patience} > {HUNG_TASKS}", check=True)  # others share this host


def since(lab: Lab, mark: str) -> str:
    """The kernel's log after the line with `mark`. Raises Complained when that was pushed out."""
    _, found, rest = lab.run("dmesg", check=True).out.rpartition(f"{mark}\n")
    if not found:
        raise Complained(f"the kernel's log no longer reaches back to {mark!r}")
    return rest
