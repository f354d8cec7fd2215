# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which guest is which: a uuid is what a user writes, a name is given once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.stack.product import complaint, create, ok
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import NO_LIMIT, log, look, supervising

UUID = "00000000-0000-4000-8000-0000000000aa"
XLMT = Path(sys.executable).parent / "xlmt"


def runs(stack: Stack, domid: int) -> bool:
    domain = stack.domains().get(domid)
    return domain is not None and not domain.paused and not domain.reason


# --- xl config-update ----------------------------------------------------------------------


def test_a_guest_runs_again_after_a_config_update_without_a_uuid(stack: Stack) -> None:
    """xl makes a new one up: the next life is another one than the last by that."""
    with supervising(stack, env=NO_LIMIT):
        create(stack, on_reboot="restart")
        ok(stack.xl("config-update", "g1", stack.guest("g1", on_reboot="restart", memory=32)))
        for domid in (2, 3):
            stack.die(domid - 1, "reboot")
            eventually(lambda: runs(stack, domid), timeout=20)  # noqa: B023
            restarted = f"g1 (domain {domid - 1}) is restarted as domain {domid}"
            eventually(lambda: restarted in log(stack))  # noqa: B023
        stack.die(3, "poweroff")  # still managed
        eventually(lambda: set(stack.domains()) == {0})
        eventually(lambda: not list(stack.path("/run/xlmt/jobs").iterdir()))


def test_in_the_foreground_it_does_as_well(stack: Stack) -> None:
    config = stack.guest("g1", on_reboot="restart")
    with stack.popen(XLMT, "create", "-F", config) as process:
        eventually(lambda: runs(stack, 1))
        ok(stack.xl("config-update", "g1", stack.guest("g1", on_reboot="restart", memory=32)))
        for domid in (2, 3):
            stack.die(domid - 1, "reboot")
            eventually(lambda: runs(stack, domid), timeout=20)  # noqa: B023
        stack.die(3, "poweroff")
        assert process.wait(20) == 0
    assert set(stack.domains()) == {0}


# --- copied files --------------------------------------------------------------------------


def test_two_guests_with_one_uuid_are_both_restarted(stack: Stack) -> None:
    with supervising(stack, env=NO_LIMIT):
        for name in ("g1", "g2"):
            create(stack, name, uuid=UUID, on_reboot="restart")
        for domid in (1, 2):
            stack.die(domid, "reboot")
        eventually(lambda: runs(stack, 3) and runs(stack, 4), timeout=30)
        eventually(lambda: log(stack).count("is restarted as domain") == 2)
        with stack.client() as client:
            names = {client.read(f"/local/domain/{domid}/name") for domid in (3, 4)}
        assert names == {"g1", "g2"}
        for domid in (3, 4):
            stack.die(domid, "poweroff")
        eventually(lambda: set(stack.domains()) == {0})


def test_a_guest_is_restarted_beside_one_of_plain_xl_with_its_uuid(stack: Stack) -> None:
    ok(stack.xl("create", "-qe", stack.guest("other", uuid=UUID)))
    with supervising(stack, env=NO_LIMIT):
        create(stack, uuid=UUID, on_reboot="restart")
        stack.die(2, "reboot")
        eventually(lambda: runs(stack, 3), timeout=20)
        assert runs(stack, 1)
    with stack.popen(XLMT, "create", "-F", stack.guest("f", uuid=UUID, on_reboot="restart")) as it:
        eventually(lambda: runs(stack, 4))
        stack.die(4, "reboot")
        eventually(lambda: runs(stack, 5), timeout=20)
        stack.die(5, "poweroff")
        assert it.wait(20) == 0
    assert set(stack.domains()) == {0, 1, 3}


# --- one name ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3))
def test_of_creations_of_one_name_at_the_same_time_one_wins(stack: Stack, number: int) -> None:
    with supervising(stack):
        config = stack.guest("g1")
        several = [stack.popen(XLMT, "create", "-q", config) for _ in range(4)]
        said = [process.communicate(timeout=60)[1] for process in several]
        status = sorted(process.returncode for process in several)
        assert status == [0, 1, 1, 1], said
        for line in filter(None, said):
            assert "the name g1 is taken" in line or "already exists" in line
        assert len(stack.domains()) == 2
        assert len(stack.nodes()) == 1


def test_a_name_that_plain_xl_has_given_meanwhile_is_taken(stack: Stack) -> None:
    """libxl has found it free, and xl does not know of our lock."""
    ok(stack.xl("create", "-qe", stack.guest("first")))  # which makes what all have in common
    with supervising(stack), stack.proxy() as proxy:
        other = stack.guest("g1")
        proxy.call_at(
            lambda p: p.op == "TRANSACTION_END",
            lambda: ok(stack.xl("create", "-qe", other)),
        )
        done = stack.xlmt("create", "-q", other, env=proxy.env)
        assert proxy.fired.is_set()
        assert done.returncode == 1
        assert "the name g1 is taken: domain " in done.stderr or "already exists" in done.stderr
        assert look(stack)
        (domid,) = set(stack.domains()) - {0, 1}
        assert runs(stack, domid)
        eventually(lambda: set(stack.nodes()) == {"1", str(domid)})


def test_a_guest_that_was_started_by_hand_meanwhile_is_not_started_twice(stack: Stack) -> None:
    with supervising(stack, env=NO_LIMIT):
        create(stack, on_reboot="restart")
        stack.die(1, "reboot")
        eventually(lambda: set(stack.domains()) == {0})
        ok(stack.xl("create", "-qe", stack.guest("g1")))  # within the pause before a restart
        eventually(lambda: "another process has started it as domain 2" in log(stack), timeout=20)
        assert set(stack.domains()) == {0, 2}
        eventually(lambda: not list(stack.path("/run/xlmt/jobs").iterdir()))


def test_a_name_that_is_taken_is_one_line(stack: Stack) -> None:
    create(stack)
    done = stack.xlmt("create", "-q", stack.guest("g1"))
    assert done.returncode == 1
    assert 'name "g1" already exists' in complaint(done).replace("\\", "")
    assert set(stack.domains()) == {0, 1}
