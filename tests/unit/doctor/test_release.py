# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ending a stall, with an ip(8) and a kernel that the test writes: what is done, and put back."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xlmt.doctor import host, release
from xlmt.doctor.actions import Action, Level
from xlmt.doctor.causes import Cause, Kind, Verdict
from xlmt.doctor.findings import Finding
from xlmt.doctor.model import Host
from xlmt.doctor.release import Outcome
from xlmt.doctor.traces import Report, Trace
from xlmt.errors import XlmtError
from xlmt.kernel import places
from xlmt.kernel.diagnose import View

DROP = Action(
    Level.PACKETS,
    (("ip", "link", "set", "dev", "sink0", "down"),),
    (("ip", "link", "set", "dev", "sink0", "up"),),
    "sink0",
)
RESUME = Action(Level.DEVICE, (("dmsetup", "resume", "x"),))
SAID = Action(Level.SAID, (("lsscsi -l",),))


def stall(*actions: Action, domid: int = 3, verdict: Verdict = Verdict.STALL) -> Finding:
    trace = Trace("xenwatch", ("xenvif_free",), Report.HUNG, 57, 60)
    cause = Cause(Kind.NETBACK_INFLIGHT, verdict)
    return Finding(trace, cause, domid, actions=actions)


class World:
    """Programs that write down how they were called, and a thread that goes on when told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls = root / "calls"
        self.status = root / "proc/57/status"
        self.status.parent.mkdir(parents=True)
        self.goes_on(False)
        self.is_stuck: Callable[[], bool] = lambda: "ctxt_switches:\t7\n" in self.status.read_text()
        self.handlers: list[tuple[signal.Signals, Any]] = []
        for name in ("ip", "dmsetup", "nsenter"):
            self.program(name)

    def program(self, name: str, does: str = "") -> None:
        file = self.root / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{does}\n')
        file.chmod(0o755)

    def goes_on(self, on: bool = True) -> None:
        self.status.write_text(f"State:\tD (x)\nvoluntary_ctxt_switches:\t{8 if on else 7}\n")

    def freed_by(self, program: str, words: str) -> None:
        switched = f"printf 'State:\\tS (x)\\nvoluntary_ctxt_switches:\\t8\\n' >{self.status}"
        self.program(program, f'case "$*" in "{words}") {switched};; esac')

    @property
    def said(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(release, "_TO_GO_ON_S", 0.3)
    monkeypatch.setattr(release, "_COMMAND_S", 5.0)
    made = World(tmp_path)
    yield made
    for number, handler in made.handlers:
        signal.signal(number, handler)


def released(
    world: World, monkeypatch: pytest.MonkeyPatch, finding: Finding, **kept: Any
) -> tuple[Host, list[tuple[Action, Outcome]]]:
    monkeypatch.setattr(
        host, "look", lambda **_: Host(View(), (finding,) if world.is_stuck() else ())
    )
    done: list[tuple[Action, Outcome]] = []
    last = release.release(
        kept.get("domid"),
        kept.get("most", Level.DEVICE),
        kept.get("wanted", lambda _: True),
        lambda step, outcome: done.append((step.action, outcome)),
    )
    return last, done


CHANGES = ["ip link set dev sink0 down", "ip link set dev sink0 up"]


def changes(world: World) -> list[str]:
    return [call for call in world.said if call.startswith("ip link")]


def test_the_first_step_that_helps_is_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.freed_by("ip", "link set dev sink0 down")
    last, done = released(world, monkeypatch, stall(DROP, RESUME))
    assert done == [(DROP, Outcome(True))]
    assert changes(world) == CHANGES
    assert not release.stuck(last, None)


def test_a_step_that_does_not_help_is_not_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.freed_by("dmsetup", "resume x")
    _, done = released(world, monkeypatch, stall(DROP, RESUME))
    assert done == [(DROP, Outcome(False)), (RESUME, Outcome(True))]


def test_nothing_more_is_done_than_is_accepted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, done = released(world, monkeypatch, stall(DROP, RESUME, SAID), most=Level.NOTHING)
    assert (done, world.said) == ([], [])
    assert release.stuck(last, None)
    _, done = released(world, monkeypatch, stall(DROP, RESUME, SAID), most=Level.DATA)
    assert [action for action, _ in done] == [DROP, RESUME]  # what is only said is never done


def test_a_step_that_nobody_wants_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, done = released(
        world, monkeypatch, stall(DROP, RESUME), wanted=lambda step: step.action is RESUME
    )
    assert [action for action, _ in done] == [RESUME]


@pytest.mark.parametrize(
    "finding",
    [stall(DROP, domid=4), stall(DROP, verdict=Verdict.WILL_STALL)],
    ids=["another-s", "not-stuck"],
)
def test_nothing_is_done_for_others(
    world: World, monkeypatch: pytest.MonkeyPatch, finding: Finding
) -> None:
    _, done = released(world, monkeypatch, finding, domid=3)
    assert (done, world.said) == ([], [])


def test_a_step_that_fails_does_not_keep_the_next_from_being_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.program("ip", 'case "$*" in *down) echo "RTNETLINK: no" >&2; exit 2;; esac')
    world.freed_by("dmsetup", "resume x")
    _, done = released(world, monkeypatch, stall(DROP, RESUME))
    error = "ip link set dev sink0 down: RTNETLINK: no"
    assert done == [(DROP, Outcome(False, error)), (RESUME, Outcome(True))]
    assert changes(world) == CHANGES  # put back whatever it has done


def test_the_mildest_of_all_findings_comes_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "look", lambda **_: Host(View(), (stall(RESUME), stall(DROP))))
    done: list[Action] = []
    release.release(None, Level.DEVICE, lambda _: True, lambda step, _: done.append(step.action))
    assert done == [DROP, RESUME]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_wait_until_it_is_put_back(
    world: World, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """As many as there may be: an impatient person, and then the terminal is gone.

    The kernel gives them to any thread that does not block them.
    """
    routes: list[bool] = []
    restore = "xlmt.doctor.release._Routes.restore"
    monkeypatch.setattr(restore, lambda _: routes.append(True))
    over = threading.Event()
    other = threading.Thread(target=over.wait, args=(60,))
    other.start()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        restored = signal.signal(each, interrupt)
        world.handlers.append((each, restored))
    kill = f"kill -{number.name[3:]} {os.getpid()}; kill -HUP {os.getpid()}"
    world.program("ip", f'case "$*" in *down | *up) {kill};; esac')
    with pytest.raises(KeyboardInterrupt):
        released(world, monkeypatch, stall(DROP))
    over.set()
    other.join()
    assert changes(world) == CHANGES
    assert routes


def interrupt(*_: object) -> None:
    """As the command line does it; of two at once the second finds it done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, passed_over)  # of one that Python has by now, SIG_IGN would warn
    raise KeyboardInterrupt


def passed_over(*_: object) -> None:
    """Nothing is left to be interrupted."""


def test_one_that_cannot_be_put_back_says_how_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.program("ip", 'case "$*" in *up) exit 2;; esac')
    with pytest.raises(XlmtError, match="to put it back: ip link set dev sink0 up"):
        released(world, monkeypatch, stall(DROP))


def test_a_command_that_hangs_is_left_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "_COMMAND_S", 0.3)
    world.program("dmsetup", "exec sleep 60")
    _, ((_, outcome),) = released(world, monkeypatch, stall(RESUME))
    assert outcome.error == "dmsetup resume x does not end; it may still be done later"


ROUTES = """case "$*" in
*show*) [ -e "$0.gone" ] || echo "default via 10.0.0.1 of $1";;
*down) touch "$0.gone";;
*save*) echo "of $1";;
*restore*) cat >>"$0.restored"; %s;;
esac"""


def test_routes_are_the_same_afterwards(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.program("ip", ROUTES % 'rm -f "$0.gone"')
    released(world, monkeypatch, stall(DROP))
    assert (world.root / "ip.restored").read_text() == "of -4\nof -6\n"


def test_routes_that_are_lost_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "_ROUTES_S", 0.1)
    world.program("ip", ROUTES % "false")
    with pytest.raises(XlmtError, match=r"these routes are lost: default via 10.0.0.1 of -4; "):
        released(world, monkeypatch, stall(DROP))
    assert changes(world) == CHANGES


def test_ipv6_addresses_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = world.root / "proc/sys/net/ipv6/conf/sink0/keep_addr_on_down"
    setting.parent.mkdir(parents=True)
    setting.write_text("0")
    world.program("ip", f'case "$*" in *down) cp {setting} {world.root}/then;; esac')
    released(world, monkeypatch, stall(DROP))
    assert ((world.root / "then").read_text(), setting.read_text()) == ("1", "0")
