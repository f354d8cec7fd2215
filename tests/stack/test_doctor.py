# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests come and go, by the real libxl and xenstored, while doctor looks: nothing is wrong.

The kernel's threads are files here, of a kernel on which nothing is stuck; that it stays so on a
busy host is a matter for the lab.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.stack.background import Background
from tests.stack.product import ok
from tests.stack.stack import BUS, DEVICES, Stack
from tests.stack.supervision import supervising

LOOKS_S = int(os.environ.get("XLMT_DOCTOR_S", "10"))
KERNEL = "/run/kernel"
#: As on a host with Xen: doctor's own command, with another root of what the kernel shows.
DOCTOR = """
import sys
from pathlib import Path
from xlmt.kernel import places
places.ROOT = Path(sys.argv.pop(1))
from xlmt.cli.main import main
main()
"""
THREADS = {2: "(kthreadd) S 0", 57: "(xenwatch) S 2", 58: "(xenbus) S 2"}


def kernel(stack: Stack) -> None:
    """What a kernel on Xen shows; its devices are the stack's own."""
    root = stack.path(KERNEL)
    for pid, stat in THREADS.items():
        (root / f"proc/{pid}").mkdir(parents=True)
        (root / f"proc/{pid}/stat").write_text(f"{pid} {stat} 0 0\n")
    (root / "sys/hypervisor").mkdir(parents=True)
    (root / "sys/hypervisor/type").write_text("xen\n")
    (root / "sys/class/net").mkdir(parents=True)
    (root / "sys/devices").symlink_to(DEVICES)
    (root / "sys/bus").symlink_to(Path(BUS).parents[1])
    for driver in ("vif", "vbd"):
        (stack.path(BUS).parent / "drivers" / driver).mkdir(parents=True)


class Toolstack(Background):
    """Creates guests and destroys them."""

    def __init__(self, stack: Stack, name: str) -> None:
        super().__init__(name)
        self.cycles = 0
        self._stack = stack
        self._config = stack.guest(name, vif=["script=/bin/true"])

    def once(self) -> None:
        ok(self._stack.xlmt("create", "-q", self._config))
        ok(self._stack.xlmt("destroy", self.name))
        self.cycles += 1


def looked(stack: Stack) -> dict[str, Any]:
    told = stack.run(sys.executable, "-c", DOCTOR, KERNEL, "doctor", "-o", "json")
    assert told.returncode in {3, 6}, told.stderr
    document: dict[str, Any] = json.loads(told.stdout)
    return document | {"exit_status": told.returncode, "said": told.stderr}


def wrong(document: dict[str, Any]) -> dict[str, Any]:
    """What of it is said to be wrong, or could not be told."""
    return {
        "status": document["exit_status"] if document["exit_status"] != 6 else None,
        "verdict": document["verdict"] if document["verdict"] != "exposed" else None,
        "findings": document["findings"],
        "zombies": document["zombies"],
        "problems": document["problems"],
        "checks": [
            check
            for check in document["checks"]
            if check["state"] == "problem" or "ended without an answer" in check["status"]
        ],
    }


@pytest.mark.timeout(300 + 2 * LOOKS_S)
def test_a_host_on_which_guests_come_and_go_is_not_said_to_be_in_trouble(stack: Stack) -> None:
    kernel(stack)
    until, alarms, looks = time.monotonic() + LOOKS_S, [], 0
    with stack.backends(), supervising(stack):
        toolstacks = [Toolstack(stack, f"g{number}") for number in range(3)]
        for toolstack in toolstacks:
            toolstack.start()
        while time.monotonic() < until:
            told = wrong(looked(stack))
            looks += 1
            if any(told.values()):
                alarms.append(told)
        for toolstack in toolstacks:
            toolstack.stop()
    print(f"{looks} looks, {sum(t.cycles for t in toolstacks)} guests")
    assert not alarms, json.dumps(alarms, indent=2)
    assert looks > LOOKS_S / 60
    assert all(toolstack.cycles > LOOKS_S / 60 for toolstack in toolstacks)
