# SPDX-License-Identifier: LGPL-2.1-or-later
"""xen_mtwatch in the lab: loading it, unloading it, making its allocations fail."""

import contextlib
from collections.abc import Iterator

from tests.lab.vm import Lab

NAME = "xen_mtwatch"
PARAMETERS = f"/sys/module/{NAME}/parameters"
STATUS = f"/sys/kernel/debug/{NAME}/status"
FAILSLAB = "/sys/kernel/debug/failslab"
FAILURES = 100_000  # at most; what is left of them says how many there were
#: How far from the allocator the module is looked for: far enough for its own allocations through
#: kstrdup() and the like, not for those of a driver whose callback it runs.
DEPTH = 12


def load(lab: Lab, options: str = "") -> None:
    lab.run(f"modprobe {NAME} {options}", check=True)
    lab.wait_for(f"grep 'state=on' {STATUS}")


def unload(lab: Lab) -> None:
    """Returns when it is gone, or was not there."""
    gone = f"[ ! -e /sys/module/{NAME} ]"
    lab.wait_for(f"{gone} || {{ echo 0 > {PARAMETERS}/enabled; rmmod {NAME}; }}; {gone}", 120)


def threads(lab: Lab) -> set[int]:
    """The domids that have a thread."""
    names = lab.run("ps -eo comm= | grep -o '^xen-mtwatch-[0-9]*'").out.split()
    return {int(name.rpartition("-")[2]) for name in names}


def wait_threads(lab: Lab, *domids: int) -> None:
    """Return when these domids, and no others, have a thread."""
    wanted = "\\n".join(f"xen-mtwatch-{domid}" for domid in sorted(domids))
    have = "ps -eo comm= | grep -o '^xen-mtwatch-[0-9]*' | sort -t- -k3n"
    lab.wait_for(f'[ "$({have})" = "$(printf \'{wanted}\')" ]', 120)


class Failures:
    """Counts the allocations of the module that were made to fail."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def count(self) -> int:
        return FAILURES - int(self._lab.read(f"{FAILSLAB}/times"))


@contextlib.contextmanager
def failing_allocations(lab: Lab, percent: int) -> Iterator[Failures]:
    """Let so many in a hundred of the module's allocations fail meanwhile."""
    base, size = lab.run(f"awk '$1 == \"{NAME}\" {{ print $6, $2 }}' /proc/modules").out.split()
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
        yield Failures(lab)
    finally:
        lab.run(f"echo 0 > {FAILSLAB}/probability", check=True)
