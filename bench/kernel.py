# SPDX-License-Identifier: LGPL-2.1-or-later
"""What xen_mtwatch costs and what it is worth: `python -m bench.kernel [ROUNDS]`, as root.

isolation  creating and destroying a guest while another one is stalled, beside the same unstalled,
           half of it before and half of it afterwards
latency    from a write to xenstore to the callback in the kernel, and the time that the kernel's
           threads work for an event, with and without the module, in turn
threads    memory and time of 1, 100 and 1000 threads (nodes without domains), loading, unloading;
           beside it loading with domids=, and a program that asks xenstored for each node

xenstored logs no requests meanwhile, but for the load in which those of the module are counted.

On kernels since 6.1 a netback stall has a thread of the vif spin (see xen_mtwatch(4)), which costs
one of dom0's two CPUs here; `throttled` is the same after `xlmt kernel throttle`, in turn with it,
and `spinning` is without a stall, but with a process that spins.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from bench import report, spread
from bench.lab import seconds
from tests.lab import mtwatch
from tests.lab.dmesg import stalls_are_meant
from tests.lab.mtwatch import NODES, loaded, node_requests, unload, wait_status
from tests.lab.stall import DiskStall, Stall
from tests.lab.vm import Lab

ROUNDS = int(sys.argv[1]) if sys.argv[1:] else 10
THROTTLE = "/sys/fs/cgroup/xlmt-spinning/cpu.max"
CONFIG = "/etc/xen/demo-pv.cfg"
Seconds = Mapping[str, list[float]]  # of each operation, round by round

TURNS = 5
WRITES = 100
# Writes with the kernel's clock beside it; the test module's log has the other end.
WRITER = f"""
import sys, time
from pyxs import Client
with Client() as client:
    for _ in range({WRITES}):
        before = time.monotonic_ns()
        client.write(sys.argv[1].encode(), b"x")
        print(before)
        time.sleep(0.01)
"""


def main() -> None:
    with Lab("c") as lab, stalls_are_meant(lab):
        lab.run("dmesg -n 4", check=True)
        lab.log_requests(False)
        kernel = lab.run("uname -r | cut -d. -f1,2", check=True).out.strip()
        isolation(lab, kernel)
        latency(lab, kernel)
        threads(lab, kernel)


# --- isolation -----------------------------------------------------------------------------


def cycles(lab: Lab, rounds: int) -> Seconds:
    create, destroy = [], []
    for _ in range(rounds):
        create.append(seconds(lab, f"xlmt create {CONFIG}"))
        destroy.append(seconds(lab, "xlmt destroy demo-pv"))
    return {"create": create, "destroy": destroy}


def isolation(lab: Lab, kernel: str, kinds: Sequence[type[Stall]] = (DiskStall, Stall)) -> None:
    with loaded(lab):
        cycles(lab, 1)  # the first one finds cold caches
        before = cycles(lab, ROUNDS // 2)
        for kind in kinds:
            stalled = stalled_cycles(lab, kind)
            after = cycles(lab, ROUNDS // 2)
            calm = {name: before[name] + after[name] for name in before}
            for what, times in stalled.items():
                compare(f"kernel/{kernel}/{what}", calm, times)
            before = after
        spinner = lab.spawn("while :; do :; done")
        compare(f"kernel/{kernel}/spinning", calm, cycles(lab, ROUNDS))
        spinner.kill()


def stalled_cycles(lab: Lab, kind: type[Stall]) -> Mapping[str, Seconds]:
    with kind(lab, create=f"xlmt create -e /etc/xen/{kind.NAME}.cfg") as stall:
        destroying = lab.spawn(f"xlmt destroy {stall.name}")
        stall.wait_begun(f"xen-mtwatch-{stall.domid}")
        destroying.wait(180)  # it gives up; the stall stays
        if kind is Stall:
            stalled = throttled_in_turn(lab, kind.NAME)
        else:
            stalled = {kind.NAME: cycles(lab, ROUNDS)}
        assert stall.stack(f"xen-mtwatch-{stall.domid}")  # it has lasted
        stall.release()
    lab.run("xlmt reconcile", 60)
    return stalled


def throttled_in_turn(lab: Lab, name: str) -> Mapping[str, Seconds]:
    sides = {name: cycles(lab, 0), f"{name}/throttled": cycles(lab, 0)}
    for _ in range(ROUNDS):
        lab.run(f"[ ! -e {THROTTLE} ] || echo max > {THROTTLE}", check=True)
        add(sides[name], cycles(lab, 1))
        said = lab.run("xlmt kernel throttle", check=True).out
        assert "is limited" in said, said
        add(sides[f"{name}/throttled"], cycles(lab, 1))
    return sides


def add(times: Seconds, more: Seconds) -> None:
    for operation, values in more.items():
        times[operation] += values


def compare(what: str, calm: Seconds, stalled: Seconds) -> None:
    for name, values in stalled.items():
        median = statistics.median(calm[name])
        report(
            bench=f"{what}/{name}",
            rounds=ROUNDS,
            median_s={
                "unstalled": round(median, 3),
                "stalled": round(statistics.median(values), 3),
            },
            spread_s={"unstalled": spread(calm[name]), "stalled": spread(values)},
            ratio=round(statistics.median(values) / median, 3),
            worst_ratio={
                "unstalled": round(max(calm[name]) / median, 3),
                "stalled": round(max(values) / median, 3),
            },
        )


# --- latency -------------------------------------------------------------------------------


def latency(lab: Lab, kernel: str) -> None:
    waits: dict[str, list[float]] = {"stock": [], "xenwatch": [], "thread": []}
    works: dict[str, list[float]] = {side: [] for side in waits}

    def measure(side: str) -> None:
        wait, work = latencies(lab, watches)
        waits[side] += wait
        works[side].append(work)

    lab.push("/run/writer.py", WRITER)
    with mtwatch.watches(lab) as watches:
        watches.watch(7, "a")
        for _ in range(TURNS):
            measure("stock")
            with loaded(lab, "mode=node"):
                wait_status(lab, "^module .* partial=0 ")
                measure("xenwatch")  # the module leaves it to that
                mtwatch.add_node(lab, 7)
                measure("thread")
                mtwatch.remove_node(lab, 7)
                mtwatch.wait_ended(lab, 7)
    p50 = {side: statistics.median(values) for side, values in waits.items()}
    work = {side: statistics.median(values) for side, values in works.items()}
    report(
        bench=f"kernel/{kernel}/event",
        events={side: len(values) for side, values in waits.items()},
        write_to_callback_us={
            side: {"p50": round(p50[side]), "p99": round(sorted(v)[int(len(v) * 0.99)])}
            for side, v in waits.items()
        },
        threads_us_per_event={side: round(value, 1) for side, value in work.items()},
        ratio={
            side: {
                "p50": round(p50[side] / p50["stock"], 2),
                "threads": round(work[side] / work["stock"], 2),
            }
            for side in ("xenwatch", "thread")
        },
    )


def latencies(lab: Lab, watches: mtwatch.Watches) -> tuple[list[float], float]:
    """Microseconds from each write to its callback, and those that threads worked for each."""
    write = f"/opt/xlmt/bin/python /run/writer.py {watches.node(7, 'a')}"
    # What is new, as after a load, the emulator has to translate at first.
    lab.run(write, 120, check=True)
    seen, worked = len(watches.calls()), worked_ns(lab)
    out = lab.run(write, 120, check=True).out
    worked = worked_ns(lab) - worked
    starts = [int(line) for line in out.split()]
    calls = [call.ns for call in watches.calls()[seen:]]
    # Two writes may be one event; then the earlier one waited longest.
    pairs = [(s, next((c for c in calls if c >= s), None)) for s in starts]
    return [(c - s) / 1e3 for s, c in pairs if c is not None], worked / len(calls) / 1e3


def worked_ns(lab: Lab) -> int:
    """What the kernel's threads have worked that events go through (Linux' sched-stats)."""
    script = (
        "for t in xenbus xenwatch xen-mtwatch-7; do"
        " pid=$(pgrep -x $t) && cut -d ' ' -f 1 /proc/$pid/schedstat; done"
    )
    return sum(map(int, lab.run(script).out.split()))


# --- threads -------------------------------------------------------------------------------


def memory_kib(lab: Lab) -> int:
    """What the kernel uses for itself: slab, stacks, page tables, per-CPU."""
    script = "awk '/^(Slab|KernelStack|PageTables|Percpu|VmallocUsed):/ {n += $2} END {print n}'"
    return int(lab.run(f"sync; {script} /proc/meminfo", check=True).out)


def threads(lab: Lab, kernel: str) -> None:
    """With more nodes than fit one reply the module asks for each, as a program would have to."""
    for first, count in ((20001, 1), (20001, 100), (101, 1000), (20001, 1000)):
        last = first + count - 1
        nodes = f"seq {first} {last} | sed 's,^,{NODES}/,'"
        lab.run(f"{nodes} | sed 's/$/ x/' | xargs -n 100 xenstore-write", 120, check=True)
        before = memory_kib(lab)
        loading, up = load(lab, count)
        used = memory_kib(lab) - before
        unloading = elapsed(partial(unload, lab))
        hinted = load(lab, count, f"domids={first}-{last}")[1]
        unload(lab)
        program = elapsed(partial(lab.run, f"{nodes} | xargs xenstore-exists", 120, check=True))
        asked, logged_up = logged_load(lab, count)
        report(
            bench=f"kernel/{kernel}/threads",
            threads=count,
            first_domid=first,
            kib=used,
            kib_each=round(used / count, 1),
            load_s=round(loading, 2),
            up_s=round(up, 2),
            requests_while_logged=asked,
            up_while_logged_s=round(logged_up, 2),
            hinted_s=round(hinted, 2),
            xenstore_exists_s=round(program, 2),
            unload_s=round(unloading, 2),
        )
        lab.run(f"xenstore-rm {NODES}", check=True)


LOAD = """
a=$(date +%s%N); modprobe xen_mtwatch {parameters} || exit 1; b=$(date +%s%N)
until grep -q '^module .* threads={count} ' {status}; do sleep 0.05; done
c=$(date +%s%N); echo $((b - a)) $((c - a))
"""


def load(lab: Lab, count: int, parameters: str = "") -> tuple[float, float]:
    """The seconds until modprobe has returned, and until so many threads are there.

    By the module's status: ps(1) itself takes seconds for so many, and is asked afterwards.
    """
    status = f"{mtwatch.DEBUGFS}/xen_mtwatch/status"
    script = LOAD.format(parameters=parameters, count=count, status=status)
    loading, up = map(int, lab.run(script, 180, check=True).out.split())
    lab.wait_for(f"[ $(ps -e -o comm= | grep -c '^xen-mtwatch-') -ge {count} ]", 120)
    return loading / 1e9, up / 1e9


def logged_load(lab: Lab, count: int) -> tuple[int, float]:
    """How often the module asks for a node, and the seconds that it takes by the log of that."""
    lab.log_requests(True)
    asked = node_requests(lab)
    _, up = load(lab, count)
    asked = node_requests(lab) - asked
    unload(lab)
    lab.log_requests(False)
    return asked, up


def elapsed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
