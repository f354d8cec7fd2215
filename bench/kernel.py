# SPDX-License-Identifier: LGPL-2.1-or-later
"""What xen_mtwatch costs and what it is worth: `python -m bench.kernel [6.1|6.12]`, as root.

isolation  creating and destroying a guest while another one is stalled, beside the same unstalled
latency    from a write to xenstore to the callback in the kernel, with and without the module
threads    memory and time of 1, 100 and 1000 threads (nodes without domains), loading, unloading

On kernels since 6.1 a netback stall has a thread of the vif spin (see xen_mtwatch(4)), which costs
one of dom0's two CPUs here; `idle` is the same with that thread at idle priority.
"""

import statistics
import sys
import time
from collections.abc import Sequence

from bench import report, spread
from bench.lab import seconds
from tests.lab import mtwatch
from tests.lab.kernels import STOCK
from tests.lab.mtwatch import NODES, loaded, unload, wait_status
from tests.lab.stall import DiskStall, Stall
from tests.lab.vm import Lab

ROUNDS = 10
CONFIG = "/etc/xen/demo-pv.cfg"

# Writes with the kernel's clock beside it; the test module's log has the other end.
WRITER = """
import time
from pyxs import Client
with Client() as client:
    for _ in range(200):
        before = time.monotonic_ns()
        client.write(b"{node}", b"x")
        print(before)
        time.sleep(0.01)
"""


def main() -> None:
    for kernel in sys.argv[1:] or STOCK:
        with Lab("c", kernel=kernel) as lab:
            lab.run("dmesg -n 4", check=True)
            isolation(lab, kernel)
            latency(lab, kernel)
            threads(lab, kernel)


# --- isolation -----------------------------------------------------------------------------


def cycle(lab: Lab) -> tuple[float, float]:
    created = seconds(lab, f"xlmt create {CONFIG}")
    destroyed = seconds(lab, "xlmt destroy demo-pv")
    return created, destroyed


def cycles(lab: Lab) -> dict[str, list[float]]:
    both = [cycle(lab) for _ in range(ROUNDS)]
    return {"create": [c for c, _ in both], "destroy": [d for _, d in both]}


def isolation(lab: Lab, kernel: str, kinds: Sequence[type[Stall]] = (DiskStall, Stall)) -> None:
    with loaded(lab):
        cycle(lab)  # the first one finds cold caches
        calm = cycles(lab)
        for kind in kinds:
            with kind(lab, create=f"xlmt create -e /etc/xen/{kind.NAME}.cfg") as stall:
                destroying = lab.spawn(f"xlmt destroy {stall.name}")
                stall.wait_begun(f"xen-mtwatch-{stall.domid}")
                destroying.wait(180)  # it gives up; the stall stays
                compare(f"kernel/{kernel}/{kind.NAME}", calm, cycles(lab))
                if kind is Stall:
                    stall.leave_cpu()
                    compare(f"kernel/{kernel}/{kind.NAME}/idle", calm, cycles(lab))
                stall.release()
            lab.run("xlmt reconcile", 60)


def compare(what: str, calm: dict[str, list[float]], stalled: dict[str, list[float]]) -> None:
    for name, values in stalled.items():
        before, now = statistics.median(calm[name]), statistics.median(values)
        report(
            bench=f"{what}/{name}",
            rounds=ROUNDS,
            median_s={"unstalled": round(before, 3), "stalled": round(now, 3)},
            spread_s={"unstalled": spread(calm[name]), "stalled": spread(values)},
            ratio=round(now / before, 3),
        )


# --- latency -------------------------------------------------------------------------------


def latency(lab: Lab, kernel: str) -> None:
    sides = {}
    with mtwatch.watches(lab) as watches:
        watches.watch(7, "a")
        sides["xenwatch"] = latencies(lab, watches)
        with loaded(lab, "mode=node"):
            wait_status(lab, "^module .* partial=0 ")
            mtwatch.add_node(lab, 7)
            sides["thread"] = latencies(lab, watches)
            mtwatch.remove_node(lab, 7)
            mtwatch.wait_ended(lab, 7)
    report(
        bench=f"kernel/{kernel}/write-to-callback",
        writes=200,
        us={
            name: {"p50": round(statistics.median(v)), "p99": round(sorted(v)[-3])}
            for name, v in sides.items()
        },
        ratio_p50=round(
            statistics.median(sides["thread"]) / statistics.median(sides["xenwatch"]), 2
        ),
    )


def latencies(lab: Lab, watches: mtwatch.Watches) -> list[float]:
    """Microseconds from each write to its callback."""
    before = len(watches.calls())
    lab.push("/run/writer.py", WRITER.replace("{node}", watches.node(7, "a")))
    out = lab.run("/opt/xlmt/bin/python /run/writer.py", 120, check=True).out
    starts = [int(line) for line in out.split()]
    calls = [call.ns for call in watches.calls()[before:]]
    # Two writes may be one event; then the earlier one waited longest.
    pairs = [(s, next((c for c in calls if c >= s), None)) for s in starts]
    return [(c - s) / 1e3 for s, c in pairs if c is not None]


# --- threads -------------------------------------------------------------------------------


def memory_kib(lab: Lab) -> int:
    """What the kernel uses for itself: slab, stacks, page tables, per-CPU."""
    script = "awk '/^(Slab|KernelStack|PageTables|Percpu|VmallocUsed):/ {n += $2} END {print n}'"
    return int(lab.run(f"sync; {script} /proc/meminfo", check=True).out)


def threads(lab: Lab, kernel: str) -> None:
    for count in (1, 100, 1000):
        nodes = f"seq 20001 {20000 + count} | sed 's,.*,{NODES}/& x,' | xargs -n 100 xenstore-write"
        lab.run(nodes, 120, check=True)
        before = memory_kib(lab)
        started = time.perf_counter()
        lab.run("modprobe xen_mtwatch", check=True)
        loading = time.perf_counter() - started
        wait_status(lab, f"^module .* threads={count} ", 120)
        up = f"[ $(ps -e -o comm= | grep -c '^xen-mtwatch-2') -ge {count} ]"
        lab.wait_for(up, 120)
        all_up = time.perf_counter() - started
        used = memory_kib(lab) - before
        started = time.perf_counter()
        unload(lab)
        report(
            bench=f"kernel/{kernel}/threads",
            threads=count,
            kib=used,
            kib_each=round(used / count, 1),
            load_s=round(loading, 2),
            all_up_s=round(all_up, 2),
            unload_s=round(time.perf_counter() - started, 2),
        )
        lab.run(f"xenstore-rm {NODES}", check=True)


if __name__ == "__main__":
    main()
