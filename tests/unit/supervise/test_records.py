# SPDX-License-Identifier: LGPL-2.1-or-later
"""The restart limit, and what is kept on the disk of a death."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.domains.managed import Record
from xlmt.errors import UsageError
from xlmt.model import ShutdownReason as Why
from xlmt.supervise.policy import Job, Step, decide, without_return
from xlmt.supervise.restart_limit import RestartLimit

ACTIONS = ("restart", "restart_rename", "coredump_restart", "soft_reset")
CONFIG = {"c_info": {"name": "web1"}}


# --- the restart limit ---------------------------------------------------------------------


def test_early_deaths_count_only_in_a_row() -> None:
    restart_limit = RestartLimit(deaths=3, within_s=10)
    counts, count = [], 0
    for lived_s in (1, 2, 60, 1, 1, 1):
        count = restart_limit.early_deaths(count, lived_s)
        counts.append((count, restart_limit.is_reached(count)))
    assert counts == [(1, False), (2, False), (0, False), (1, False), (2, False), (3, True)]


@given(st.integers(0, 10**6))
def test_a_limit_of_0_is_never_reached(deaths: int) -> None:
    assert not RestartLimit(deaths=0).is_reached(deaths)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_guest_that_is_not_restarted_is_cleared_up_as_far_as_was_asked_for(action: str) -> None:
    decision = decide(Why.REBOOT, {"on_reboot": action})
    left = without_return(decision).steps
    assert not {Step.CREATE, Step.SOFT_RESET} & set(left)
    assert (Step.DUMP_CORE in left) is (action == "coredump_restart")
    assert (Step.DESTROY in left) is (action != "restart_rename")  # which keeps the corpse


def test_lives_just_past_the_window_have_growing_pauses() -> None:
    restart_limit = RestartLimit(deaths=5, within_s=3)
    pauses, short = [], 0
    for lived_s in (4, 4, 4, 4, 4, 4, 4, 31, 4):
        short = restart_limit.short_lives(short, lived_s)
        pauses.append(restart_limit.pause_s(short))
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 2, 2]
    assert restart_limit.early_deaths(4, 4) == 0


@given(st.integers(0, 10**6))
def test_without_a_limit_pauses_do_not_grow(short: int) -> None:
    assert RestartLimit(deaths=0).pause_s(short) == 2


def test_the_environment_sets_the_restart_limit() -> None:
    assert RestartLimit.from_settings({}) == RestartLimit()
    settings = {"XLMT_RESTART_LIMIT": "2", "XLMT_RESTART_WINDOW": "1.5"}
    assert RestartLimit.from_settings(settings) == RestartLimit(2, 1.5)
    with pytest.raises(UsageError, match="XLMT_RESTART_LIMIT"):
        RestartLimit.from_settings({"XLMT_RESTART_LIMIT": "often"})
    with pytest.raises(UsageError, match="nan is no number"):
        RestartLimit.from_settings({"XLMT_RESTART_WINDOW": "nan"})


# --- what is kept on the disk --------------------------------------------------------------

names = st.text(st.characters(blacklist_categories=["Cs"]))
jobs = st.builds(
    Job,
    domid=st.integers(1, 32751),
    uuid=st.uuids().map(str),
    config=names.map(lambda name: {"c_info": {"name": name}}),
    pending=st.lists(st.sampled_from(list(Step))).map(tuple),
    early_deaths=st.integers(0, 99),
    made=st.none() | st.integers(1, 32751),
    life=st.just("7-1234"),
    short_lives=st.integers(0, 99),
    not_before=st.floats(0, 1e9),
    begun=st.none() | st.lists(st.integers(1, 32751)).map(tuple),
)


@given(jobs)
def test_a_job_is_read_as_it_was_written(job: Job) -> None:
    assert Job.load(job.dump()) == job


@given(jobs.filter(lambda job: job.pending))
def test_after_a_step_the_others_are_left(job: Job) -> None:
    assert job.after_a_step() == replace(job, pending=job.pending[1:])


@given(st.one_of(st.binary(), st.sampled_from([b"{}", b"[]", b"null", b'{"domid":"x"}'])))
def test_what_is_no_job_is_not_taken_for_one(data: bytes) -> None:
    with pytest.raises(ValueError, match="no job of xlmt"):
        Job.load(data)


@given(st.floats(0, 1e9), st.integers(0, 99))
def test_a_record_is_read_as_it_was_written(started: float, deaths: int) -> None:
    record = Record("boot", started, deaths, CONFIG)
    assert Record.load(record.dump(), "boot") == record


@given(st.one_of(st.binary(), st.sampled_from([b'{"schema":1}', b'{"boot":"boot"}'])))
def test_what_makes_no_sense_is_no_record_but_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.load(data, "boot")


DEEP = b'{"boot":"boot","started":1.0,"early_deaths":0,"config":' + b'{"a":' * 100_000


@pytest.mark.parametrize(
    "data",
    [
        b'{"boot":"boot","started":Infinity,"early_deaths":0,"config":{}}',
        b'{"boot":"boot","started":1e999,"early_deaths":0,"config":{}}',
        b'{"boot":"boot","started":1.0,"early_deaths":-1,"config":{}}',
        b'{"boot":"boot","started":1.0,"early_deaths":true,"config":{}}',
        b'{"boot":"boot","started":1.0,"early_deaths":0,"config":[]}',
        b'{"boot":"boot","started":1.0,"early_deaths":0,"config":{"c_info":[]}}',
        b'{"boot":"boot","started":1.0,"early_deaths":0,"config":{"c_info":{"name":{}}}}',
        b'{"boot":"boot","started":1.0,"early_deaths":0,"config":{"disks":{"a":1}}}',
        b'{"boot":"boot","started":1.0,"early_deaths":0,"config":{"disks":["a"]}}',
        b'{"boot":"boot","started":1.0,"early_deaths":0,"config":{"on_reboot":{}}}',
        DEEP,
    ],
    ids=lambda data: data[:0].decode() or str(len(data)),
)
def test_a_record_of_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.load(data, "boot")


def test_an_odd_name_survives_in_a_record() -> None:
    record = Record("boot", 1.0, 0, {"c_info": {"name": "caf\udce9"}})
    assert Record.load(record.dump(), "boot") == record


def test_two_lives_have_two_names() -> None:
    assert Record("boot", 1.0).life(7) != Record("boot", 2.0).life(7)
    assert Record("boot", 1.0).life(7) != Record("boot", 1.0).life(8)


def test_a_record_of_another_boot_is_none() -> None:
    """It is on the disk; after a crash of the host another domain has its domid and uuid."""
    assert Record.load(Record("before").dump(), "now") is None
