# SPDX-License-Identifier: LGPL-2.1-or-later
"""First in the creation's transaction, last of the teardown: create, destroy, xl, exec."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.stack.product import (
    NODES,
    assert_node_came_first,
    assert_node_went_last,
    complaint,
    create,
    ok,
    set_xl_conf,
    supervisors,
)
from tests.stack.proxy import Packet
from tests.stack.stack import Daemon, Stack, eventually
from tests.stack.trace import creation, writes

STRIDE = int(os.environ.get("XLMT_STRIDE", "3"))
LOCK_HOLDER = """
import fcntl, os, sys
lock = open("/var/lock/xl", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def listed(stack: Stack) -> dict[int, str]:
    document = json.loads(ok(stack.xlmt("list", "-o", "json")).stdout)
    assert document["schema"] == 1
    return {row["domid"]: row["state"] for row in document["domains"]}


# The contract


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_create_writes_the_node_first_and_destroy_removes_it_last(stack: Stack, kind: str) -> None:
    create(stack, kind=kind)
    assert_node_came_first(stack.trace(), 1)
    assert stack.nodes() == {"1": "n0"}
    assert set(stack.domains()) == {0, 1}
    assert not stack.domains()[1].paused
    ok(stack.xlmt("destroy", "g1"))
    assert_node_went_last(stack.trace(), 1)
    assert stack.nodes() == {}
    assert set(stack.domains()) == {0}


def test_the_first_domain_since_boot_makes_mtwatch_outside_its_transaction(
    daemon: Daemon, stack: Stack
) -> None:
    create(stack)
    made = [r for r in stack.trace() if r.op == "MKDIR" and r.path == NODES]
    assert len(made) == 1
    if daemon == "ocaml":  # the C daemon's log does not tell
        assert made[0].tx is None
    with stack.client() as client:
        assert client.perms(NODES) == ["n0"]


def test_the_second_domain_costs_three_requests_more_than_unhooked(stack: Stack) -> None:
    create(stack)
    create(stack, "g2")
    ok(stack.xl("create", stack.guest("g3")))
    hooked, plain = (creation(stack.trace(), domid) for domid in (2, 3))
    ours = [r for r in hooked if r.path.startswith(NODES)]
    assert len(ours) == 3
    assert len([r for r in plain if r.path.startswith(NODES)]) == 0


@pytest.mark.parametrize("tool", [["xl"], ["exec", "--", "xl"], ["exec", "xl"]])
def test_the_real_xl_keeps_the_contract_under_the_hook(stack: Stack, tool: list[str]) -> None:
    ok(stack.xlmt(*tool, "create", stack.guest("g1")))
    assert_node_came_first(stack.trace(), 1)
    ok(stack.xlmt(*tool, "destroy", "g1"))
    assert_node_went_last(stack.trace(), 1)


def test_plain_xl_writes_no_node(stack: Stack) -> None:
    """The other tests here could not fail if the nodes came from somewhere else."""
    ok(stack.xl("create", stack.guest("g1")))
    assert stack.nodes() == {}
    assert listed(stack) == {1: "missing"}


def test_a_leftover_node_is_made_anew(stack: Stack) -> None:
    with stack.client() as client:
        client.write(f"{NODES}/1/stray", "x")
        client.write(f"{NODES}/1", "not empty")
    create(stack)
    with stack.client() as client:
        assert client.read(f"{NODES}/1") == ""
        assert client.ls(f"{NODES}/1") == []
    assert stack.nodes() == {"1": "n0"}


def test_a_device_removed_from_a_living_domain_leaves_its_node(stack: Stack) -> None:
    with stack.backends():
        create(stack, vif=["mac=00:16:3e:00:00:01,script=/bin/true"])
        ok(stack.xlmt("xl", "network-detach", "g1", "0"))
        assert stack.nodes() == {"1": "n0"}


def test_two_hundred_conflicts_in_a_row(stack: Stack) -> None:
    create(stack, "g0")
    with stack.proxy() as proxy:
        proxy.eagain(200)
        ok(stack.xlmt("create", "-q", stack.guest("g1"), env=proxy.env))
        assert proxy.aborts == 200
    assert_node_came_first(stack.trace(), 2)
    assert stack.nodes() == {"1": "n0", "2": "n0"}


def test_oxenstoreds_own_conflicts(tmp_path: Path) -> None:
    with Stack("ocaml", test_eagain=True, workdir=tmp_path) as stack:
        for i in range(1, 6):
            create(stack, f"g{i}")
            assert_node_came_first(stack.trace(), i)
        assert set(stack.nodes()) == {"1", "2", "3", "4", "5"}


# Creations that fail


def test_a_failed_build_leaves_nothing(stack: Stack) -> None:
    with stack.hypervisor.fault("builder"):
        done = stack.xlmt("create", stack.guest("g1"))
    assert done.returncode == 1
    assert "creating the domain" in complaint(done)
    assert stack.nodes() == {}
    assert set(stack.domains()) == {0}
    assert_node_went_last(stack.trace(), 1)


def test_a_duplicate_name_leaves_the_first_one_alone(stack: Stack) -> None:
    create(stack)
    done = stack.xlmt("create", stack.guest("g1"))
    assert done.returncode == 1
    assert 'Domain with name "g1" already exists' in complaint(done)
    assert stack.nodes() == {"1": "n0"}
    assert set(stack.domains()) == {0, 1}


def test_no_domain_from_the_hypervisor(stack: Stack) -> None:
    with stack.hypervisor.fault("create"):
        assert stack.xlmt("create", stack.guest("g1")).returncode == 1
    assert stack.nodes() == {}


# Teardowns that do not end


def test_a_node_stays_while_the_kernel_holds_a_backend(stack: Stack) -> None:
    create(stack)
    with stack.kernel_holds(1, "vif-1-0"):
        done = stack.xlmt("destroy", "g1")
        assert done.returncode == 0
        assert "vif-1-0" in done.stderr
        assert "xlmt reconcile" in done.stderr
        assert stack.nodes() == {"1": "n0"}
        assert listed(stack) == {1: "lingering"}
    assert listed(stack).get(1) in {"orphan", None}  # the supervisor may have been there
    eventually(lambda: stack.nodes() == {}, timeout=20)


def test_a_node_stays_while_a_driver_is_taking_a_backend_down(stack: Stack) -> None:
    """The kernel has taken the device off its bus before it calls the driver."""
    create(stack)
    with stack.kernel_holds(1, "vbd-1-51712"):
        stack.begin_removal(1, "vbd-1-51712")
        done = stack.xlmt("destroy", "g1")
        assert "vbd-1-51712" in done.stderr
        assert stack.nodes() == {"1": "n0"}
        assert listed(stack) == {1: "lingering"}
    assert listed(stack).get(1) in {"orphan", None}  # the supervisor may have been there
    eventually(lambda: stack.nodes() == {}, timeout=20)


def test_another_domains_backend_keeps_nobody(stack: Stack) -> None:
    create(stack)
    with stack.kernel_holds(11, "vif-11-1"):
        ok(stack.xlmt("destroy", "g1"))
    assert stack.nodes() == {}


def test_a_zombie_is_no_reason_to_keep_the_node(stack: Stack) -> None:
    create(stack)
    with stack.hypervisor.fault("zombie"):
        ok(stack.xlmt("destroy", "g1"))
    assert stack.nodes() == {}


# xl's ways


def test_dry_run_prints_what_xl_prints(stack: Stack) -> None:
    config = stack.guest("g1", uuid="00000000-0000-0000-0000-000000000001")
    assert stack.xlmt("create", "-n", config).stdout == stack.xl("create", "-n", config).stdout
    assert set(stack.domains()) == {0}


def test_paused_means_paused(stack: Stack) -> None:
    ok(stack.xlmt("create", "-p", stack.guest("g1")))
    assert stack.domains()[1].paused


def test_settings_on_the_command_line(stack: Stack) -> None:
    ok(stack.xlmt("create", stack.guest("g1"), 'name="other"', "memory=17"))
    with stack.client() as client:
        assert client.read("/local/domain/1/name") == "other"


@pytest.mark.parametrize("form", [["-f"], ["--defconfig"], []])
def test_the_configuration_by_option_or_argument(stack: Stack, form: list[str]) -> None:
    ok(stack.xlmt("create", "-p", *form, stack.guest("g1")))
    assert 1 in stack.domains()


def test_nobody_looks_after_a_domain_created_with_e(stack: Stack) -> None:
    ok(stack.xlmt("create", "-e", stack.guest("g1")))
    assert not supervisors(stack)
    stack.die(1, "poweroff")
    create(stack, "g2")  # this one has somebody, who leaves the other alone
    assert stack.domains()[1].reason == "poweroff"


def test_xls_lock_is_waited_for_and_its_holder_named(stack: Stack) -> None:
    set_xl_conf(stack, 'autoballoon="on"\n')
    with stack.popen(sys.executable, "-c", LOCK_HOLDER) as locker:
        assert locker.stdout
        pid = locker.stdout.readline().strip()
        with stack.popen(Path(sys.executable).parent / "xlmt", "create", stack.guest("g1")) as it:
            assert it.stderr
            said = next(line for line in it.stderr if "/var/lock/xl" in line)
            assert pid in said
            assert set(stack.domains()) == {0}
            locker.kill()
            assert it.wait(30) == 0
    assert 1 in stack.domains()


# The hook's way into other programs


def test_the_hook_stays_out_of_grandchildren(stack: Stack) -> None:
    """xl runs a hotplug script; that must not have our library."""
    script, seen = stack.workdir / "script", stack.workdir / "seen"
    script.write_text(
        f'#!/bin/sh\nenv > {seen}\nxenstore-write "$XENBUS_PATH/hotplug-status" connected\n'
    )
    script.chmod(0o755)
    with stack.backends():
        ok(stack.xlmt("xl", "create", stack.guest("g1", vif=[f"script={script}"])))
    environment = seen.read_text()
    assert "XENBUS_PATH" in environment
    assert "libxlmt-preload" not in environment
    assert str(stack.fakehv) in environment  # what others preload stays


def test_xls_own_daemon_carries_the_hook_across_a_reboot(stack: Stack) -> None:
    ok(stack.xlmt("xl", "create", stack.guest("g1", on_reboot="restart")))
    stack.die(1, "reboot")
    eventually(lambda: stack.nodes() == {"2": "n0"})
    assert_node_came_first(stack.trace(), 2)


def test_create_refuses_when_the_hook_is_not_armed(daemon: Daemon, stack: Stack) -> None:
    """libxenstore preloaded: libxenlight's calls go there, and no node would be written."""
    library = next(Path("/usr/lib").glob("*/libxenstore.so.4"), None)
    assert library
    preload = f"{stack.fakehv}:{library}"
    done = stack.xlmt("create", stack.guest("g1"), env={"LD_PRELOAD": preload})
    assert done.returncode == 1
    assert "not armed" in complaint(done)
    assert set(stack.domains()) == {0}


def test_create_under_our_own_preload_writes_one_node(stack: Stack) -> None:
    program = Path(sys.executable).parent / "xlmt"
    ok(stack.xlmt("exec", "--", program, "create", stack.guest("g1")))
    ours = [r for r in writes(creation(stack.trace(), 1)) if r.path.startswith(NODES)]
    assert [r.op for r in ours] == ["RM", "MKDIR", "SET_PERMS"]


def test_exec_gives_programs_the_signals_that_they_expect(stack: Stack) -> None:
    """Python ignores SIGPIPE, which `xlmt xl list | head` must not."""
    line = ok(stack.xlmt("exec", "--", "grep", "SigIgn", "/proc/self/status")).stdout
    ignored = int(line.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


# Faults


def test_sigkill_at_any_request_of_a_creation(stack: Stack) -> None:
    """What is left is an orphan or half a domain with its node; never a home without a node.

    A creation for every third request, from the first, second or third on by chance;
    XLMT_STRIDE=1 is all of them.
    """
    create(stack, "bystander")
    program = Path(sys.executable).parent / "xlmt"
    config = stack.guest("victim")
    n, killed = -random.randrange(STRIDE), True
    while killed:
        n += STRIDE
        with stack.proxy() as proxy:
            with stack.popen(program, "create", "-qe", config, env=proxy.env) as process:
                proxy.kill_at(n, partial(os.killpg, process.pid, signal.SIGKILL))
                process.communicate(timeout=60)
            killed = process.returncode == -signal.SIGKILL
        assert killed or process.returncode == 0
        assert n < 500, "the creation never gets through"
        homes, nodes = stack.homes_and_nodes()
        left = homes - {"0", "1"}
        assert left <= nodes, f"killed at request {n}: a home without its node"
        assert "1" in nodes
        if killed:
            wipe(stack, left)
    assert n > 50, "the proxy has not seen the creation"
    assert stack.nodes()["1"] == "n0"
    states = listed(stack)
    assert states.pop(1) == "ok"
    assert set(states.values()) <= {"ok", "orphan"}


@pytest.mark.parametrize("moment", [20, 60, 90])
def test_ctrl_c_in_the_middle_of_a_creation_undoes_it(stack: Stack, moment: int) -> None:
    program = Path(sys.executable).parent / "xlmt"
    with stack.proxy() as proxy:
        with stack.popen(program, "create", "-q", stack.guest("g1"), env=proxy.env) as process:

            def interrupt(_packet: Packet) -> bool:
                if proxy.count == moment:
                    os.kill(process.pid, signal.SIGINT)
                return False  # the request goes on

            proxy.drop_at(interrupt)
            _, err = process.communicate(timeout=60)
        assert proxy.count > moment
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "xlmt: interrupted"
    assert "Traceback" not in err
    assert set(stack.domains()) == {0}
    assert stack.nodes() == {}


def wipe(stack: Stack, homes: set[str]) -> None:
    """Take away half-made domains but not their nodes, so that each creation costs the same."""
    for domid in set(stack.domains()) - {0, 1}:
        stack.hypervisor.remove(domid)
    with stack.client() as client:
        for home in homes:
            client.rm(f"/local/domain/{home}")


def test_xenstored_killed_in_mid_creation_is_an_error_within_ten_seconds(stack: Stack) -> None:
    program = Path(sys.executable).parent / "xlmt"
    with stack.proxy() as proxy:
        proxy.kill_at(
            lambda p: p.path.endswith("/console/ring-ref") or p.op == "INTRODUCE", stack.kill_daemon
        )
        with stack.popen(program, "create", stack.guest("g1"), env=proxy.env) as process:
            assert proxy.fired.wait(30)
            _, err = process.communicate(timeout=12)  # 10, and 2 for a busy machine
    assert process.returncode in {1, 5}
    assert "Traceback" not in err


def test_xenstored_frozen_in_mid_creation_ends_bounded_and_says_so(stack: Stack) -> None:
    program = Path(sys.executable).parent / "xlmt"
    with stack.proxy() as proxy:
        proxy.kill_at(lambda p: p.op == "INTRODUCE", stack.freeze_daemon)
        with stack.popen(program, "create", stack.guest("g1"), env=proxy.env) as process:
            try:
                assert proxy.fired.wait(30)
                _, err = process.communicate(timeout=45)
            finally:
                stack.thaw_daemon()
    assert process.returncode == 5
    assert "xenstored stopped answering" in err
    assert "xlmt reconcile" in err
