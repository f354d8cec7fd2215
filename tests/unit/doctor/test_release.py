# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ending a stall, with an ip(8) and a kernel that the test writes: what is done, and put back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xlmt.doctor import host, release
from xlmt.doctor.actions import Action, Level
from xlmt.doctor.causes import Cause, Kind, Verdict
from xlmt.doctor.findings import Finding
from xlmt.doctor.model import Host
from xlmt.doctor.traces import Report, Trace
from xlmt.errors import TimedOutError, XlmtError
from xlmt.kernel import places
from xlmt.kernel.diagnose import View

DROP = Action(
    Level.PACKETS,
    (("ip", "link", "set", "sink0", "down"),),
    (("ip", "link", "set", "sink0", "up"),),
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
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(release, "_TO_GO_ON_S", 0.3)
    monkeypatch.setattr(release, "_COMMAND_S", 5.0)
    return World(tmp_path)


def released(
    world: World, monkeypatch: pytest.MonkeyPatch, finding: Finding, **kept: Any
) -> tuple[Host, list[tuple[Action, bool]]]:
    monkeypatch.setattr(
        host, "look", lambda **_: Host(View(), (finding,) if world.is_stuck() else ())
    )
    done: list[tuple[Action, bool]] = []
    last = release.release(
        kept.get("domid"),
        kept.get("most", Level.DEVICE),
        kept.get("wanted", lambda _: True),
        lambda step, went_on: done.append((step.action, went_on)),
    )
    return last, done


CHANGES = ["ip link set sink0 down", "ip link set sink0 up"]


def changes(world: World) -> list[str]:
    return [call for call in world.said if call.startswith("ip link")]


def test_the_first_step_that_helps_is_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.freed_by("ip", "link set sink0 down")
    last, done = released(world, monkeypatch, stall(DROP, RESUME))
    assert done == [(DROP, True)]
    assert changes(world) == CHANGES
    assert not release.stuck(last, None)


def test_a_step_that_does_not_help_is_not_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.freed_by("dmsetup", "resume x")
    _, done = released(world, monkeypatch, stall(DROP, RESUME))
    assert done == [(DROP, False), (RESUME, True)]


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


def test_what_was_taken_down_is_put_back_when_the_rest_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.program("ip", 'case "$*" in *down) echo "RTNETLINK: no" >&2; exit 2;; esac')
    with pytest.raises(XlmtError, match="ip link set sink0 down: RTNETLINK: no"):
        released(world, monkeypatch, stall(DROP))
    assert changes(world) == CHANGES


def test_it_is_put_back_when_somebody_loses_patience(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(*_: object) -> None:
        raise KeyboardInterrupt

    run = release._run

    def interrupted(command: tuple[str, ...], given: bytes = b"") -> bytes:
        out = run(command, given)
        if command[-1] == "down":
            impatient()
        return out

    monkeypatch.setattr(release, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        released(world, monkeypatch, stall(DROP))
    assert changes(world) == CHANGES


def test_one_that_cannot_be_put_back_says_how_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.program("ip", 'case "$*" in *up) exit 2;; esac')
    with pytest.raises(XlmtError, match="to put it back: ip link set sink0 up"):
        released(world, monkeypatch, stall(DROP))


def test_a_command_that_hangs_is_left_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "_COMMAND_S", 0.3)
    world.program("dmsetup", "exec sleep 60")
    with pytest.raises(TimedOutError, match="dmsetup resume x does not end"):
        released(world, monkeypatch, stall(RESUME))


def test_routes_are_the_same_afterwards(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.program("ip", 'case "$*" in *save*) echo "of $1";; *restore*) cat >>"$0.restored";; esac')
    released(world, monkeypatch, stall(DROP))
    assert (world.root / "ip.restored").read_text() == "of -4\nof -6\n"
    order = [call for call in world.said if "route" in call or "link" in call]
    assert [call.split()[-1] for call in order] == [
        *("sink0", "sink0"),  # saved
        *("down", "up"),
        *("restore", "restore"),
    ]


def test_ipv6_addresses_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = world.root / "proc/sys/net/ipv6/conf/sink0/keep_addr_on_down"
    setting.parent.mkdir(parents=True)
    setting.write_text("0")
    world.program("ip", f'case "$*" in *down) cp {setting} {world.root}/then;; esac')
    released(world, monkeypatch, stall(DROP))
    assert ((world.root / "then").read_text(), setting.read_text()) == ("1", "0")


def test_in_another_namespace_routes_are_those_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = DROP._replace(
        commands=(("nsenter", "-n", "-t", "9", "ip", "link", "set", "sink0", "down"),),
        undo=(("nsenter", "-n", "-t", "9", "ip", "link", "set", "sink0", "up"),),
        pid=9,
    )
    released(world, monkeypatch, stall(there))
    assert all(call.startswith("nsenter -n -t 9 ") for call in world.said)
