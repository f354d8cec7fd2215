# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt supervise` beside xl's process per domain: memory, idle wake-ups, and how fast it is.

`python -m bench.supervise`, as root; `--quick` leaves 1000 domains out. On the real libxl and
xenstored, without a hypervisor. Memory is from /proc/<pid>/smaps_rollup, wake-ups are the context
switches of /proc/<pid>/status, and a latency is from xenstored's answer to INTRODUCE until it
tells an independent client of the new node.
"""

import argparse
import compileall
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import xlmt
from bench import report
from tests.stack.product import supervisors
from tests.stack.stack import MTWATCH, Daemon, Stack, eventually
from tests.stack.supervision import look, supervising
from tests.stack.wire import Client

T = TypeVar("T")

DAEMONS: tuple[Daemon, ...] = ("c", "ocaml")
SIZES = (1, 100, 1000)
XLS = 20  # of xl's processes, to take the mean of
IDLE_S = 65.0  # more than the timer's minute
LATENCIES = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 100 domains")
    sizes = SIZES[:-1] if parser.parse_args().quick else SIZES
    # As installed: an editable install on a machine that writes no bytecode has none.
    compileall.compile_dir(str(Path(xlmt.__file__).parent), quiet=1)
    for daemon in DAEMONS:
        xl_kib = fresh(daemon, xls)
        for size in sizes:
            fresh(daemon, supervisor, size, xl_kib)
        fresh(daemon, worker)


def fresh(daemon: Daemon, measure: Callable[..., T], *arguments: object) -> T:
    """Run a measurement on a stack of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(daemon, workdir=Path(folder), traced=False) as stack,
    ):
        return measure(stack, *arguments)


def xls(stack: Stack) -> float:
    """Return the mean PSS, in KiB, of a process that xl leaves behind."""
    for number in range(XLS):
        run = stack.xl("create", "-q", stack.guest(f"x{number}"))
        if run.returncode:
            raise SystemExit(run.stderr)
    pids = [pid for pid in stack.pids() if command(pid).startswith("xl")]
    return sum(memory(pid)["Pss"] for pid in pids) / len(pids)


def supervisor(stack: Stack, size: int, xl_kib: float) -> None:
    """Report what one supervisor of so many domains costs, and how long a new one waits for it."""
    stack.add_domains(range(1, size + 1))
    with supervising(stack) as it:
        eventually(lambda: len(stack.nodes()) == size, timeout=60)
        look(stack)
        time.sleep(1)
        before = switches(it.pid)
        time.sleep(IDLE_S)
        wakeups = switches(it.pid) - before
        used = memory(it.pid)
        report(
            bench=f"supervise/{stack.daemon}/memory and wake-ups",
            domains=size,
            rss_mib=mib(used["Rss"]),
            pss_mib=mib(used["Pss"]),
            xl_pss_mib=mib(xl_kib * size),
            wakeups_per_minute=round(wakeups * 60 / IDLE_S, 1),
        )
        latency(stack, size)


def latency(stack: Stack, size: int) -> None:
    waits = []
    with stack.client() as client, stack.client() as witness:
        witness.watch(MTWATCH)
        for domid in range(size + 1, size + 1 + LATENCIES):
            time.sleep(0.05)  # how fast it is, not how many it can do
            stack.hypervisor.add(domid)
            client.write(f"/local/domain/{domid}/name", f"d{domid}")
            while witness.next_event(0):
                pass
            client.introduce(domid)
            introduced = time.perf_counter()
            wait_for_node(witness, domid)
            waits.append(time.perf_counter() - introduced)
    waits.sort()
    report(
        bench=f"supervise/{stack.daemon}/from @introduceDomain to the node",
        domains=size,
        samples=len(waits),
        p50_ms=round(1000 * waits[len(waits) // 2], 2),
        p99_ms=round(1000 * waits[len(waits) * 99 // 100], 2),
        max_ms=round(1000 * waits[-1], 2),
    )


def wait_for_node(witness: Client, domid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        event = witness.next_event(1)
        if event and event[0] == f"{MTWATCH}/{domid}":
            return
    raise SystemExit(f"no node for domain {domid}")


def worker(stack: Stack) -> None:
    """Report what a worker that handles a death costs, beside the supervisor."""
    with supervising(stack) as it, stack.backends() as backends:
        run = stack.xlmt("create", "-q", stack.guest("g1", vif=["script=/bin/true"]))
        if run.returncode:
            raise SystemExit(run.stderr)
        backends.stall(1)
        stack.die(1)
        others = eventually(lambda: [pid for pid in supervisors(stack) if pid != it.pid])
        time.sleep(1)  # it waits for libxl now, which waits for the device
        report(
            bench=f"supervise/{stack.daemon}/a worker",
            pss_mib=mib(memory(others[0])["Pss"]),
            own_mib=mib(memory(others[0])["Private_Dirty"]),
        )


def memory(pid: int) -> dict[str, int]:
    """Return the KiB of each kind that smaps_rollup tells."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}


def switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", text)))


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def mib(kib: float) -> float:
    return round(kib / 1024, 1)


if __name__ == "__main__":
    main()
