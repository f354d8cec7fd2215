# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of domains that die by themselves: on_poweroff, on_reboot, on_crash and the rest."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.stack.hypervisor import REASON_MASK, REASON_SHIFT, RUNNING, SHUTDOWN
from tests.stack.product import (
    assert_node_came_first,
    assert_node_went_last,
    create,
    ok,
    supervisors,
)
from tests.stack.stack import Stack, eventually
from tests.stack.wire import Op


def log(stack: Stack) -> str:
    return stack.path("/var/log/xen/xlmt-supervise.log").read_text()


def eventually_alone(stack: Stack) -> None:
    """The supervisor runs, and no process beside it that handles a death."""
    eventually(lambda: len(supervisors(stack)) == 1, timeout=20)


@pytest.mark.parametrize("reason", ["poweroff", "crash", "watchdog"])
def test_a_domain_is_destroyed_with_its_node_by_default(stack: Stack, reason: str) -> None:
    create(stack)
    stack.die(1, reason)
    eventually(lambda: set(stack.domains()) == {0})
    eventually(lambda: stack.nodes() == {})
    assert_node_went_last(stack.trace(), 1)
    eventually_alone(stack)
    assert reason in log(stack)


def test_a_reboot_makes_a_new_domain_with_its_own_node_first(stack: Stack) -> None:
    create(stack)
    stack.die(1, "reboot")
    eventually(lambda: stack.nodes() == {"2": "n0"}, timeout=20)
    trace = stack.trace()
    assert_node_went_last(trace, 1)
    assert_node_came_first(trace, 2)
    eventually(lambda: not stack.domains()[2].paused)
    eventually_alone(stack)
    stack.die(2, "reboot")
    eventually(lambda: stack.nodes() == {"3": "n0"}, timeout=20)
    stack.die(3, "poweroff")
    eventually(lambda: stack.nodes() == {}, timeout=20)
    eventually_alone(stack)


def test_preserve_keeps_the_domain_and_its_node(stack: Stack) -> None:
    create(stack, on_crash="preserve")
    stack.die(1, "crash")
    eventually_alone(stack)
    assert stack.nodes() == {"1": "n0"}
    assert 1 in stack.domains()
    ok(stack.xlmt("destroy", "g1"))
    assert stack.nodes() == {}


def test_rename_restart_keeps_the_corpse_under_another_name(stack: Stack) -> None:
    create(stack, on_crash="rename-restart")
    stack.die(1, "crash")
    eventually(lambda: set(stack.nodes()) == {"1", "2"}, timeout=20)
    with stack.client() as client:
        eventually(lambda: client.exists("/local/domain/2/name"))
        assert client.read("/local/domain/1/name").startswith("g1-2")
        assert client.read("/local/domain/2/name") == "g1"


def test_a_soft_reset_that_libxl_refuses_destroys_the_domain_as_in_xl(stack: Stack) -> None:
    """libxl resets HVM guests only; the others must not stay behind dead and unattended."""
    create(stack, "g1", "pvh", on_soft_reset="soft-reset")
    stack.die(1, "soft_reset")
    eventually(lambda: set(stack.domains()) == {0})
    eventually(lambda: stack.nodes() == {})
    eventually_alone(stack)
    assert "soft reset of domain 1" in log(stack)


@pytest.mark.parametrize("on_reboot", ["restart", "rename-restart"])
def test_xenstored_lost_between_two_lives_loses_no_guest(stack: Stack, on_reboot: str) -> None:
    """The connection of xlmt's own client breaks when the new domain's node is looked at."""
    with stack.proxy() as proxy:
        config = stack.guest("g1", on_reboot=on_reboot)
        ok(stack.xlmt("create", "-q", config, env=proxy.env))
        proxy.drop_at(lambda p: p.op == "GET_PERMS" and p.path.endswith("/mtwatch/2"))
        stack.die(1, "reboot")
        assert proxy.fired.wait(30)
        eventually(lambda: "3" in stack.nodes(), timeout=30)
        eventually(lambda: not stack.domains()[3].paused)
        with stack.client() as client:
            assert client.read("/local/domain/3/name") == "g1"
        assert 2 not in stack.domains()
        corpse = {1} if on_reboot == "rename-restart" else set()
        assert set(stack.domains()) == {0, 3} | corpse
        eventually_alone(stack)


def test_a_suspended_domain_is_left_to_whoever_suspended_it(stack: Stack) -> None:
    create(stack)
    stack.die(1, "suspend")
    create(stack, "g2")
    ok(stack.xlmt("destroy", "g2"))  # wakes the supervisor once more
    assert 1 in stack.domains()
    eventually_alone(stack)
    assert set(stack.nodes()) == {"1"}


def suspend_and_go_on(stack: Stack) -> None:
    """As `xl save -c`, or a migration that fails: the domain suspends, and is resumed.

    While it is suspended, a domain of plain xl comes and goes, so that everybody looks again.
    """
    stack.die(1, "suspend")
    ok(stack.xl("create", stack.guest("passer-by")))
    ok(stack.xl("destroy", "passer-by"))
    eventually(lambda: stack.nodes() == {"1": "n0"})
    assert stack.domains()[1].reason == "suspend"
    bits = SHUTDOWN | REASON_MASK << REASON_SHIFT
    stack.hypervisor.change(1, clear=bits, add=RUNNING)
    with stack.client() as client:
        client.ask(Op.RESUME, "1")  # as libxl_domain_resume(), which the C daemon needs to hear of


def test_a_guest_that_goes_on_after_a_suspend_is_brought_back_after_its_death(
    stack: Stack,
) -> None:
    create(stack, on_reboot="restart")
    suspend_and_go_on(stack)
    stack.die(1, "reboot")
    eventually(lambda: "g1 (domain 1) is restarted as domain" in log(stack), timeout=30)
    eventually_alone(stack)
    assert [line for line in log(stack).splitlines() if "suspend" in line] == []


def test_in_the_foreground_a_guest_goes_on_after_a_suspend_until_its_death(stack: Stack) -> None:
    program = Path(sys.executable).parent / "xlmt"
    with stack.popen(program, "create", "-F", stack.guest("g1")) as process:
        eventually(lambda: stack.nodes() == {"1": "n0"} and not stack.domains()[1].paused)
        suspend_and_go_on(stack)
        assert process.poll() is None
        stack.die(1, "poweroff")
        assert process.wait(30) == 0
    assert set(stack.domains()) == {0}


def test_a_domain_that_was_saved_is_gone_for_its_supervisor(stack: Stack) -> None:
    """`xl save`: it suspends, and whoever saved it destroys it."""
    program = Path(sys.executable).parent / "xlmt"
    with stack.popen(program, "create", "-F", stack.guest("g1", on_reboot="restart")) as process:
        eventually(lambda: stack.nodes() == {"1": "n0"} and not stack.domains()[1].paused)
        stack.die(1, "suspend")
        ok(stack.xl("destroy", "g1"))
        assert process.wait(30) == 0
    assert set(stack.domains()) == {0}


def test_somebody_elses_destroy_is_no_death_to_see_to(stack: Stack) -> None:
    create(stack, on_reboot="restart")
    ok(stack.xlmt("destroy", "g1"))
    create(stack, "g2")  # returns when the supervisor has looked once more
    eventually_alone(stack)
    assert "shut down" not in log(stack)
    assert stack.nodes() == {"2": "n0"}


def test_a_restarted_xenstored_does_not_lose_the_supervisor(stack: Stack) -> None:
    """It has lost everything, the domains' homes too; but the supervisor comes back and looks."""
    create(stack, on_reboot="restart")
    stack.restart_daemon()
    eventually(lambda: "trying again" in log(stack), timeout=20)
    stack.die(1, "reboot")
    eventually(lambda: "is restarted as domain 2" in log(stack), timeout=30)
    eventually(lambda: not stack.domains()[2].paused)
    assert set(stack.domains()) == {0, 2}
    assert stack.nodes() == {"2": "n0"}
    eventually_alone(stack)


def test_a_log_that_cannot_be_written_leaves_no_domain_alone(stack: Stack) -> None:
    ok(stack.run("mount", "-t", "tmpfs", "-o", "ro", "none", "/var/log/xen"))
    done = stack.xlmt("create", stack.guest("g1"))
    assert "cannot open the supervisor's log" in ok(done).stderr
    stack.die(1, "poweroff")
    eventually(lambda: stack.nodes() == {})


def test_in_the_foreground_the_command_lasts_as_long_as_the_domain(stack: Stack) -> None:
    program = Path(sys.executable).parent / "xlmt"
    with stack.popen(program, "create", "-F", stack.guest("g1")) as process:
        eventually(lambda: stack.nodes() == {"1": "n0"})
        eventually(lambda: not stack.domains()[1].paused)
        assert process.poll() is None
        stack.die(1, "poweroff")
        assert process.wait(20) == 0
    assert stack.nodes() == {}


def test_ctrl_c_in_the_foreground_leaves_the_domain_running(stack: Stack) -> None:
    program = Path(sys.executable).parent / "xlmt"
    with stack.popen(program, "create", "-F", stack.guest("g1")) as process:
        eventually(lambda: stack.nodes() == {"1": "n0"})
        eventually(lambda: not stack.domains()[1].paused)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    assert stack.nodes() == {"1": "n0"}
    assert 1 in stack.domains()
