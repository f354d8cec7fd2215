# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host whose proc and sysfs hold anything at all: there is a report, and nothing odd in it."""

import contextlib
import json
import random
from pathlib import Path

import pytest

from xlmt.doctor import host, judge, network, render, storage
from xlmt.kernel import diagnose, manage, places, proc

FILES = (
    *(f"proc/{pid}/{name}" for pid in (2, 57, 58, 400, 401) for name in (
        "stat", "status", "stack", "wchan", "comm", "cmdline", "maps", "sched",
        "net/netfilter/nfnetlink_queue",
    )),
    *("proc/self/mountinfo", "proc/self/sched", "proc/kallsyms"),
    *("proc/sys/kernel/hung_task_timeout_secs",),
    *("sys/hypervisor/type", "sys/hypervisor/properties/features"),
    *("sys/class/net/vif1.0/operstate", "sys/devices/vbd-1-51712/physical_device"),
    *("sys/class/net/vif1.0/queues/tx-0/byte_queue_limits/inflight",),
    *("sys/module/xen_mtwatch/version", "sys/kernel/debug/xen_mtwatch/status"),
    *("sys/module/xen_blkback/parameters/feature_persistent",),
    *(f"sys/block/{disk}/{name}" for disk in ("dm-0", "nbd0", "md1", "loop2", "sda") for name in (
        "dev", "stat", "inflight", "size", "dm/name", "dm/suspended", "md/array_state",
        "loop/backing_file", "device/state",
    )),
)  # fmt: skip
STATUS = b"State:\tD (x)\nvoluntary_ctxt_switches:\t7\n"
#: What belongs there, and what does not.
SCRAPS = (
    *(b"57 (xenwatch) D 2 0 0 0 -1 2129984 0 0 0\n", b"400 (1.xvda-0) D 2 0 0 0 -1 0 0\n"),
    *(b"2 (kthreadd) S 0 ", b"58 (xen)bus) D 2 ", STATUS),
    *(b"[<0>] xenvif_disconnect_data+0x1/0x2 [xen_netback]\n[<0>] xenwatch_thread+0x1/0x2\n",),
    *(
        b"se.exec_start : 1" + b"0" * 400,
        b"se.exec_start : 1.2.3\n",
        b"xen\n",
        b"suspended\n",
        b"fe:0\n",
        b"7 42 37 0\n",
        b"0 9\n",
    ),
    *(b"\x1b]0;owned\x07\x1b[2J", b"\xff\xfe\x00", b"9" * 400, b"-1", b"x" * 5000, b"\n\n\r", b""),
    *("²٣".encode(), b"xen_mtwatch 1\nmodule state=on\ndomain 1 pid=57 depth=-1 age=1e400\n"),
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(manage, "LOOK_S", 0.01)
    monkeypatch.setattr(diagnose, "STUCK_S", 0.02)
    monkeypatch.setattr(manage, "names", lambda domids: dict.fromkeys(domids, "web\x1b[2J"))
    monkeypatch.setattr(proc, "runs_on_xen", lambda: True)
    monkeypatch.setattr(storage, "_LOOK_S", 0.01)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def fill(root: Path, chance: random.Random) -> None:
    for name in FILES:
        if chance.random() < 0.85:
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            count = chance.choice((1, 1, 1, 2, 5))
            file.write_bytes(b"".join(chance.choices(SCRAPS, k=count)))
    for pid, stat in ((2, b"(kthreadd) S 0"), (57, b"(xenwatch) D 2"), (400, b"(1.xvda-0) D 2")):
        (root / f"proc/{pid}").mkdir(parents=True, exist_ok=True)
        (root / f"proc/{pid}/stat").write_bytes(b"%d %s %s\n" % (pid, stat, b"0 " * 48))
        if chance.random() < 0.6:  # blocked, as far as we can see
            (root / f"proc/{pid}/status").write_bytes(STATUS)
        if chance.random() < 0.6:
            (root / f"proc/{pid}/sched").write_bytes(b"se.exec_start : 5\n")
            (root / "proc/self").mkdir(exist_ok=True)
            (root / "proc/self/sched").write_bytes(b"se.exec_start : 1" + b"0" * 400)
    for program in ("tc", "ip", "ethtool", "nsenter"):
        (root / f"{program}.out").write_bytes(b"".join(chance.choices(SCRAPS, k=2)))
        (root / program).write_text(f"#!/bin/sh\nexec /bin/cat {root}/{program}.out\n")
        (root / program).chmod(0o755)


@pytest.mark.parametrize("seed", range(25))
def test_there_is_a_report_of_anything(root: Path, seed: int) -> None:
    fill(root, random.Random(seed))
    seen = host.look()
    for said in (render.host_text(seen), render.nagios(seen)[1]):
        assert all(line.isprintable() for line in said.split("\n"))
    assert json.loads(render.host_json(seen))["verdict"] == judge.verdict(seen)


@pytest.mark.parametrize("seed", range(50))
def test_no_reader_raises_what_is_not_caught(root: Path, seed: int) -> None:
    """In the report such an error would only be a child that ended without an answer."""
    fill(root, random.Random(seed))
    readers = (network.queues, network.links, network.programs, network.cards, network.lenders)
    for reader in (*readers, storage.disks, lambda: proc.blocked(0.01), proc.backends):
        with contextlib.suppress(OSError, ValueError):
            reader()
