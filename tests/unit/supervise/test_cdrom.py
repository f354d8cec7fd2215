# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which CD drives a worker is sent for, and which are looked at again."""

import time
from typing import Any

import pytest

from xlmt.model import Domain
from xlmt.supervise.cdrom import Drives, Eject
from xlmt.xenstore import WatchEvent

OURS = "/libxl/3/device/vbd"


class Tree:
    """A xenstore with a guest's two drives, which tells of a watch at once that it is set."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        self.watched: dict[str, str] = {}
        self.events: list[WatchEvent] = []
        for devid, vdev in (("5632", "hdc"), ("5696", "hdd")):
            self.nodes[f"{OURS}/{devid}/device-type"] = "cdrom"
            self.nodes[f"{OURS}/{devid}/dev"] = vdev
            self.nodes[f"/local/domain/3/device/vbd/{devid}/eject"] = "eject"

    def read(self, path: str) -> str | None:
        return self.nodes.get(path)

    def list(self, path: str) -> list[str] | None:
        return ["5632", "5696"] if path == OURS else None

    def watch(self, path: str, token: str) -> None:
        self.watched[path] = token
        self.events.append(WatchEvent(path, token))

    def unwatch(self, path: str, _token: str) -> None:
        del self.watched[path]

    def tell(self, drives: Drives) -> None:
        told, self.events = self.events, []
        assert all(drives.take(event) for event in told)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def test_an_eject_that_no_worker_came_to_is_seen_again(now: list[float]) -> None:
    tree = Tree()
    store: Any = tree
    drives = Drives(store)
    drives.look([(Domain(3), "3-0")])
    tree.tell(drives)
    both = list(drives.ejected())
    assert [eject.vdev for eject in both] == ["hdc", "hdd"]
    assert len({eject.key for eject in both}) == 1  # so one of them is dropped
    _carried_out(tree, both[0])
    now[0] += drives.next_s()
    assert list(drives.ejected()) == []  # they are watched again, which tells
    tree.tell(drives)
    assert [eject.vdev for eject in drives.ejected()] == ["hdd"]


def _carried_out(tree: Tree, eject: Eject) -> None:
    tree.nodes[eject.node] = ""
