# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest may write moves nothing but its own CD, and costs next to nothing."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.stack.product import create, ok
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import log, look, supervising
from tests.stack.test_supervise import hvm_guest
from tests.stack.wire import Client

XLMT = Path(sys.executable).parent / "xlmt"
DRIVE = "/local/domain/1/device/vbd/5632"
SEED = int(os.environ.get("XLMT_STORM_SEED", str(random.randrange(1 << 32))))
STEPS = int(os.environ.get("XLMT_GUEST_STEPS", "300"))
FORGED = "hdc\x1b[2J\nxlmt: domain 9 (db) has been destroyed"


def params(client: Client, domid: int) -> str:
    return client.read(f"/local/domain/0/backend/qdisk/{domid}/5632/params")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("dev", [FORGED, "hdc\udcff\udce9", "../../0/x", "h" * 2000, "", "hda"])
def test_a_guest_cannot_choose_which_drive_is_emptied(stack: Stack, dev: str) -> None:
    """Its link to its backend is its own: domain 0 has a word of its own for that."""
    with supervising(stack), stack.backends(), stack.client() as client:
        ok(stack.xlmt("create", "-q", hvm_guest(stack, "h1")))
        mine = "/local/domain/1/data/backend"
        client.write(f"{mine}/dev", dev)
        client.write(f"{DRIVE}/backend", mine)
        client.write(f"{DRIVE}/eject", "eject")
        eventually(lambda: "h1 (domain 1) has ejected the CD in hdc" in log(stack))
        eventually(lambda: params(client, 1) == "")
    assert "destroyed" not in log(stack)
    assert log(stack).replace("\n", "").isprintable()


def test_in_the_foreground_an_ejected_cd_is_out_of_its_drive(stack: Stack) -> None:
    config = hvm_guest(stack, "h1")
    with (
        stack.backends(),
        stack.client() as client,
        stack.popen(XLMT, "create", "-F", config) as process,
    ):
        eventually(lambda: 1 in stack.domains() and not stack.domains()[1].paused)
        assert params(client, 1).endswith("cd.iso")
        client.write(f"{DRIVE}/eject", "eject")
        eventually(lambda: params(client, 1) == "", timeout=20)
        stack.die(1, "poweroff")
        assert process.wait(30) == 0


@contextmanager
def flood(stack: Stack, *writes: tuple[str, str], rate: int = 200) -> Iterator[None]:
    """A guest that writes so often a second."""
    enough = threading.Event()

    def write() -> None:
        with stack.client() as client:
            began, number = time.monotonic(), 0
            while not enough.is_set():
                path, value = writes[number % len(writes)]
                with suppress(OSError):
                    client.write(path, value)
                number += 1
                time.sleep(max(began + number / rate - time.monotonic(), 0))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(15)


@pytest.mark.parametrize(
    "writes",
    [[("eject", "x")], [("eject", "eject")], [("other", "x"), ("state", "4")]],
    ids=["eject", "ejected", "others"],
)
def test_a_flood_of_writes_costs_next_to_nothing(
    stack: Stack, writes: list[tuple[str, str]]
) -> None:
    """bench/events.py has the figures; here, what no slow machine exceeds."""
    stack.add_domains(range(100, 400))
    with supervising(stack) as it, stack.backends(), stack.client() as client:
        for name in ("h1", "h2"):
            ok(stack.xlmt("create", "-q", hvm_guest(stack, name)))
        assert look(stack)
        with flood(stack, *[(f"{DRIVE}/{name}", value) for name, value in writes]):
            time.sleep(1)
            used, lines, began = cpu_s(it.pid), log(stack).count("\n"), time.monotonic()
            client.write("/local/domain/2/device/vbd/5632/eject", "eject")
            eventually(lambda: "h2 (domain 2) has ejected" in log(stack))  # at once, all the same
            time.sleep(max(began + 10 - time.monotonic(), 0))
            took = time.monotonic() - began
            assert (cpu_s(it.pid) - used) / took < 0.10
            assert log(stack).count("\n") - lines <= 8


# --- all of what a guest may write ---------------------------------------------------------

HOSTILE = [
    "eject", "", "\0", "\x1b[2J", "a\nxlmt: domain 9 (db) has been destroyed", "\udcff\udcfe",
    "/local/domain/2", "/local/domain/0/mtwatch/2", "../../2", "9" * 500, "-1", "%s%n", "2",
]  # fmt: skip
NAMES = ["eject", "backend", "backend-id", "state", "x", "mtwatch", "device-type", "dev", "vm"]


def homes_of(domid: int, client: Client) -> list[str]:
    """Where the guest may write: what it owns, and what it may make below that."""
    found, todo = [], [f"/local/domain/{domid}"]
    while todo:
        path = todo.pop()
        perms = client.perms(path)
        if perms[0] == f"n{domid}" or f"b{domid}" in perms or f"w{domid}" in perms:
            found.append(path)
        todo += [f"{path}/{name}" for name in client.ls(path)]
    return found


def everything(client: Client, path: str) -> dict[str, str]:
    """All below a node, and what domain 0 says of it."""
    found = {path: client.read(path)}
    for name in client.ls(path):
        found |= everything(client, f"{path}/{name}")
    return found


def test_whatever_a_guest_writes_touches_nobody_else(stack: Stack) -> None:
    print(f"XLMT_STORM_SEED={SEED}")
    rng = random.Random(SEED)
    with supervising(stack) as it, stack.backends(), stack.client() as client:
        for name in ("h1", "h2"):
            ok(stack.xlmt("create", "-q", hvm_guest(stack, name)))
        create(stack, "g3")
        others = ["/local/domain/2", "/libxl/2", "/local/domain/3", "/libxl/3"]
        before = [everything(client, path) for path in others]
        places = homes_of(1, client)
        assert f"{DRIVE}" in places
        used, began = cpu_s(it.pid), time.monotonic()
        for step in range(STEPS):
            path = rng.choice([*places, DRIVE])
            target = rng.choice([path, *(f"{path}/{name}" for name in NAMES)])
            with suppress(OSError):
                if rng.random() < 0.1 and target not in places:
                    client.rm(target)
                else:
                    client.write(target, rng.choice(HOSTILE))
            if step % 50 == 0:
                assert look(stack)
        took = time.monotonic() - began
        assert look(stack)
        assert stack.nodes() == {"1": "n0", "2": "n0", "3": "n0"}
        assert [everything(client, path) for path in others] == before
        assert {d.domid for d in stack.domains().values()} == {0, 1, 2, 3}
        assert (cpu_s(it.pid) - used) < 0.5 * took + 3
    said = log(stack)
    assert "destroyed" not in said
    assert "h2" not in said.partition("supervising this host")[2].replace("h2.cfg", "")
    assert said.replace("\n", "").isprintable()
    assert said.count("\n") < 60
