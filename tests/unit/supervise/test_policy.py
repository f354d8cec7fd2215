# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done about a domain's death."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.model import ShutdownReason as Why
from xlmt.supervise.policy import Decision, Step, decide, dump_name, is_death, preserved_suffix

#: libxl_action_on_shutdown, in libxl_types.idl.
ACTIONS = (
    *("destroy", "restart", "restart_rename", "preserve"),
    *("coredump_destroy", "coredump_restart", "soft_reset"),
)
DEATHS = [why for why in Why if why is not Why.SUSPEND]
KNOWN = [why for why in DEATHS if why is not Why.UNKNOWN]
SETTINGS = [f"on_{why}" for why in KNOWN]
DESTROY = Decision("destroy", (Step.DESTROY,))


def steps_of(action: str) -> tuple[Step, ...]:
    return decide(Why.POWEROFF, {"on_poweroff": action}).steps


@pytest.mark.parametrize("why", KNOWN)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_reason_follows_its_own_setting(why: Why, action: str) -> None:
    others = dict.fromkeys(SETTINGS, "preserve" if action != "preserve" else "restart")
    assert decide(why, others | {f"on_{why}": action}) == Decision(action, steps_of(action))


@pytest.mark.parametrize("action", ACTIONS)
def test_the_steps_do_what_the_word_says(action: str) -> None:
    steps, words = steps_of(action), action.split("_")
    assert (Step.DUMP_CORE in steps) == ("coredump" in words)
    assert (Step.CREATE in steps) == ("restart" in words)
    assert (Step.RENAME in steps) == ("rename" in words)
    assert (Step.SOFT_RESET in steps) == (action == "soft_reset")
    gone = {"destroy", "restart"} & {*words} and "rename" not in words
    assert (Step.DESTROY in steps) == bool(gone)
    assert (steps == ()) == (action == "preserve")


@pytest.mark.parametrize("action", ACTIONS)
def test_the_dead_domain_is_out_of_the_way_before_the_next_is_made(action: str) -> None:
    order = [Step.DUMP_CORE, Step.DESTROY, Step.RENAME, Step.CREATE]
    steps = [step for step in steps_of(action) if step is not Step.SOFT_RESET]
    assert steps == [step for step in order if step in steps]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_domain_that_is_only_removed_or_kept_is_looked_after_no_further(action: str) -> None:
    over = {"destroy", "coredump_destroy", "preserve"}
    assert Decision(action, steps_of(action)).brings_back is (action not in over)


@pytest.mark.parametrize("why", DEATHS)
def test_a_setting_that_libxl_left_out_means_destroy(why: Why) -> None:
    assert decide(why, {"c_info": {"name": "web1"}}) == DESTROY


def test_a_reason_that_nobody_knows_means_destroy() -> None:
    assert decide(Why.UNKNOWN, dict.fromkeys(SETTINGS, "restart")) == DESTROY


@given(
    st.sampled_from(DEATHS),
    st.one_of(st.none(), st.integers(), st.text().filter(lambda t: t not in ACTIONS)),
)
def test_an_action_that_nobody_knows_means_destroy(why: Why, action: object) -> None:
    assert decide(why, dict.fromkeys(SETTINGS, action)) == DESTROY


@pytest.mark.parametrize("why", Why)
def test_all_but_a_suspended_domain_is_dead(why: Why) -> None:
    assert is_death(why) is (why is not Why.SUSPEND)


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_to_a_suspended_domain(action: str) -> None:
    everything = dict.fromkeys([*SETTINGS, "on_suspend"], action)
    assert decide(Why.SUSPEND, everything) == Decision("preserve", ())


def test_a_preserved_domain_is_named_after_the_minute() -> None:
    assert preserved_suffix(datetime(2026, 7, 2, 4, 5, 59, tzinfo=UTC)) == "-20260702T0405Z"


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "a/b", "..", "", "a\x1b[2J", "x" * 300])
def test_a_core_dump_stays_in_its_folder(name: str) -> None:
    assert dump_name(name, 7) == "domain-7"


def test_a_core_dump_has_the_guests_name_as_in_xl() -> None:
    assert dump_name("web.1", 7) == "web.1"
