# SPDX-License-Identifier: LGPL-2.1-or-later
"""A job that was interrupted, and what whoever takes it up finds."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from xlmt.domains import creations, lifecycle, managed, xl
from xlmt.domains.managed import Record
from xlmt.errors import (
    LibxlError,
    NoXenError,
    TimedOutError,
    UsageError,
    WantError,
    XlmtError,
)
from xlmt.model import Domain, ShutdownReason
from xlmt.supervise import handler, policy
from xlmt.supervise.policy import Job, Step
from xlmt.supervise.restart_limit import RestartLimit

UUID = "00000000-0000-4000-8000-000000000007"
DEAD = Domain(7, UUID, shutdown=ShutdownReason.REBOOT)
CONFIG: dict[str, Any] = {"c_info": {"name": "g1"}}
OURS = {"/local/domain/8": "", "/local/domain/8/xlmt-restart-of": "7-0"}


class Libxl:
    """As much of a libxl context as the steps take: domains that can be destroyed and the like."""

    def __init__(self, *domains: Domain) -> None:
        self.by_domid = {domain.domid: domain for domain in domains}
        self.done: list[tuple[str, int]] = []
        self.names: dict[str, int] = {}

    def domain(self, domid: int) -> Domain | None:
        return self.by_domid.get(domid)

    def domains(self) -> dict[int, Domain]:
        return dict(self.by_domid)

    def destroy(self, domid: int) -> None:
        self.done.append(("destroy", domid))
        del self.by_domid[domid]

    def unpause(self, domid: int) -> None:
        self.done.append(("unpause", domid))
        self.by_domid[domid] = self.by_domid[domid]._replace(paused=False)

    def soft_reset(self, domid: int, config_json: str) -> None:
        raise NoXenError("xenstored is gone")

    def configuration(self, domid: int) -> str:
        return json.dumps({**CONFIG, "on_reboot": "restart"})

    def userdata(self, domid: int, _key: str) -> bytes:
        return b"memory = 32"  # as `xl config-update` leaves it

    def name_of(self, domid: int) -> str:
        return "g1-20260722T1405Z"

    def domid_of(self, name: str) -> int | None:
        return self.names.get(name)

    def drop_userdata(self, domid: int, _key: str) -> None:
        self.done.append(("drop record", domid))


class Tree:
    """A xenstore of these nodes."""

    def __init__(self, nodes: dict[str, str]) -> None:
        self.nodes = nodes

    def read(self, path: str) -> str | None:
        return self.nodes.get(path)

    def exists(self, path: str) -> bool:
        return path in self.nodes

    def ping(self) -> None: ...


@pytest.fixture
def with_record(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The domids with a record."""
    domids: set[int] = set()
    record = Record("boot")
    monkeypatch.setattr(
        managed, "record_of", lambda found: record if found.domid in domids else None
    )
    monkeypatch.setattr(lifecycle, "TO_GET_A_HOME_S", 0.05)
    return domids


@pytest.fixture
def made(
    monkeypatch: pytest.MonkeyPatch, with_record: set[int], tmp_path: Path
) -> list[dict[str, Any]]:
    """The configurations that domains were created with; each is domain 99, then."""
    monkeypatch.setattr(creations, "_FOLDER", tmp_path)
    configs: list[dict[str, Any]] = []

    def create(ctx: Libxl, _store: Tree, config: dict[str, Any], **_: object) -> int:
        configs.append(config)
        ctx.by_domid[99] = Domain(99, UUID, paused=True)
        return 99

    monkeypatch.setattr(lifecycle, "create", create)
    return configs


def resume(
    ctx: Libxl,
    *pending: Step,
    tree: dict[str, str] | None = None,
    made: int | None = None,
    begun: tuple[int, ...] | None = (),
) -> list[Job]:
    """Carry a job of domain 7 out; return what was written down."""
    kept: list[Job] = []
    job = Job(7, UUID, CONFIG, pending, made=made, life="7-0", begun=begun)
    libxl: Any = ctx
    store: Any = Tree({} if tree is None else tree)
    handler.DeathHandler(libxl, store, job, kept.append, supervised=True).carry_out()
    return kept


def opened(monkeypatch: pytest.MonkeyPatch, error: XlmtError) -> Job:
    """The job of domain 7, after a config-update that xl fails to read."""

    def fail(_file: str) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(xl, "parse", fail)
    libxl: Any = Libxl(DEAD)
    store: Any = Tree({"/local/domain/7/name": "g1"})
    return handler.open_job(libxl, store, DEAD, Record("boot"), RestartLimit())


@pytest.mark.parametrize("error", [NoXenError("no Xen here"), TimedOutError("is it stuck?")])
def test_a_config_update_that_cannot_be_read_just_now_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, error: XlmtError
) -> None:
    """It goes through to whoever tries the whole restart again."""
    with pytest.raises(type(error)):
        opened(monkeypatch, error)


def test_a_config_update_that_makes_no_sense_does_not_keep_the_guest_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = opened(monkeypatch, UsageError("xl does not accept it"))
    assert job.pending == (Step.DESTROY, Step.CREATE)
    assert job.config["c_info"] == CONFIG["c_info"]
    assert "ignoring what xl config-update left: xl does not accept it" in caplog.text


def test_each_step_is_written_down_as_done(made: list[dict[str, Any]]) -> None:
    kept = resume(ctx := Libxl(DEAD), Step.DESTROY, Step.CREATE, begun=None)
    assert [(job.pending, job.begun, job.made) for job in kept] == [
        ((Step.CREATE,), None, None),
        ((Step.CREATE,), (), None),  # before it begins
        ((Step.CREATE,), (), 99),
        ((), (), 99),
    ]
    assert ctx.done == [("destroy", 7), ("unpause", 99)]
    assert made == [{"c_info": {"name": "g1", "xsdata": {"xlmt-restart-of": "7-0"}}}]


@pytest.mark.parametrize(
    "other", [Domain(7, "another"), DEAD._replace(dying=True)], ids=["another", "a zombie"]
)
def test_what_has_the_domid_now_is_not_destroyed(made: list[dict[str, Any]], other: Domain) -> None:
    resume(ctx := Libxl(other), Step.DESTROY)
    assert ctx.done == []
    assert made == []


def test_a_managed_successor_is_whole_and_only_set_going(
    with_record: set[int], made: list[dict[str, Any]]
) -> None:
    with_record.add(8)
    resume(ctx := Libxl(Domain(8, UUID, paused=True)), Step.CREATE, tree=OURS)
    assert ctx.done == [("unpause", 8)]
    assert made == []


def test_a_managed_successor_that_is_dead_already_is_left_as_it_is(
    with_record: set[int], made: list[dict[str, Any]]
) -> None:
    with_record.add(8)
    resume(ctx := Libxl(DEAD._replace(domid=8)), Step.CREATE, tree=OURS)
    assert ctx.done == []
    assert made == []


@pytest.mark.parametrize(
    "tree",
    [{}, OURS],
    ids=["without a home for long", "tagged with the previous domid"],
)
def test_our_own_half_made_domain_is_destroyed_and_made_again(
    made: list[dict[str, Any]], tree: dict[str, str]
) -> None:
    resume(ctx := Libxl(Domain(8, UUID, paused=True)), Step.CREATE, tree=tree)
    assert ctx.done == [("destroy", 8), ("unpause", 99)]
    assert len(made) == 1


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("word", ["", "6"])
def test_a_domain_of_somebody_elses_is_not_touched(
    made: list[dict[str, Any]], paused: bool, word: str
) -> None:
    tree = {"/local/domain/8": "", "/local/domain/8/xlmt-restart-of": word}
    ctx = Libxl(Domain(8, UUID, paused=paused))
    ctx.names["g1"] = 8
    with pytest.raises(
        XlmtError,
        match="not restarted: another process has started it as domain 8",
    ):
        resume(ctx, Step.CREATE, tree=tree)
    assert ctx.done == []
    assert made == []


@pytest.mark.parametrize(
    "found",
    [Domain(8, UUID, ran=True), Domain(8, UUID, ran=True, paused=True), DEAD._replace(domid=8)],
    ids=["runs", "paused", "dead"],
)
def test_a_next_life_that_somebody_has_restored_is_not_destroyed(
    made: list[dict[str, Any]], found: Domain
) -> None:
    """A restore brings our tag along, and no record."""
    ctx = Libxl(found)
    ctx.names["g1"] = 8
    with pytest.raises(XlmtError, match="another process has started it as domain 8"):
        resume(ctx, Step.CREATE, tree=OURS)
    assert ctx.done == []


def test_a_soft_reset_of_a_guest_that_somebody_has_set_going_is_not_undone(
    with_record: set[int],
) -> None:
    ctx = Libxl(DEAD._replace(shutdown=None))
    with pytest.raises(XlmtError, match="set it going"):
        resume(ctx, Step.SOFT_RESET)
    assert ctx.done == []


def test_a_domain_that_somebody_else_is_just_making_is_not_touched(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a home a moment later, without our tag."""
    monkeypatch.setattr(lifecycle, "TO_GET_A_HOME_S", 60.0)
    tree: dict[str, str] = {}
    monkeypatch.setattr(time, "sleep", lambda _: tree.update({"/local/domain/8": ""}))
    ctx = Libxl(Domain(8, UUID, paused=True))
    ctx.names["g1"] = 8
    with pytest.raises(XlmtError, match="another process"):
        resume(ctx, Step.CREATE, tree=tree)
    assert ctx.done == []


@pytest.mark.parametrize("there", [True, False])
def test_a_next_life_that_was_whole_is_not_made_twice(
    made: list[dict[str, Any]], there: bool
) -> None:
    """Who has destroyed it since then meant it."""
    ctx = Libxl(*[Domain(8, UUID, paused=True)] * there)
    resume(ctx, Step.CREATE, made=8)
    assert ctx.done == [("unpause", 8)] * there
    assert made == []


@pytest.mark.parametrize("step", [Step.DESTROY, Step.RENAME, Step.DUMP_CORE])
@pytest.mark.parametrize("now", [None, ShutdownReason.SUSPEND])
def test_a_domain_that_lives_or_is_suspended_is_not_cleared_up(
    made: list[dict[str, Any]], step: Step, now: ShutdownReason | None
) -> None:
    resume(ctx := Libxl(DEAD._replace(shutdown=now)), step)
    assert ctx.done == []
    assert made == []


def test_somebody_elses_managed_domain_stays_paused_if_it_is(
    with_record: set[int], made: list[dict[str, Any]]
) -> None:
    """As after `xlmt create -p` by hand, while a job was open."""
    with_record.add(8)
    ctx = Libxl(Domain(8, UUID, paused=True))
    ctx.names["g1"] = 8
    with pytest.raises(XlmtError, match="another process"):
        resume(ctx, Step.CREATE, tree={"/local/domain/8": ""})
    assert ctx.done == []


def test_corpses_that_were_kept_are_no_successors(made: list[dict[str, Any]]) -> None:
    resume(ctx := Libxl(DEAD, DEAD._replace(domid=5)), Step.CREATE)
    assert ctx.done == [("unpause", 99)]
    assert len(made) == 1


def test_a_corpse_that_was_renamed_is_not_renamed_again_but_loses_its_record() -> None:
    resume(ctx := Libxl(DEAD), Step.RENAME)
    assert ctx.done == [("drop record", 7)]


@pytest.mark.usefixtures("with_record")
def test_a_soft_reset_that_lost_xenstored_is_one_line_and_not_tried_again() -> None:
    ctx = Libxl(DEAD)
    with pytest.raises(NoXenError):
        resume(ctx, Step.SOFT_RESET)
    assert ctx.done == [("destroy", 7)]
    with pytest.raises(XlmtError, match="it was destroyed when its soft reset was interrupted"):
        resume(ctx, Step.SOFT_RESET)
    assert ctx.done == [("destroy", 7)]


def test_a_soft_reset_that_was_finished_is_not_done_to_a_running_guest(
    with_record: set[int],
) -> None:
    with_record.add(7)
    resume(ctx := Libxl(DEAD._replace(shutdown=None)), Step.SOFT_RESET)
    assert ctx.done == []


@pytest.mark.usefixtures("with_record")
def test_a_soft_reset_that_was_interrupted_in_its_middle_is_not_tried_again() -> None:
    ctx = Libxl(DEAD._replace(shutdown=None, paused=True))
    with pytest.raises(XlmtError, match="was interrupted"):
        resume(ctx, Step.SOFT_RESET)
    assert ctx.done == [("destroy", 7)]


# --- a uuid is what a user writes ----------------------------------------------------------


@pytest.mark.parametrize("paused", [True, False])
def test_another_guest_with_the_same_uuid_is_in_nobodys_way(
    made: list[dict[str, Any]], paused: bool
) -> None:
    tree = {"/local/domain/8": ""}
    resume(ctx := Libxl(Domain(8, UUID, paused=paused)), Step.CREATE, tree=tree)
    assert ctx.done == [("unpause", 99)]
    assert len(made) == 1


def test_one_that_lost_its_home_with_xenstored_is_not_taken_for_a_half_made_one(
    made: list[dict[str, Any]],
) -> None:
    """Whoever has run, or was there before, is somebody else."""
    ran = Domain(8, UUID, paused=True, ran=True)
    resume(ctx := Libxl(ran, Domain(9, UUID, paused=True)), Step.CREATE, begun=(9,))
    assert ctx.done == [("unpause", 99)]
    assert len(made) == 1


def test_a_next_life_with_a_new_uuid_is_set_going(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As xl makes one up when what `xl config-update` was given has none."""
    new = "00000000-0000-4000-8000-00000000000a"

    def create(ctx: Libxl, _store: Tree, config: dict[str, Any], **_: object) -> int:
        ctx.by_domid[99] = Domain(99, config["c_info"]["uuid"], paused=True)
        return 99

    monkeypatch.setattr(lifecycle, "create", create)
    monkeypatch.setitem(CONFIG["c_info"], "uuid", new)
    resume(ctx := Libxl(DEAD), Step.CREATE)
    assert ctx.done == [("unpause", 99)]


def test_a_success_is_looked_at_before_it_is_claimed(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Libxl, "unpause", lambda *_: None)
    with pytest.raises(TimedOutError, match="domain 99, its next life, is still paused"):
        resume(Libxl(DEAD), Step.CREATE)
    assert "is restarted" not in caplog.text


@pytest.mark.parametrize("said", ["No space left on device", "Too many open files"])
def test_what_fails_for_want_of_something_is_tried_again(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def create(*_: object, **__: object) -> int:
        raise LibxlError("creating the domain", -3, "fail", (f"cannot write: {said}",))

    monkeypatch.setattr(lifecycle, "create", create)
    with pytest.raises(WantError, match=said):
        resume(Libxl(DEAD), Step.CREATE)


@pytest.mark.parametrize(("b_info", "limit"), [({"bootloader": "pygrub"}, 120.0), ({}, None)])
def test_a_creation_in_which_the_guest_chooses_what_runs_has_a_deadline(
    made: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    b_info: dict[str, str],
    limit: float | None,
) -> None:
    limits = []

    def create(ctx: Libxl, *_: object, timeout: float | None, **__: object) -> int:
        limits.append(timeout)
        ctx.by_domid[99] = Domain(99, UUID, paused=True)
        return 99

    monkeypatch.setattr(lifecycle, "create", create)
    monkeypatch.setitem(CONFIG, "b_info", b_info)
    resume(Libxl(DEAD), Step.CREATE)
    assert limits == [limit]


def test_a_guest_that_died_young_is_left_to_a_later_worker(made: list[dict[str, Any]]) -> None:
    """One that only waits would take the place of another."""
    kept: list[Job] = []
    job = Job(7, UUID, CONFIG, (Step.CREATE,), life="7-0", not_before=managed.now() + 30)
    libxl: Any = Libxl()
    store: Any = Tree({})
    handler.DeathHandler(libxl, store, job, kept.append, supervised=True).carry_out()
    assert (kept, made) == ([], [])


def test_a_second_corpse_in_the_same_minute_has_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preserved = []
    ctx = Libxl(DEAD)
    monkeypatch.setattr(Libxl, "name_of", lambda *_: "g1")
    monkeypatch.setattr(Libxl, "preserve", lambda *args: preserved.append(args[3]), raising=False)
    monkeypatch.setattr(policy, "preserved_suffix", lambda _: "-then")
    ctx.names |= {"g1-then": 3, "g1-then-2": 4}
    resume(ctx, Step.RENAME)
    assert preserved == ["-then-3"]
