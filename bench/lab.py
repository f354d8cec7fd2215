# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt create` beside `xl create` on a real Xen in QEMU: `python -m bench.lab`, as root."""

from functools import partial

from bench import compare
from tests.lab.vm import Lab

ROUNDS = 5
CONFIG = "/etc/xen/demo-pv.cfg"
# Timed inside dom0, so that the way there does not count.
TIMED = "a=$(date +%s%N); {} > /dev/null 2>&1 || exit 1; echo $(($(date +%s%N) - a))"


def main() -> None:
    with Lab("c") as lab:
        lab.log_requests(False)

        def cycle(tool: str, *, destroy: bool) -> float:
            create = seconds(lab, f"{tool} create {CONFIG}")
            undo = seconds(lab, f"{tool} destroy demo-pv")
            lab.wait_for("[ $(xendoms | wc -l) = 1 ]")
            return undo if destroy else create

        for name, destroy in (("create", False), ("destroy", True)):
            sides = {tool: partial(cycle, tool, destroy=destroy) for tool in ("xl", "xlmt")}
            compare(f"lab/c/{name}", sides, rounds=ROUNDS, against="xl")


def seconds(lab: Lab, command: str) -> float:
    return int(lab.run(TIMED.format(command), 180, check=True).out) / 1e9


if __name__ == "__main__":
    main()
