# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stack itself, with nothing of ours in it: what the other tests here stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.stack.conftest import require
from tests.stack.daemon import Daemon
from tests.stack.hypervisor import DYING
from tests.stack.proxy import Packet
from tests.stack.stack import BUS, DEVICES, Stack, eventually
from tests.stack.trace import creation, writes
from tests.stack.wire import Client

ROOT = Path(__file__).parents[2]


def is_last_request(packet: Packet) -> bool:
    return packet.op == "RM" and packet.path.endswith("/hvmloader")


def create(stack: Stack, name: str = "g1", kind: str = "pv", **settings: object) -> None:
    done = stack.xl("create", stack.guest(name, kind, **settings))
    assert done.returncode == 0, done.stderr


# Life and death of a domain


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_xl_creates_lists_and_destroys(stack: Stack, kind: str) -> None:
    create(stack, kind=kind)
    assert "g1" in stack.xl("list").stdout
    assert set(stack.domains()) == {0, 1}
    with stack.client() as client:
        assert client.read("/local/domain/1/name") == "g1"
    assert stack.xl("destroy", "g1").returncode == 0
    assert set(stack.domains()) == {0}
    with stack.client() as client:
        assert not client.exists("/local/domain/1")


def test_creation_starts_by_clearing_the_domains_home(stack: Stack) -> None:
    create(stack)
    first = creation(stack.trace(), 1)[0]
    assert (first.op, first.path) == ("RM", "/local/domain/1")


def test_teardown_ends_with_hvmloader(stack: Stack) -> None:
    create(stack)
    stack.xl("destroy", "g1")
    trace = stack.trace()
    destroyer = next(r.conn for r in trace if r.path == "/local/domain/1/hvmloader")
    last = [r for r in trace if r.conn == destroyer][-1]
    assert (last.op, last.path, last.tx) == ("RM", "/local/domain/1/hvmloader", None)
    assert last.error == "ENOENT"


def test_a_failed_creation_is_torn_down(stack: Stack) -> None:
    with stack.hypervisor.fault("builder"):
        assert stack.xl("create", stack.guest("g1")).returncode != 0
    assert set(stack.domains()) == {0}
    assert writes(stack.trace())[-1].path == "/local/domain/1/hvmloader"
    create(stack)
    assert set(stack.domains()) == {0, 2}


def test_no_domain_can_be_made(stack: Stack) -> None:
    with stack.hypervisor.fault("create"):
        assert stack.xl("create", stack.guest("g1")).returncode != 0
    assert set(stack.domains()) == {0}


@pytest.mark.parametrize("fault", ["zombie", "zombie-1"])
def test_a_zombie_stays_listed(stack: Stack, fault: str) -> None:
    create(stack)
    with stack.hypervisor.fault(fault):
        assert stack.xl("destroy", "1").returncode == 0
    assert stack.domains()[1].flags & DYING
    assert "(null)" in stack.xl("list").stdout
    stack.hypervisor.remove(1)
    assert "(null)" not in stack.xl("list").stdout


def test_memory_takes_time_to_relinquish(stack: Stack) -> None:
    create(stack)
    with stack.hypervisor.fault("relinquish"), stack.popen("xl", "destroy", "1") as process:
        eventually(lambda: any(r.path.endswith("/hvmloader") for r in stack.trace()))
        assert not stack.domains()[1].dying
        assert process.poll() is None
        stack.hypervisor.set_fault("relinquish", on=False)
        assert process.wait(20) == 0
    assert 1 not in stack.domains()


def test_listing_fails_for_the_toolstack_and_not_for_the_daemon(stack: Stack) -> None:
    create(stack)
    with stack.hypervisor.fault("list"):
        assert stack.xl("list").returncode != 0
        stack.hypervisor.poke()
    with stack.client() as client:
        assert client.exists("/local/domain/1")
    assert stack.xl("list").returncode == 0


@pytest.mark.parametrize("reason", ["reboot", "crash"])
def test_a_domain_that_stops_by_itself_fires_release_domain(stack: Stack, reason: str) -> None:
    stack.add_domain(5)
    with stack.client() as client:
        client.watch("@releaseDomain", "t")
        assert client.next_event(5) == ("@releaseDomain", "t")  # on registration
        stack.die(5, reason)
        assert client.next_event(5) == ("@releaseDomain", "t")
    assert stack.domains()[5].reason == reason


def test_xls_daemon_restarts_a_domain_that_reboots(stack: Stack) -> None:
    create(stack, on_reboot="restart")
    stack.die(1, "reboot")
    eventually(lambda: set(stack.domains()) == {0, 2})


def test_introduction_is_announced(stack: Stack) -> None:
    with stack.client() as client:
        client.watch("@introduceDomain")
        assert client.next_event(5)
        create(stack)
        assert client.next_event(5) == ("@introduceDomain", "")


# Domids


def test_domids_ascend_wrap_and_skip_those_in_use(stack: Stack) -> None:
    stack.hypervisor.set_rover(32750)
    stack.add_domain(1)
    create(stack, "a")
    create(stack, "b")
    assert set(stack.domains()) == {0, 1, 32751, 2}


def test_concurrent_creators_get_different_domids(stack: Stack) -> None:
    crowd = [stack.popen("xl", "create", "-e", stack.guest(f"g{i}")) for i in range(8)]
    results = [(p.communicate(timeout=60), p.returncode) for p in crowd]
    assert all(code == 0 for _, code in results), results
    assert set(stack.domains()) == set(range(9))


def test_thousands_of_domains_are_listed_in_order(stack: Stack) -> None:
    for domid in range(3000, 0, -1):
        stack.hypervisor.add(domid)
    lines = stack.xl("list").stdout.splitlines()[1:]
    assert [int(line.split()[1]) for line in lines] == list(range(3001))


# The daemon


def test_a_restarted_daemon_has_forgotten_everything(stack: Stack) -> None:
    create(stack)
    stack.restart_daemon()
    with stack.client() as client:
        assert not client.exists("/local/domain/1")
        assert client.read("/local/domain/0/name") == "Domain-0"
    assert set(stack.domains()) == {0, 1}
    create(stack, "g2")  # and the console's stand-in has found the new daemon
    assert creation(stack.trace(), 2)


def test_a_frozen_daemon_answers_nobody(stack: Stack) -> None:
    with stack.client(timeout=0.2) as client:
        stack.freeze_daemon()
        with pytest.raises(TimeoutError):
            client.ls("/")
        stack.thaw_daemon()
    with stack.client() as client:
        assert "local" in client.ls("/")


def test_a_killed_daemon_drops_its_connections(stack: Stack) -> None:
    with stack.client() as client:
        stack.kill_daemon()
        with pytest.raises(ConnectionError):
            client.ls("/")


def test_oxenstored_can_be_told_to_fail_commits(tmp_path: Path) -> None:
    require("ocaml")
    with Stack("ocaml", workdir=tmp_path / "stack", test_eagain=True) as stack:
        for i in range(1, 6):
            create(stack, f"g{i}")
        assert any(r.error == "EAGAIN" for r in stack.trace())
        for i in range(1, 6):
            assert creation(stack.trace(), i)


def test_the_trace_has_no_request_of_the_harness(stack: Stack) -> None:
    with stack.client() as client:
        client.write("/hidden", "x")
    with stack.client(marked=False) as client:
        client.write("/shown", "two words")
    shown = [r for r in stack.trace() if r.op == "WRITE"]
    assert [(r.path, r.args, r.tx) for r in shown] == [("/shown", ("two words",), None)]


def test_nodes_are_listed_with_permissions_however_many(stack: Stack) -> None:
    assert stack.nodes() == {}
    with stack.client() as client:
        for i in range(1, 2001):
            client.mkdir(f"/local/domain/0/mtwatch/{i}")
        client.set_perms("/local/domain/0/mtwatch/7", "n0", "r7")
    nodes = stack.nodes()
    assert len(nodes) == 2000
    assert (nodes["7"], nodes["8"]) == ("n0,r7", "n0")


# Clients that fare badly


def test_a_domain_survives_200_conflicts(stack: Stack) -> None:
    with stack.proxy() as proxy:
        proxy.eagain(200)
        done = stack.xl("create", stack.guest("g1"), env=proxy.env)
        assert done.returncode == 0, done.stderr
        assert proxy.aborts == 200
    assert creation(stack.trace(), 1)
    assert set(stack.domains()) == {0, 1}


@pytest.mark.parametrize("after", [False, True])
def test_xl_killed_at_its_last_request_leaves_the_domain(stack: Stack, after: bool) -> None:
    create(stack)
    with stack.proxy() as proxy, stack.popen("xl", "destroy", "1", env=proxy.env) as process:
        proxy.kill_at(is_last_request, process.kill, after=after)
        assert process.wait(20) == -signal.SIGKILL
    seen = any(r.path == "/local/domain/1/hvmloader" for r in stack.trace())
    assert seen == after
    assert 1 in stack.domains()


def test_a_mute_daemon_makes_the_client_wait(stack: Stack) -> None:
    with stack.proxy() as proxy:
        proxy.mute_at(lambda p: p.path == "/local")
        with Client(proxy.socket, timeout=0.3) as client:
            assert client.ls("/")
            with pytest.raises(TimeoutError):
                client.ls("/local")
        assert proxy.fired.wait(5)


def test_half_a_reply_is_no_reply(stack: Stack) -> None:
    with stack.proxy() as proxy:
        proxy.half_reply_at(2)
        with Client(proxy.socket, timeout=0.3) as client, pytest.raises(TimeoutError):
            client.ls("/")
        assert proxy.count == 2


def test_a_dropped_connection_is_noticed(stack: Stack) -> None:
    with stack.proxy() as proxy:
        proxy.drop_at(2)
        with Client(proxy.socket) as client, pytest.raises(ConnectionError):
            client.ls("/")


@pytest.mark.parametrize("rule", ["kill_at", "call_at"])
def test_a_client_is_cut_off_by_a_fault_that_has_fired(stack: Stack, rule: str) -> None:
    """The daemon's end cuts it off while the kill of the daemon still waits for that end."""
    judged = threading.Event()

    def kill_and_linger() -> None:
        stack.kill_daemon()
        judged.wait(10)

    with stack.proxy() as proxy:
        getattr(proxy, rule)(2, kill_and_linger)
        with Client(proxy.socket) as client, pytest.raises(ConnectionError):
            client.ls("/")
        fired = proxy.fired.is_set()
        judged.set()
    assert fired


# The kernel's side


def test_disks_and_vifs_come_and_go_with_backends(stack: Stack) -> None:
    devices = stack.path(DEVICES)
    with stack.backends():
        create(
            stack,
            vif=["mac=00:16:3e:00:00:01"],
            disk=["format=raw,vdev=xvda,access=rw,script=block-dummy,target=anything"],
        )
        assert {d.name for d in devices.iterdir()} == {"vif-1-0", "vbd-1-51712"}
        assert stack.xl("destroy", "1").returncode == 0
        eventually(lambda: not list(devices.iterdir()))


def test_a_stalled_backend_outlives_its_domain(stack: Stack) -> None:
    devices = stack.path(DEVICES)
    with stack.backends() as backends:
        create(stack, vif=["mac=00:16:3e:00:00:01"])
        backends.stall(1)
        stack.xl("destroy", "1")  # libxl waits 10 s and gives up
        assert [d.name for d in devices.iterdir()] == ["vif-1-0"]
        assert 1 not in stack.domains()
        backends.release(1)
        assert not list(devices.iterdir())


def test_held_devices_are_folders_and_on_the_bus_until_their_removal_begins(stack: Stack) -> None:
    inside = "vbd-3-51712/nodename"
    with stack.kernel_holds(3, "vbd-3-51712"):
        assert stack.run("cat", f"{DEVICES}/{inside}").stdout == "backend/vbd/3/51712\n"
        assert stack.path(f"{BUS}/{inside}").read_text() == "backend/vbd/3/51712\n"
        stack.begin_removal(3, "vbd-3-51712")
        assert not list(stack.path(BUS).iterdir())
        assert [device.name for device in stack.path(DEVICES).iterdir()] == ["vbd-3-51712"]
    assert not list(stack.path(DEVICES).iterdir())


# The house is left clean


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # dead, and only not waited for


def test_nothing_outlives_the_stack(daemon: Daemon, tmp_path: Path) -> None:
    with Stack(daemon, workdir=tmp_path / "stack") as stack:
        create(stack)  # leaves xl's daemon behind
        stack.popen("sleep", "600")
        pids = stack.pids()
        assert len(pids) >= 3
    assert not [pid for pid in pids if alive(pid)]


def test_nothing_outlives_a_killed_test_process(daemon: Daemon, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.stack.stack import Stack\n"
        "with Stack(sys.argv[1], workdir=Path(sys.argv[2])) as s:\n"
        "    s.xl('create', s.guest('g1')); print(*s.pids(), flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, daemon, tmp_path / "stack"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    with process:
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) >= 2
        os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not [pid for pid in pids if alive(pid)])


def test_a_command_that_takes_too_long_is_killed_with_its_children(stack: Stack) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        stack.run("sh", "-c", "sleep 600 & sleep 600", timeout=0.3)


def test_the_host_is_not_touched(stack: Stack) -> None:
    create(stack)
    assert stack.path("/run/xenstored/socket").exists()
    assert not Path("/run/fakexen").exists()
