# SPDX-License-Identifier: LGPL-2.1-or-later
"""The brake, and what is written down of a death."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.domains.managed import Mark
from xlmt.errors import UsageError
from xlmt.model import ShutdownReason as Why
from xlmt.supervise.policy import Brake, Case, Step, decide, without_return

ACTIONS = ("restart", "restart_rename", "coredump_restart", "soft_reset")
CONFIG = {"c_info": {"name": "web1"}}


# --- the brake -----------------------------------------------------------------------------


def test_early_deaths_count_only_in_a_row() -> None:
    brake = Brake(limit=3, within_s=10)
    counts, count = [], 0
    for lived_s in (1, 2, 60, 1, 1, 1):
        count = brake.early_deaths(count, lived_s)
        counts.append((count, brake.holds(count)))
    assert counts == [(1, False), (2, False), (0, False), (1, False), (2, False), (3, True)]


@given(st.integers(0, 10**6))
def test_a_limit_of_0_never_holds(deaths: int) -> None:
    assert not Brake(limit=0).holds(deaths)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_guest_that_is_left_down_is_cleared_up_as_far_as_was_asked_for(action: str) -> None:
    decision = decide(Why.REBOOT, {"on_reboot": action})
    left = without_return(decision).steps
    assert not {Step.CREATE, Step.SOFT_RESET} & set(left)
    assert (Step.DUMP_CORE in left) is (action == "coredump_restart")
    assert (Step.DESTROY in left) is (action != "restart_rename")  # which keeps the corpse


def test_the_environment_sets_the_brake() -> None:
    assert Brake.from_settings({}) == Brake()
    settings = {"XLMT_RESTART_LIMIT": "2", "XLMT_RESTART_WINDOW": "1.5"}
    assert Brake.from_settings(settings) == Brake(2, 1.5)
    with pytest.raises(UsageError, match="XLMT_RESTART_LIMIT"):
        Brake.from_settings({"XLMT_RESTART_LIMIT": "often"})
    with pytest.raises(UsageError, match="nan is no number"):
        Brake.from_settings({"XLMT_RESTART_WINDOW": "nan"})


# --- what is written down ------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"]))
cases = st.builds(
    Case,
    domid=st.integers(1, 32751),
    uuid=st.uuids().map(str),
    config=names.map(lambda name: {"c_info": {"name": name}}),
    pending=st.lists(st.sampled_from(list(Step))).map(tuple),
    early_deaths=st.integers(0, 99),
    made=st.none() | st.integers(1, 32751),
)


@given(cases)
def test_a_case_is_read_as_it_was_written(case: Case) -> None:
    assert Case.load(case.dump()) == case


@given(cases.filter(lambda case: case.pending))
def test_after_a_step_the_others_are_left(case: Case) -> None:
    assert case.after_a_step() == replace(case, pending=case.pending[1:])


@given(st.one_of(st.binary(), st.sampled_from([b"{}", b"[]", b"null", b'{"domid":"x"}'])))
def test_what_is_no_case_is_not_taken_for_one(data: bytes) -> None:
    with pytest.raises(ValueError, match="no case of xlmt"):
        Case.load(data)


@given(st.floats(0, 1e9), st.integers(0, 99))
def test_a_mark_is_read_as_it_was_written(started: float, deaths: int) -> None:
    mark = Mark("boot", started, deaths, CONFIG)
    assert Mark.load(mark.dump(), "boot") == mark


@given(st.binary())
def test_what_makes_no_sense_is_no_mark(data: bytes) -> None:
    assert Mark.load(data, "boot") is None
    assert Mark.load(b'{"schema":1}\n', "boot") is None


def test_a_mark_of_another_boot_is_none() -> None:
    """It is on the disk; after a crash of the host another domain has its domid and uuid."""
    assert Mark.load(Mark("before").dump(), "now") is None
