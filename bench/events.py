# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest costs that writes to its CD drive all the time: the supervisor's CPU, and its log.

`python -m bench.events [DOMAINS] [WRITES PER SECOND] [SECONDS]`
"""

import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.stack.product import ok
from tests.stack.stack import Stack
from tests.stack.supervision import log, look, supervising
from tests.stack.test_supervise import hvm_guest

DRIVE = "/local/domain/1/device/vbd/5632"


def cpu_s(pid: int) -> float:
    """The seconds of a process and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def measure(node: str, value: str, domains: int, rate: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as exit_:
        stack = exit_.enter_context(Stack("c", workdir=Path(folder) / "stack", traced=False))
        it = exit_.enter_context(supervising(stack))
        exit_.enter_context(stack.backends())
        client = exit_.enter_context(stack.client())
        ok(stack.xlmt("create", "-q", hvm_guest(stack, "h1")))
        stack.add_domains(range(2, domains + 1))
        look(stack)
        began, lines, used = time.monotonic(), len(log(stack)), cpu_s(it.pid)
        for number in range(rate * seconds):
            client.write(node, value)
            left = began + (number + 1) / rate - time.monotonic()
            time.sleep(max(left, 0))
        took = time.monotonic() - began
        used = cpu_s(it.pid) - used
        said = len(log(stack)) - lines
    print(
        f"{domains} domains, {rate} writes/s of {value!r} to {node.rpartition('/')[2]}: "
        f"{100 * used / took:.2f} % of a CPU, {said} bytes of log in {took:.0f} s"
    )


def main() -> None:
    numbers = [int(text) for text in sys.argv[1:]]
    domains, rate, seconds = (numbers + [1000, 200, 30][len(numbers) :])[:3]
    for node, value in ((f"{DRIVE}/eject", "eject"), (f"{DRIVE}/eject", "x"), (f"{DRIVE}/y", "x")):
        measure(node, value, domains, rate, seconds)


if __name__ == "__main__":
    main()
