# SPDX-License-Identifier: LGPL-2.1-or-later
"""Killed at any moment, the supervisor brings every guest back exactly once per death.

Witness: the hypervisor's files. It hands out domids in ascending order, so the last one tells how
many domains there have ever been; and a guest keeps its handle through all of its lives.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stack.conftest import require
from tests.stack.daemon import Daemon
from tests.stack.product import create, supervisors
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import NO_LIMIT, Doubles, Killer, log, look, supervising, up

DEATHS = int(os.environ.get("XLMT_DEATHS", "0"))
SEED = int(os.environ.get("XLMT_STORM_SEED", str(random.randrange(1 << 32))))
GUESTS = 12
XENSTOREDS = int(os.environ.get("XLMT_XENSTOREDS", "8"))
#: A restart takes seconds, and one whose domain got no home 15 more; the killer waits that long
#: only after some lives in which nothing came back.
NO_PROGRESS_S = 300
#: So often the supervisor is killed at least; a fast machine has seen to the deaths before that.
KILLS = 3


def guests(stack: Stack, count: int) -> dict[str, str]:
    """Create guests that come back when they reboot; handle by name."""
    with supervising(stack, env=NO_LIMIT):
        for number in range(count):
            create(stack, f"g{number}", on_reboot="restart")
    domains = stack.domains()
    return {f"g{n}": domains[n + 1].handle for n in range(count)}


@contextmanager
def no_doubles(stack: Stack) -> Iterator[None]:
    doubles = Doubles(stack)
    doubles.start()
    try:
        yield
    finally:
        doubles.stop()
    assert doubles.found == []
    assert doubles.looks > 100


def domid_of(stack: Stack, handle: str) -> int | None:
    """The guest's domain that runs now."""
    running = (d for d in stack.domains().values() if d.handle == handle and not d.dying)
    return next((d.domid for d in running if not d.paused and not d.reason), None)


def let_die(stack: Stack, handles: list[str], deaths: int, killer: Killer) -> None:
    """Reboot guests, each as soon as it is up, until there were enough deaths and enough kills."""

    def enough() -> bool:
        return killer.achieved >= deaths and killer.kills >= KILLS

    deadline = time.monotonic() + NO_PROGRESS_S
    while not enough():
        killer.check()
        assert time.monotonic() < deadline, f"no guest comes back any more\n{log(stack)[-3000:]}"
        for handle in handles:
            domid = domid_of(stack, handle)
            if domid is not None and not enough():
                stack.die(domid, "reboot")
                killer.achieved += 1
                deadline = time.monotonic() + NO_PROGRESS_S
        time.sleep(0.02)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("daemon", "family", "deaths"),
    [("c", False, 48), ("c", True, 36), ("ocaml", True, 36)],
    ids=["c", "c-family", "ocaml-family"],
)
def test_every_death_is_seen_to_exactly_once(
    daemon: Daemon, family: bool, deaths: int, tmp_path: Path
) -> None:
    require(daemon)
    deaths = DEATHS or deaths
    print(f"XLMT_STORM_SEED={SEED} XLMT_DEATHS={deaths}")
    with Stack(daemon, workdir=tmp_path / "stack", traced=False) as stack:
        handles = guests(stack, GUESTS)
        killer = Killer(stack, SEED, family=family)
        with no_doubles(stack):
            killer.start()
            let_die(stack, list(handles.values()), deaths, killer)
            killer.stop()
            with supervising(stack, env=NO_LIMIT):
                eventually(lambda: up(stack) == dict.fromkeys(handles.values(), 1), timeout=180)
                eventually(lambda: len(supervisors(stack)) == 1, timeout=60)
                assert look(stack)
                assert_nothing_is_left(stack, handles)
        print(f"{killer.kills} kills; {max(stack.domains())} domains, {killer.achieved} deaths")
        assert killer.kills >= KILLS
        if not family:  # else there are half-made ones, too, that were made again
            assert max(stack.domains()) == GUESTS + killer.achieved


def assert_nothing_is_left(stack: Stack, handles: dict[str, str]) -> None:
    """Every guest is up once, by its own name, with its node; and that is all there is."""
    domains = {d.domid: d for d in stack.domains().values() if d.domid}
    assert sorted(d.handle for d in domains.values()) == sorted(handles.values())
    assert set(stack.nodes()) == {str(domid) for domid in domains}
    with stack.client() as client:
        names = {client.read(f"/local/domain/{d}/name"): domains[d].handle for d in domains}
    assert names == handles
    assert not list(stack.path("/run/xlmt/jobs").iterdir())


def test_it_outlives_one_xenstored_after_the_other_with_guests_that_die_meanwhile(
    stack: Stack,
) -> None:
    rng = random.Random(SEED)
    print(f"XLMT_STORM_SEED={SEED}")
    handles = guests(stack, 5)
    with supervising(stack, env=NO_LIMIT) as it, no_doubles(stack):
        for number in range(XENSTOREDS):
            handle = list(handles.values())[number % len(handles)]
            eventually(lambda: domid_of(stack, handle), timeout=60)  # noqa: B023
            stack.die(domid_of(stack, handle) or 0, "reboot")
            time.sleep(rng.uniform(0, 2.5))  # at any point of the restart
            stack.restart_daemon()
        eventually(lambda: up(stack) == dict.fromkeys(handles.values(), 1), timeout=90)
        eventually(lambda: len(supervisors(stack)) == 1, timeout=60)
        eventually(lambda: look(stack), timeout=20)
        assert it.poll() is None
        assert len(stack.domains()) == 1 + len(handles)
