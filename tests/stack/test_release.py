# SPDX-License-Identifier: LGPL-2.1-or-later
"""An interface that release takes down and up, with the real ip(8), in a network namespace."""

import os
import subprocess
import sys

import pytest

SET_UP = """
set -e
ip link add name v0 type veth peer name v1
ip link set dev v1 up
ip link set dev v0 up
ip address add 10.0.0.2/24 dev v0
ip -6 address add fd00::2/64 dev v0
ip route add default via 10.0.0.1
ip route add 192.0.2.0/24 via 10.0.0.9 metric 7
ip -6 route add 2001:db8::/32 via fd00::1
ip link set lo up
"""
SHOWN = ("ip -4 route show table all", "ip -6 route show table all", "ip address show dev v0")
#: An interface may be called like a word of ip's own.
PROGRAM = """
import subprocess, sys
from xlmt.doctor.actions import Action, Level
from xlmt.doctor.causes import Cause, Kind, Verdict
from xlmt.doctor.findings import Finding
from xlmt.doctor.release import Step, _carry_out
from xlmt.doctor.traces import Trace

change = ("ip", "link", "set", "dev", sys.argv[1])
action = Action(Level.PACKETS, ((*change, "down"),), ((*change, "up"),), sys.argv[1])
stall = Finding(Trace("xenwatch", ()), Cause(Kind.NETBACK_INFLIGHT, Verdict.STALL))
outcome = _carry_out(Step(stall, action))
assert outcome.went_on, outcome
"""


def inside(name: str) -> str:
    """What is shown before and after, in a namespace of its own."""
    show = "; ".join(command.replace("v0", name) for command in SHOWN)
    settle = f"while ip -6 address show dev {name} | grep -q tentative; do sleep .1; done"
    script = f"{SET_UP.replace('v0', name)}{settle}\n{show}\necho ====\n"
    script += f"'{sys.executable}' -c \"$1\" {name}\n{settle}\n{show}\n"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh", PROGRAM],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lacks = "Unknown device type" in done.stderr or "unshare failed" in done.stderr
    if lacks and os.environ.get("CI") != "true":
        pytest.skip(f"no network namespace with a veth can be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["v0", "group"])
def test_routes_and_addresses_are_the_same_afterwards(name: str) -> None:
    before, after = (set(map(str.strip, text.splitlines())) for text in inside(name).split("===="))
    assert "default via 10.0.0.1 dev " + name in before
    assert before - after == set()
