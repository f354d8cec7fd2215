# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a host has to have beside a xenwatch that goes on: each check by what it reads."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from xlmt import paths, session
from xlmt.doctor import checks
from xlmt.doctor.model import IDS, Domains, State
from xlmt.domains import xl
from xlmt.errors import NoXenError, XenstoreUnreachableError
from xlmt.kernel import places, rescue
from xlmt.model import Domain
from xlmt.nodes import reconcile
from xlmt.nodes.model import Action, Outcome, Plan, Result, Snapshot, Verb
from xlmt.nodes.model import State as NodeState
from xlmt.supervise import presence

UNNEEDED = Result.UNNEEDED


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "ROOT", tmp_path)
    places.processes().mkdir()
    return tmp_path


def wrote(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_backend_that_is_not_loaded_is_named_with_what_loads_it() -> None:
    drivers = places.backends().parent / "drivers"
    (drivers / "vif").mkdir(parents=True)
    told = checks.drivers()
    assert (told.state, told.actions) == (State.PROBLEM, ("modprobe -a xen-blkback",))
    assert "unable to add device" in told.status
    (drivers / "vbd").mkdir()
    assert checks.drivers().state is State.OK


@pytest.mark.parametrize(
    ("text", "state"), [("120\n", State.OK), ("0\n", State.OK), (None, State.SKIPPED)]
)
def test_whether_the_kernel_tells_of_hung_tasks(root: Path, text: str | None, state: State) -> None:
    if text is not None:
        wrote(root / "proc/sys/kernel/hung_task_timeout_secs", text)
    assert checks.hung_tasks().state is state


def runs(pid: int, name: str, *mapped: str, cmdline: bytes = b"") -> None:
    folder = places.processes() / str(pid)
    lines = [f"7f00-7f01 r-xp 00000000 08:01 7 {' ' * 20}{file}\n" for file in mapped]
    wrote(folder / "maps", "".join(lines) + "7f02-7f03 rw-p 00000000 00:00 0\n")
    wrote(folder / "comm", f"{name}\n")
    (folder / "cmdline").write_bytes(cmdline)


LIBXL = "/usr/lib/x86_64-linux-gnu/libxenlight.so.4.20.0"


def test_a_toolstack_without_the_interposer_is_named() -> None:
    runs(700, "cat")
    runs(701, "xlmt", LIBXL, "/usr/lib/python3/dist-packages/xlmt/libxl/_libxl.abi3.so")
    runs(702, "libvirtd", LIBXL, f"/opt/{xl.preload_library().name}")
    assert checks.interposer().state is State.OK
    runs(703, "xl", LIBXL)
    told = checks.interposer()
    assert told.state is State.PROBLEM
    assert "xl (pid 703) runs without" in told.status


def test_the_emulator_of_a_domain_is_found_by_its_command_line() -> None:
    runs(800, "qemu", cmdline=b"/usr/bin/qemu-system-i386\0-xen-domid\x003\0-nodefaults\0")
    runs(801, "qemu", cmdline=b"/usr/bin/qemu-system-i386\0-xen-domid\x0031\0")
    runs(802, "odd", cmdline=b"qemu\0-xen-domid")
    assert [*checks._emulators(3)] == ["qemu-system-i386 (pid 800)"]


ACTION = Action(Verb.ADD, "7", 7, NodeState.MISSING, "its domain has no node")


@pytest.mark.parametrize(
    ("plan", "state"),
    [
        (Plan(), State.OK),
        (Plan((ACTION, ACTION)), State.PROBLEM),
        (Plan(complete=False, problems=("hypervisor: gone",)), State.SKIPPED),
    ],
)
def test_nodes_are_judged_as_reconcile_would(plan: Plan, state: State) -> None:
    told = checks._nodes(plan)
    assert told.state is state
    if state is State.PROBLEM:
        assert told.status == "add node 7: its domain has no node, and 1 more"
        assert told.actions == ("xlmt reconcile",)


LEFT_OVER = Action(Verb.REMOVE, "8", 8, NodeState.ORPHAN, "web (domain 8) is gone")


class Hypervisor:
    """What it lists, one look after the other; None: it does not answer."""

    def __init__(self, *looks: dict[int, Domain] | None) -> None:
        self.looks = list(looks)

    def domains(self) -> dict[int, Domain]:
        now = self.looks.pop(0)
        if now is None:
            raise NoXenError("the hypervisor does not list its domains")
        return now


def domains(
    monkeypatch: pytest.MonkeyPatch,
    *looks: dict[int, Domain] | None,
    actions: tuple[Action, ...] = (),
) -> Domains:
    """What the look at all domains says, after which the hypervisor says `looks`.

    Nothing of `actions` is still to be done a second later.
    """
    ctx: Any = Hypervisor(*looks[1:])
    seen = Snapshot(domains=looks[0])
    monkeypatch.setattr(checks, "_LOOK_S", 0)
    monkeypatch.setattr(reconcile, "_SETTLED_S", 0)
    monkeypatch.setattr(reconcile, "apply", lambda *_, **__: iter([Outcome(LEFT_OVER, UNNEEDED)]))
    monkeypatch.setattr(session, "opened", lambda what: nullcontext((None, ctx)))
    monkeypatch.setattr(
        reconcile, "begin", lambda store, ctx: reconcile.Pass(store, ctx, seen, Plan(actions))
    )
    told = checks.domains()
    assert not ctx.looks
    return told


def test_what_is_only_out_of_order_for_a_moment_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert domains(monkeypatch, {}, actions=(LEFT_OVER,)).checks[0].state is State.OK


DYING = Domain(3, dying=True, memory_kb=4096)


@pytest.mark.parametrize(
    ("later", "zombies"),
    [
        ({3: DYING}, [3]),
        ({3: DYING._replace(memory_kb=2048)}, []),  # is given back bit by bit
        ({}, []),
        (None, [3]),  # all that is known is the first look
    ],
)
def test_a_domain_that_is_destroyed_and_stays_is_a_zombie(
    later: dict[int, Domain] | None, zombies: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = domains(monkeypatch, {3: DYING, 4: Domain(4)}, later)
    assert [zombie.domid for zombie in told.zombies] == zombies


def test_a_store_that_is_lost_meanwhile_costs_the_nodes_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(nodes: reconcile.Pass) -> reconcile.Pass:
        raise XenstoreUnreachableError("xenstored is gone")

    monkeypatch.setattr(reconcile.Pass, "lasting", lost)
    told = domains(monkeypatch, {3: DYING}, {3: DYING})
    assert told.checks[0] == checks.skipped("nodes", "xenstored is gone")
    assert [zombie.domid for zombie in told.zombies] == [3]


@pytest.mark.parametrize(
    ("pid", "managed", "state"),
    [(7, [3], State.OK), (None, [], State.OK), (None, [3, 4], State.PROBLEM)],
)
def test_managed_guests_need_a_supervisor(
    pid: int | None, managed: list[int], state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "pid", lambda: pid)
    told = checks._supervisor(managed, {3: "web"})
    assert told.state is state
    if state is State.PROBLEM:
        assert "web (domain 3) and 1 more" in told.status


@pytest.mark.parametrize(
    ("result", "state"), [(None, State.OK), ("loaded", State.OK), ("failed", State.PROBLEM)]
)
def test_a_rescue_is_told(
    result: str | None, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "RESCUE", str(tmp_path / "rescue.json"))
    if result:
        assert rescue.begin(rescue.Rescue("2026-11-28T03:00:00Z", 61.0))
        attempt = rescue.Rescue("2026-11-28T03:00:00Z", 61.0, rescue.Result(result), "no module")
        rescue.keep(attempt)
    told = checks.rescued()
    assert told.state is state
    assert ("03:00" in told.status) == (result is not None)


def test_every_check_has_an_id_of_its_own() -> None:
    assert len({*IDS.values()}) == len(IDS)
