# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network of a stack's own, whose interfaces look like those that netback makes for guests.

The interfaces, rtnetlink's word on them and packet sockets are real, in a network namespace; what
sysfs says of them is written beside them, as there is no netback.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.stack.stack import Stack

INTERFACES = "/sys/class/net"


class Net:
    """A context manager; commands that are to be in there are started by `within`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._numbers = itertools.count(100)

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline(), "no network namespace"
        self._stack.run("mount", "-t", "tmpfs", "none", INTERFACES)
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate(b"\n", timeout=15)

    @property
    def within(self) -> Sequence[str]:
        return ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--")

    def xlmt(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        return self._stack.run(*self.within, Path(sys.executable).parent / "xlmt", *args)

    def add_vif(self, domid: int, interface: str = "") -> int:
        """The guest gets an interface; returns its index."""
        interface, index = interface or f"vif{domid}.0", next(self._numbers)
        folder = self._folder(interface)
        folder.mkdir()
        (folder / "ifindex").write_text(f"{index}\n")
        (folder / "device").symlink_to(f"../../../devices/vif-{domid}-0")
        self._ip("link", "add", "name", interface, "index", str(index), "up", "type", "bridge")
        return index

    def remove_vif(self, interface: str) -> None:
        self._ip("link", "del", interface)
        shutil.rmtree(self._folder(interface))

    def rename_vif(self, interface: str, to: str) -> None:
        self._folder(interface).rename(self._folder(to))
        self._ip("link", "set", interface, "down")
        self._ip("link", "set", interface, "name", to)
        self._ip("link", "set", to, "up")

    def heard(self, pid: int) -> set[int]:
        """The interfaces that a process has sockets for which hear everything."""
        links = set(_links(Path(f"/proc/{pid}/fd")))
        rows = [line.split() for line in Path(f"/proc/{pid}/net/packet").read_text().splitlines()]
        return {int(row[4]) for row in rows if row[3] == "0003" and f"socket:[{row[8]}]" in links}

    def _folder(self, interface: str) -> Path:
        return self._stack.path(f"{INTERFACES}/{interface}")

    def _ip(self, *args: str) -> None:
        subprocess.run([*self.within, "ip", *args], check=True, timeout=30)


def _links(fds: Path) -> Iterator[str]:
    """What the descriptors are; a running process opens and closes them meanwhile."""
    for fd in os.listdir(fds):  # noqa: PTH208
        with suppress(FileNotFoundError):
            yield os.readlink(fds / fd)  # noqa: PTH115
