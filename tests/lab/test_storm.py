# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything comes and goes at once: watches, their events, nodes, and xen_mtwatch itself."""

from __future__ import annotations

import os

import pytest

from tests.lab import mtwatch
from tests.lab.dmesg import quiet
from tests.lab.hosts import BOTH_RELEASES
from tests.lab.mtwatch import DEBUGFS, NODES, Watches, loaded
from tests.lab.vm import Lab

LOADS = int(os.environ.get("XLMT_LAB_STORM", "3"))
A_FEW = 3
#: What the kernel has for itself and cannot give back; it varies, but does not grow.
MEMORY = "awk '/^(SUnreclaim|KernelStack|Percpu|VmallocUsed)/ { kib += $2 } END { print kib }'"
VARIES_KIB = 4096
#: Nodes of domids that no domain has, over and over.
CHURN = f"""
while :; do
    for d in 30000 30001 30002 30003; do
        xenstore-write {NODES}/$d ''
        xenstore-rm {NODES}/$d
    done
done
"""
#: Four domids' watches come, have events and go, at the same time.
WATCHES = f"""
say() {{ echo "$@" > {DEBUGFS}/mtwtest/control; }}
watches_of() {{
    i=0
    while :; do
        ((i += 1))
        xenstore-write {NODES}/$1 ''
        for n in 0 1 2; do
            say watch backend/test/$1/$n/x
            xenstore-write /local/domain/0/backend/test/$1/$n/x $i
        done
        ((i % 3)) || xenstore-rm {NODES}/$1
        for n in 2 0 1; do say unwatch backend/test/$1/$n/x; done
    done
}}
for d in 31 32 33 34; do watches_of $d & done
wait
"""


def storm(lab: Lab, watches: Watches, loads: int) -> None:
    """Load and unload the module so often meanwhile."""
    churn, comings = lab.spawn(CHURN), lab.spawn(WATCHES)
    try:
        for _ in range(loads):
            before = len(watches.calls())
            with loaded(lab):
                watches.wait_calls(before + A_FEW)
                lab.run("sleep 1")
    finally:
        churn.kill()
        comings.kill()
    calls = watches.calls()
    assert any(call.task.startswith("xen-mtwatch-") for call in calls)
    assert not any(call.concurrent for call in calls)
    lab.run(f"xenstore-rm {NODES}; xenstore-rm /local/domain/0/backend/test", check=True)


@BOTH_RELEASES
@pytest.mark.long
@pytest.mark.timeout(2400 + 60 * LOADS)
@pytest.mark.usefixtures("nodes_by_hand")
def test_watches_and_nodes_come_and_go_while_the_module_does(lab: Lab) -> None:
    memory = []
    for _ in range(0, LOADS + A_FEW, A_FEW):  # the first few find cold caches
        with quiet(lab), mtwatch.watches(lab) as watches:
            storm(lab, watches, A_FEW)
        memory.append(int(lab.run(f"{MEMORY} /proc/meminfo", check=True).out))
    assert memory[-1] - memory[0] < VARIES_KIB, memory
