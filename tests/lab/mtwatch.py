# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel half in the lab: its status, and watches whose callbacks do what a test says.

`Watches` drives tests/lab/kmod/mtwtest.c, whose log has a line for each callback: that is the
witness of where and in which order callbacks run, beside the module's own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from tests.lab.dmesg import quiet
from tests.lab.vm import Lab, Result

DEBUGFS = "/sys/kernel/debug"
PARAMETERS = "/sys/module/xen_mtwatch/parameters"
NODES = "/local/domain/0/mtwatch"


@dataclass(frozen=True)
class Call:
    """A callback, when it began: CLOCK_MONOTONIC in ns, the task, the domid, the watched node."""

    ns: int
    task: str
    domid: int
    node: str
    concurrent: bool


class Watches:
    """Watches of the kernel in dom0, each on a node of a domid; see mtwtest.c for the commands."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @staticmethod
    def node(domid: int, name: str) -> str:
        """What a backend device of `domid` would watch in the frontend's folder, or in its own."""
        if name.startswith("backend/"):
            return f"backend/mtwtest/{domid}/{name.removeprefix('backend/')}"
        return f"/local/domain/{domid}/device/mtwtest/{name}"

    def tell(self, *commands: str) -> Result:
        told = "; ".join(f"echo '{c}' > {DEBUGFS}/mtwtest/control" for c in commands)
        return self._lab.run(f"set -e; {told}", check=True)

    def watch(self, domid: int, *names: str) -> None:
        """Register; returns when each has had the event that every new watch gets."""
        nodes = [self.node(domid, name) for name in names]
        before = len(self.calls())
        self.tell(*(f"watch {node}" for node in nodes))
        self.wait_calls(before + len(nodes))

    def watch_at(self, node: str) -> None:
        """The same of any node that names a domid."""
        before = len(self.calls())
        self.tell(f"watch {node}")
        self.wait_calls(before + 1)

    def write(self, domid: int, *names: str) -> None:
        """Change nodes, in this order."""
        home = PurePosixPath("/local/domain/0")  # the kernel's; xenstore-write has none
        words = " ".join(f"{home / self.node(domid, name)} ''" for name in names)
        self._lab.run(f"xenstore-write {words}", check=True)

    def hold(self, domid: int, name: str) -> None:
        """Have the domid's thread caught in the callback of a watch."""
        self._hold(domid, name, f"^domain domid={domid} .* ")

    def hold_xenwatch(self, domid: int, name: str) -> None:
        """Have xenwatch caught in it, as the domid has no thread."""
        self._hold(domid, name, f"^xenwatch .* domid={domid} ")

    def _hold(self, domid: int, name: str, who: str) -> None:
        self.tell(f"hold {self.node(domid, name)}")
        self.write(domid, name)
        wait_status(self._lab, f"{who}callback=callback .*{name} ")

    def calls(self) -> list[Call]:
        calls = []
        for line in self._lab.read(f"{DEBUGFS}/mtwtest/log").splitlines():
            words = line.split()
            concurrent = words[0] == "CONCURRENT"
            ns, task, domid, node = words[concurrent:]
            calls.append(Call(int(ns), task, int(domid), node, concurrent))
        return calls

    def tasks(self, domid: int, since: int = 0) -> list[str]:
        """Where the callbacks of a domid have run."""
        return [call.task for call in self.calls()[since:] if call.domid == domid]

    def wait_calls(self, count: int, timeout: float = 30.0) -> list[Call]:
        """All calls, once there are so many."""
        self._lab.wait_for(f"[ $(wc -l < {DEBUGFS}/mtwtest/log) -ge {count} ]", timeout)
        return self.calls()


@contextmanager
def loaded(lab: Lab, *parameters: str, allowed: tuple[str, ...] = ()) -> Iterator[None]:
    """The module is there meanwhile, is gone afterwards, and the kernel has not complained."""
    with quiet(lab, allowed):
        lab.run(f"modprobe xen_mtwatch {' '.join(parameters)}", check=True)
        try:
            yield
        finally:
            lab.run(f"echo 'free *' > {DEBUGFS}/mtwtest/control")  # what a failed test holds
            unload(lab)


@contextmanager
def watches(lab: Lab) -> Iterator[Watches]:
    """The test module, for which no callback is held afterwards."""
    lab.run("modprobe mtwtest", check=True)
    try:
        yield Watches(lab)
    finally:
        lab.run("rmmod mtwtest", 30, check=True)
        # Nodes of guests that never were.
        lab.run("xenstore-rm /local/domain/0/backend/mtwtest")
        lab.run("for d in $(xenstore-list /local/domain); do xenstore-exists /local/domain/$d/name"
                " || xenstore-rm /local/domain/$d; done")  # fmt: skip


def unload(lab: Lab) -> None:
    set_parameter(lab, "enabled", 0)
    lab.wait_for(f"grep state=off {DEBUGFS}/xen_mtwatch/status", 60)
    lab.run("rmmod xen_mtwatch", 30, check=True)


def set_parameter(lab: Lab, name: str, value: object) -> None:
    lab.run(f"echo {value} > {PARAMETERS}/{name}", check=True)


def add_node(lab: Lab, *domids: int) -> None:
    """Make nodes by hand, and wait for the threads."""
    for domid in domids:
        lab.run(f"xenstore-write {NODES}/{domid} ''", check=True)
        lab.wait_for(f"pgrep -x xen-mtwatch-{domid}", 30)


def remove_node(lab: Lab, *domids: int) -> None:
    for domid in domids:
        lab.run(f"xenstore-rm {NODES}/{domid}", check=True)


def wait_ended(lab: Lab, *domids: int) -> None:
    for domid in domids:
        lab.wait_for(f"! pgrep -x xen-mtwatch-{domid}", 30)


def status(lab: Lab, kind: str, domid: int | None = None) -> dict[str, str]:
    """A record of the module's status: "module", "xenwatch", or "domain" with a domid."""
    for line in lab.read(f"{DEBUGFS}/xen_mtwatch/status").splitlines()[1:]:
        name, *fields = line.split()
        record = dict(field.split("=", 1) for field in fields)
        if name == kind and (domid is None or record["domid"] == str(domid)):
            return record
    raise AssertionError(f"the status has no {kind} {domid}")


def wait_status(lab: Lab, pattern: str, timeout: float = 30.0) -> None:
    """Wait for a line of the status that matches the extended regex."""
    lab.wait_for(f"grep -E '{pattern}' {DEBUGFS}/xen_mtwatch/status", timeout)


def node_requests(lab: Lab) -> int:
    """How often the module has asked xenstored for a node, by xenstored's own log."""
    script = r"awk '/ DIRECTORY \(mtwatch\// {n++} END {print n + 0}' /run/trace"
    return int(lab.run(script, check=True).out)
