# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of xlmt on the stack say again and again."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.stack.stack import Stack
from tests.stack.trace import Request, creation, writes

NODES = "/local/domain/0/mtwatch"


def ok(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def create(stack: Stack, name: str = "g1", kind: str = "pv", **settings: object) -> None:
    ok(stack.xlmt("create", "-q", stack.guest(name, kind, **settings)))


def supervisors(stack: Stack) -> list[int]:
    """The supervisor, and its workers: they are forked, so look the same."""

    def command(pid: int) -> bytes:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""

    ours = re.compile(rb"xlmt\.supervise\.daemon|xlmt\0supervise")
    return [pid for pid in stack.pids() if ours.search(command(pid))]


def set_xl_conf(stack: Stack, text: str) -> None:
    """Have the stack's xl.conf(5) say this."""
    conf = stack.workdir / "xl.conf"
    conf.write_text(text)
    ok(stack.run("mount", "--bind", conf, "/etc/xen/xl.conf"))


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command said; fails when it said more, or a traceback."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Parsing config")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def assert_node_came_first(trace: list[Request], domid: int) -> None:
    """The node's removal, making and permissions, then the domain's first request."""
    node, home = f"{NODES}/{domid}", f"/local/domain/{domid}"
    first = writes(creation(trace, domid))[:4]
    assert [(r.op, r.path) for r in first] == [
        ("RM", node),
        ("MKDIR", node),
        ("SET_PERMS", node),
        ("RM", home),
    ]
    assert first[2].args == ("n0",)


def assert_node_went_last(trace: list[Request], domid: int) -> None:
    """Nothing that changes the store comes after the node's removal, until the next domain."""
    node = f"{NODES}/{domid}"
    removals = [i for i, r in enumerate(trace) if r.op == "RM" and r.path == node and r.tx is None]
    assert removals, f"{node} was not removed"
    its_own = re.compile(rf"(/local/domain|/libxl|/local/domain/0/backend/\w+)/{domid}(/|$)")
    later = [r for r in writes(trace[removals[-1] + 1 :]) if its_own.match(r.path)]
    assert later == []
    before = [r for r in trace[: removals[-1]] if r.path == f"/local/domain/{domid}/hvmloader"]
    assert before, "the removal came before libxl's last request"
