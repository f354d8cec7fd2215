# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done about a domain's death."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.model import ShutdownReason as Why
from xlmt.supervise.policy import Decision, Step, decide, dump_name, is_death, preserved_suffix

SETTINGS = {
    Why.POWEROFF: "on_poweroff",
    Why.REBOOT: "on_reboot",
    Why.CRASH: "on_crash",
    Why.WATCHDOG: "on_watchdog",
    Why.SOFT_RESET: "on_soft_reset",
}
ACTIONS = {
    "destroy": (Step.DESTROY,),
    "restart": (Step.DESTROY, Step.CREATE),
    "restart_rename": (Step.RENAME, Step.CREATE),
    "preserve": (),
    "coredump_destroy": (Step.DUMP_CORE, Step.DESTROY),
    "coredump_restart": (Step.DUMP_CORE, Step.DESTROY, Step.CREATE),
    "soft_reset": (Step.SOFT_RESET,),
}
DEATHS = [why for why in Why if why is not Why.SUSPEND]
DESTROY = Decision("destroy", (Step.DESTROY,))


@pytest.mark.parametrize("why", SETTINGS)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_reason_follows_its_own_setting(why: Why, action: str) -> None:
    others = dict.fromkeys(SETTINGS.values(), "preserve" if action != "preserve" else "restart")
    assert decide(why, others | {SETTINGS[why]: action}) == Decision(action, ACTIONS[action])


@pytest.mark.parametrize("action", ACTIONS)
def test_only_a_domain_that_comes_back_is_looked_after_further(action: str) -> None:
    back = {"restart", "restart_rename", "coredump_restart", "soft_reset"}
    assert Decision(action, ACTIONS[action]).brings_back is (action in back)


@pytest.mark.parametrize("why", DEATHS)
def test_a_setting_that_libxl_left_out_means_destroy(why: Why) -> None:
    assert decide(why, {"c_info": {"name": "web1"}}) == DESTROY


def test_a_reason_that_nobody_knows_means_destroy() -> None:
    assert decide(Why.UNKNOWN, dict.fromkeys(SETTINGS.values(), "restart")) == DESTROY


@given(
    st.sampled_from(DEATHS),
    st.one_of(st.none(), st.integers(), st.text().filter(lambda t: t not in ACTIONS)),
)
def test_an_action_that_nobody_knows_means_destroy(why: Why, action: object) -> None:
    assert decide(why, dict.fromkeys(SETTINGS.values(), action)) == DESTROY


@pytest.mark.parametrize("why", Why)
def test_all_but_a_suspended_domain_is_dead(why: Why) -> None:
    assert is_death(why) is (why is not Why.SUSPEND)


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_to_a_suspended_domain(action: str) -> None:
    everything = dict.fromkeys([*SETTINGS.values(), "on_suspend"], action)
    assert decide(Why.SUSPEND, everything) == Decision("preserve", ())


def test_a_preserved_domain_is_named_after_the_minute() -> None:
    assert preserved_suffix(datetime(2026, 7, 2, 4, 5, 59, tzinfo=UTC)) == "-20260702T0405Z"


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "a/b", "..", "", "a\x1b[2J", "x" * 300])
def test_a_core_dump_stays_in_its_folder(name: str) -> None:
    assert dump_name(name, 7) == "domain-7"


def test_a_core_dump_has_the_guests_name_as_in_xl() -> None:
    assert dump_name("web.1", 7) == "web.1"
