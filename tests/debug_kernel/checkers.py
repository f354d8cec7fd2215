# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the checkers of the debug kernel are at work, and what the one for leaks has found."""

from tests.lab.dmesg import HUNG_TASKS, Complained
from tests.lab.vm import Lab

KMEMLEAK = "/sys/kernel/debug/kmemleak"
#: Lockdep and kmemleak switch themselves off when they give up; what SLUB checks is said by words
#: on the kernel's command line.
ALIVE = (
    "grep -q '^ debug_locks: *1$' /proc/lockdep_stats",
    "grep -q '^pool_used *:[1-9]' /sys/kernel/debug/debug_objects/stats",
    f"[ $(cat {HUNG_TASKS}) -gt 0 ]",
    *(f"[ $(cat /sys/kernel/slab/kmalloc-64/{check}) = 1 ]"
      for check in ("sanity_checks", "red_zone", "poison", "store_user")),
    f"echo scan=off > {KMEMLEAK}",
)  # fmt: skip


def require_alive(lab: Lab) -> None:
    for condition in ALIVE:
        lab.run(condition, check=True)


def start_leak_check(lab: Lab) -> None:
    """Forget what the kernel itself has lost so far."""
    lab.run(f"echo scan > {KMEMLEAK}; echo clear > {KMEMLEAK}", 180, check=True)


def require_nothing_lost(lab: Lab) -> None:
    # An object has to be some seconds old to count, and lost in two scans.
    lab.run(f"sleep 6; echo scan > {KMEMLEAK}; sleep 6; echo scan > {KMEMLEAK}", 180, check=True)
    if lost := lab.read(KMEMLEAK):
        raise Complained(lost)
