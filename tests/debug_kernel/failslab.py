# SPDX-License-Identifier: LGPL-2.1-or-later
"""Allocations of xen_mtwatch that fail, and no others (Linux' Documentation/fault-injection)."""

import contextlib
from collections.abc import Iterator

from tests.lab.cache import say
from tests.lab.vm import Lab

FAILSLAB = "/sys/kernel/debug/failslab"
FAILURES = 100_000  # at most; what is left of them says how many there were
#: How far from the allocator the module is looked for: as far as its own calls are, and not those
#: that the kernel's side of xenstore makes for it, which leaves a watch behind without memory.
DEPTH = 6


@contextlib.contextmanager
def failing_allocations(lab: Lab, percent: int) -> Iterator[None]:
    """Let so many in a hundred of the loaded module's allocations fail meanwhile.

    Raises AssertionError if none failed.
    """
    base, size = lab.run("awk '$1 == \"xen_mtwatch\" { print $6, $2 }' /proc/modules").out.split()
    settings = {
        "stacktrace-depth": DEPTH,
        "require-start": base,
        "require-end": hex(int(base, 16) + int(size)),
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
    failed = FAILURES - int(lab.read(f"{FAILSLAB}/times"))
    say(f"{failed} allocations of the module have failed")
    assert failed
