# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt guard` costs: `python -m bench.guard`, as root; with names of frames only those.

A guest of the lab sends frames as fast as it can, by the bridge to a dummy device that drops them:
nothing else is done with a packet, so that the copy weighs as much as it ever can. With and without
the guard in turn: the frames and bytes that netback takes in a second, and for how long domain 0's
CPUs work for each frame.

The CPU is emulated. A copy costs less of a real one.
"""

import re
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench import report, spread
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, wait_up

ROUNDS = 5
WINDOW_S = 4
#: Bytes of a frame; the last one is what a stream is handed over in.
FRAMES = {"small": 64, "full": 1514, "stream": 60_000}
GUEST = """/etc/xen/demo-pv.cfg 'disk=["phy:/dev/loop6,xvda,r"]'
    'extra="console=hvc0 quiet xlmt.run=xvda"'""".replace("\n", " ")
SET_UP = """set -e
    modprobe -a dummy
    ip link add sink0 type dummy
    ip link set sink0 master br0 up
    bridge fdb replace 02:00:00:00:00:09 dev sink0 master static
    mkdir -p /run/send
    gcc -static -O2 -o /run/send/send /run/send.c
"""
#: The run of a window, between two looks at all that is counted.
LOOK = "cat /proc/uptime; head -n 1 /proc/stat; grep -H . {vif}/rx_packets {vif}/rx_bytes"


class Window(NamedTuple):
    frames_s: float
    mbit_s: float
    cpu_us: float


Sides = Mapping[str, list[Window]]


def main() -> None:
    with Lab("c") as lab:
        kernel = lab.run("uname -r | cut -d. -f1,2", check=True).out.strip()
        lab.push("/run/send.c", Path(__file__).with_name("guard_send.c").read_text())
        lab.run(SET_UP, 120, check=True)
        lab.spawn("exec xlmt supervise")
        lab.wait_for("[ -S /run/xlmt/supervise.sock ]")
        for what in sys.argv[1:] or FRAMES:
            show(f"guard/{kernel}/{what}", FRAMES[what], measured(lab, FRAMES[what]))


def measured(lab: Lab, size: int) -> Sides:
    lab.push("/run/send/run", f"#!/bin/sh\nifconfig eth0 up\nexec ./send {size}\n", executable=True)
    lab.run("tar -cf /run/send.tar -C /run/send run send", check=True)
    lab.run("truncate -s %512 /run/send.tar; losetup /dev/loop6 /run/send.tar", check=True)
    lab.run("rm -f /var/log/xen/console/guest-demo-pv.log")
    lab.run(f"xl create {GUEST}", 120, check=True)
    wait_up(lab, "demo-pv")
    vif = f"vif{domid_of(lab, 'demo-pv')}.0"
    lab.wait_for(f"[ $(cat /sys/class/net/{vif}/statistics/rx_packets) -gt 1000 ]", 120)
    sides: Sides = {"off": [], "on": []}
    for _ in range(ROUNDS):
        for side, windows in sides.items():
            lab.run(f"xlmt guard {side}", check=True)
            copied = given_back(lab, vif, "fail")
            windows.append(window(lab, vif))
            assert (given_back(lab, vif, "fail") > copied) is (side == "on" and size > 128)
    lab.run("xl destroy demo-pv; losetup -d /dev/loop6", 120)
    return sides


def given_back(lab: Lab, vif: str, how: str) -> int:
    """How many packets netback has got back: after use (success) or because of a copy (fail)."""
    said = lab.run(f"ethtool -S {vif}", check=True).out
    return sum(map(int, re.findall(rf"zerocopy_{how}: (\d+)", said)))


def window(lab: Lab, vif: str) -> Window:
    look = LOOK.format(vif=f"/sys/class/net/{vif}/statistics")
    said = lab.run(f"sleep 1; {look}; sleep {WINDOW_S}; {look}", 60, check=True).out.splitlines()
    before, after = counted(said[:4]), counted(said[4:])
    seconds, busy, frames, octets = (b - a for a, b in zip(before, after, strict=True))
    return Window(frames / seconds, octets * 8 / seconds / 1e6, busy * 1e4 / frames)


def counted(said: list[str]) -> tuple[float, ...]:
    """Seconds, ticks that CPUs were busy (of a hundred a second), frames and bytes."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, said[1].split()[1:])
    busy = user + nice + system + irq + softirq
    return float(said[0].split()[0]), busy, *(int(line.rpartition(":")[2]) for line in said[2:])


def show(what: str, size: int, sides: Sides) -> None:
    medians = {
        side: Window(*map(statistics.median, zip(*windows, strict=True)))
        for side, windows in sides.items()
    }
    off, on = medians["off"], medians["on"]
    report(
        bench=what,
        frame=size,
        rounds=ROUNDS,
        frames_per_s={side: round(w.frames_s) for side, w in medians.items()},
        mbit_per_s={side: round(w.mbit_s, 1) for side, w in medians.items()},
        cpu_us_per_frame={side: round(w.cpu_us, 1) for side, w in medians.items()},
        spread_frames_per_s={
            side: spread([w.frames_s for w in windows]) for side, windows in sides.items()
        },
        ratio={
            "frames": round(on.frames_s / off.frames_s, 2),
            "cpu": round(on.cpu_us / off.cpu_us, 2),
        },
    )


if __name__ == "__main__":
    main()
