# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done about a domain's death."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.death import Decision, Next, decide, is_death, preserved_suffix
from xlmt.model import ShutdownReason as Why

SETTINGS = {
    Why.POWEROFF: "on_poweroff",
    Why.REBOOT: "on_reboot",
    Why.CRASH: "on_crash",
    Why.WATCHDOG: "on_watchdog",
    Why.SOFT_RESET: "on_soft_reset",
}
ACTIONS = {
    "destroy": (Next.DESTROY, False),
    "restart": (Next.RESTART, False),
    "restart_rename": (Next.RENAME_RESTART, False),
    "preserve": (Next.PRESERVE, False),
    "coredump_destroy": (Next.DESTROY, True),
    "coredump_restart": (Next.RESTART, True),
    "soft_reset": (Next.SOFT_RESET, False),
}
DESTROY = Decision(Next.DESTROY)


@pytest.mark.parametrize("why", SETTINGS)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_reason_follows_its_own_setting(why: Why, action: str) -> None:
    others = dict.fromkeys(SETTINGS.values(), "preserve" if action != "preserve" else "restart")
    step, dump = ACTIONS[action]
    assert decide(why, others | {SETTINGS[why]: action}) == Decision(step, dump_core=dump)


@pytest.mark.parametrize("why", Why)
def test_a_setting_that_libxl_left_out_means_destroy(why: Why) -> None:
    assert decide(why, {"c_info": {"name": "web1"}}) == DESTROY


def test_a_reason_that_nobody_knows_means_destroy() -> None:
    assert decide(Why.UNKNOWN, dict.fromkeys(SETTINGS.values(), "restart")) == DESTROY


@given(
    st.sampled_from(list(Why)),
    st.one_of(st.none(), st.integers(), st.text().filter(lambda t: t not in ACTIONS)),
)
def test_an_action_that_nobody_knows_means_destroy(why: Why, action: object) -> None:
    assert decide(why, dict.fromkeys(SETTINGS.values(), action)) == DESTROY


@pytest.mark.parametrize("why", Why)
def test_all_but_a_suspended_domain_is_dead(why: Why) -> None:
    assert is_death(why) is (why is not Why.SUSPEND)


def test_a_preserved_domain_is_named_after_the_minute() -> None:
    assert preserved_suffix(datetime(2026, 7, 2, 4, 5, 59, tzinfo=UTC)) == "-20260702T0405Z"
