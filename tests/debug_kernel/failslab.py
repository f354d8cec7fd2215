# SPDX-License-Identifier: LGPL-2.1-or-later
"""Allocations of xen_mtwatch that fail, and no others (Linux' Documentation/fault-injection)."""

import contextlib
from collections.abc import Iterator

from tests.lab.vm import Lab

FAILSLAB = "/sys/kernel/debug/failslab"
FAILURES = 100_000  # at most; what is left of them says how many there were
#: How far from the allocator the module is looked for: what it asks of xenstore is that far away.
DEPTH = 14


@contextlib.contextmanager
def failing_allocations(lab: Lab, percent: int) -> Iterator[None]:
    """Let so many in a hundred of the loaded module's allocations fail meanwhile.

    Not those of the kernel's own callback for new devices, which the module calls: that one gives
    up when it has no memory, with the module and without. Raises AssertionError if none failed.
    """
    base, size = lab.run("awk '$1 == \"xen_mtwatch\" { print $6, $2 }' /proc/modules").out.split()
    symbols = lab.run("grep -A1 ' backend_changed$' /proc/kallsyms", check=True).out.splitlines()
    settings = {
        "stacktrace-depth": DEPTH,
        "require-start": base,
        "require-end": hex(int(base, 16) + int(size)),
        "reject-start": f"0x{symbols[0].split()[0]}",
        "reject-end": f"0x{symbols[1].split()[0]}",
        "ignore-gfp-wait": "N",
        "interval": 1,
        "verbose": 0,
        "times": FAILURES,
        "probability": percent,  # last: it begins here
    }
    script = "".join(f"echo {value} > {FAILSLAB}/{name}\n" for name, value in settings.items())
    lab.run(f"set -e\n{script}", check=True)
    try:
        yield
    finally:
        lab.run(f"echo 0 > {FAILSLAB}/probability", check=True)
    assert failures(lab) > 0


def failures(lab: Lab) -> int:
    """How many there were, now or last time."""
    return FAILURES - int(lab.read(f"{FAILSLAB}/times"))
