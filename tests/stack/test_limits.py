# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that die again and again, and clocks that go back: what bounds them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stack.product import create, ok
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import log, supervising

XLMT = Path(sys.executable).parent / "xlmt"


def live_and_die(stack: Stack, lived_s: float, reason: str, until: Callable[[], bool]) -> int:
    """Let every life last so long; return how many there were."""
    lives: set[int] = set()
    while not until():
        for domid, domain in stack.domains().items():
            if domid and domid not in lives and not domain.paused and not domain.reason:
                lives.add(domid)
                time.sleep(lived_s)
                stack.die(domid, reason)
        time.sleep(0.05)
    return len(lives)


def test_corpses_that_are_kept_count_as_early_deaths(stack: Stack) -> None:
    """Several a minute, whose names would be the same by xl's suffix."""
    with supervising(stack, "--restart-limit", "3"):
        create(stack, on_crash="rename-restart")
        deadline = time.monotonic() + 40
        lives = live_and_die(
            stack,
            0.5,
            "crash",
            lambda: "not restarted" in log(stack) or time.monotonic() > deadline,
        )
        assert lives == 3
        eventually(lambda: log(stack).count("is preserved as g1-") == 3)
        assert set(stack.domains()) == {0, 1, 2, 3}
    assert log(stack).count("is not restarted: it died 3 times in a row") == 1
    assert log(stack).count("not restarted") == 1


@pytest.mark.parametrize("daemon", ["c"])
def test_a_guest_that_dies_just_past_the_window_has_growing_pauses(stack: Stack) -> None:
    with supervising(stack, "--restart-window", "1"):
        create(stack, on_reboot="restart")
        end = time.monotonic() + 25  # 1.2 + 2, 1.2 + 4, 1.2 + 8, and 16 more
        assert live_and_die(stack, 1.2, "reboot", lambda: time.monotonic() > end) <= 5
    assert "not restarted" not in log(stack)


def test_a_soft_reset_of_a_pv_guest_is_called_what_it_is(stack: Stack) -> None:
    with supervising(stack):
        create(stack, "g1", "pvh", on_soft_reset="soft-reset")
        stack.die(1, "soft_reset")
        eventually(lambda: "domain 1 cannot be reset softly" in log(stack))
        eventually(lambda: set(stack.domains()) == {0})
    assert "was created but" not in log(stack)


# --- the clock -----------------------------------------------------------------------------

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long back(void) { return access("/run/set-back", F_OK) ? 0 : 86400; }

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec real;
	int (*next)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");

	(void)zone;
	next(CLOCK_REALTIME, &real);
	now->tv_sec = real.tv_sec - back();
	now->tv_usec = real.tv_nsec / 1000;
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int (*next)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
	int r = next(clock, now);

	if (clock == CLOCK_REALTIME)
		now->tv_sec -= back();
	return r;
}
"""


@pytest.mark.parametrize("daemon", ["c"])
def test_a_clock_that_is_set_back_holds_up_no_teardown(stack: Stack) -> None:
    source, library = stack.workdir / "clock.c", stack.workdir / "clock.so"
    source.write_text(CLOCK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    with stack.backends() as backends:
        ok(stack.xlmt("create", "-qe", stack.guest("g1", vif=["script=/bin/true"])))
        backends.stall(1)
        env = {"LD_PRELOAD": f"{library}:{stack.fakehv}"}
        began = time.monotonic()
        process = stack.popen(XLMT, "destroy", "g1", env=env)
        time.sleep(3)  # it waits for the device now
        stack.path("/run/set-back").touch()
        process.communicate(timeout=100)
        assert time.monotonic() - began < 38
        backends.release(1)
    assert set(stack.domains()) == {0}
