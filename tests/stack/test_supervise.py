# SPDX-License-Identifier: LGPL-2.1-or-later
"""The supervisor: nodes in time and gone in time, one per host, and deaths in nobody's way.

Witnesses: xenstored's own log, and the hypervisor's files.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.stack.bootloader import Bootloader, has_disk
from tests.stack.product import NODES, assert_node_came_first, complaint, create, ok, supervisors
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import NO_LIMIT, log, look, start, supervising
from tests.stack.trace import writes

UNIT = Path(__file__).parents[2] / "hooks/systemd/xlmt-supervise.service"

# --- nodes ---------------------------------------------------------------------------------


def test_a_domain_of_plain_xl_has_its_node_without_an_introduction(stack: Stack) -> None:
    """So long before its first device: only then can libxl make one. xl waits here for the node.

    Without a hypervisor nothing is built in between, and it would be a race.
    """
    with supervising(stack), stack.proxy() as proxy:
        for domid in range(1, 6):
            proxy.call_at(
                lambda p: p.op == "INTRODUCE",
                lambda: eventually(lambda: str(domid) in stack.nodes()),  # noqa: B023
            )
            ok(stack.xl("create", "-qe", stack.guest(f"g{domid}"), env=proxy.env))
            assert proxy.fired.is_set()
            proxy.fired.clear()
    assert stack.nodes() == {str(domid): "n0" for domid in range(1, 6)}


def test_a_domain_that_is_only_introduced_has_its_node(stack: Stack) -> None:
    """Of a toolstack that keeps nothing in /vm."""
    with supervising(stack):
        stack.add_domain(7)
        eventually(lambda: stack.nodes() == {"7": "n0"})


def test_an_orphan_of_plain_xl_goes_at_once_and_after_all_else(stack: Stack) -> None:
    with supervising(stack):
        ok(stack.xl("create", "-qe", stack.guest("g1")))
        eventually(lambda: stack.nodes() == {"1": "n0"})
        ok(stack.xl("destroy", "g1"))
        eventually(lambda: stack.nodes() == {})
    its_own = re.compile(r"/local/domain/1(/|$)|/libxl/1(/|$)|/local/domain/0/mtwatch/1$")
    last = [r for r in writes(stack.trace()) if its_own.match(r.path)][-1]
    assert (last.op, last.path) == ("RM", f"{NODES}/1")


def test_a_lingering_node_goes_soon_after_the_kernel_has_let_go(stack: Stack) -> None:
    with supervising(stack):
        ok(stack.xl("create", "-qe", stack.guest("g1")))
        with stack.kernel_holds(1):
            ok(stack.xl("destroy", "g1"))
            assert look(stack)
            assert stack.nodes() == {"1": "n0"}
            eventually(lambda: "node 1 kept" in log(stack))
        eventually(lambda: stack.nodes() == {})  # no event tells of that
    assert log(stack).count("node 1 kept") == 1


def test_a_creation_that_fails_before_it_is_introduced_leaves_no_node(stack: Stack) -> None:
    """No @releaseDomain tells of its end."""
    with supervising(stack), stack.hypervisor.fault("builder"):
        assert stack.xl("create", "-qe", stack.guest("g1")).returncode != 0
        eventually(lambda: set(stack.domains()) == {0})
        eventually(lambda: stack.nodes() == {})


def test_so_many_removals_at_once_are_refused_as_in_reconcile_and_said_once(stack: Stack) -> None:
    with stack.client() as client:
        for domid in range(1, 31):
            client.mkdir(f"{NODES}/{domid}")
    with supervising(stack):
        assert look(stack)
        assert look(stack)
        assert len(stack.nodes()) == 30
    assert log(stack).count("xlmt reconcile --force") == 1


def test_a_pass_with_nothing_to_do_changes_nothing(stack: Stack) -> None:
    create(stack)
    with supervising(stack, "--replace"):
        before = len(writes(stack.trace()))
        assert look(stack)
        assert look(stack)
        assert len(writes(stack.trace())) == before


def test_it_has_seen_nothing_while_the_hypervisor_does_not_list_its_domains(stack: Stack) -> None:
    with supervising(stack):
        with stack.hypervisor.fault("list"):
            assert not look(stack)
        assert look(stack)


# --- one per host --------------------------------------------------------------------------


def test_a_second_supervisor_is_told_who_is_the_first(stack: Stack) -> None:
    with supervising(stack) as it:
        second = stack.xlmt("supervise")
        assert second.returncode == 1
        assert re.search(rf"already running \(pid {it.pid}\).*--replace", complaint(second))
        assert supervisors(stack) == [it.pid]


def test_a_supervisor_can_be_replaced(stack: Stack) -> None:
    with supervising(stack) as it, supervising(stack, "--replace") as other:
        assert it.wait(15) == 0
        eventually(lambda: supervisors(stack) == [other.pid])
        eventually(lambda: look(stack))  # the first one may have answered until now


def test_creations_at_the_same_time_start_one_supervisor(stack: Stack) -> None:
    xlmt = [
        stack.popen(Path(sys.executable).parent / "xlmt", "create", "-q", stack.guest(f"g{n}"))
        for n in range(5)
    ]
    for process in xlmt:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    eventually(lambda: len(supervisors(stack)) == 1)
    assert len(stack.nodes()) == 5


@pytest.mark.parametrize("daemon", ["c"])
def test_a_domain_without_a_supervisor_is_not_started(stack: Stack) -> None:
    stack.path("/run/xlmt").write_text("no folder")
    done = stack.xlmt("create", "-q", stack.guest("g1"), timeout=90)
    assert done.returncode == 1
    assert "no supervisor is running for domain 1" in done.stderr
    assert set(stack.domains()) == {0}
    assert stack.nodes() == {}


def test_a_supervisor_that_is_killed_during_a_creation_is_started_again(stack: Stack) -> None:
    it = start(stack)
    eventually(lambda: look(stack))
    with stack.proxy() as proxy:
        proxy.call_at(lambda p: p.op == "INTRODUCE", it.kill)
        ok(stack.xlmt("create", "-q", stack.guest("g1"), env=proxy.env))
        assert proxy.fired.is_set()
        assert it.wait(10) == -signal.SIGKILL
        assert look(stack)
        assert not stack.domains()[1].paused
        stack.die(1, "poweroff")
        eventually(lambda: set(stack.domains()) == {0})


# --- its own end ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_also_while_xenstored_is_silent(
    stack: Stack, number: signal.Signals
) -> None:
    it = start(stack)
    eventually(lambda: look(stack))
    stack.freeze_daemon()
    try:
        stack.hypervisor.add(5)
        with pytest.raises(OSError, match="timed out"):
            _ask_briefly(stack)  # it waits for xenstored now
        it.send_signal(number)
        assert it.wait(2) == 0  # far below a request's deadline of 5 s
    finally:
        stack.thaw_daemon()
    it.communicate()
    assert "Traceback" not in log(stack)


def _ask_briefly(stack: Stack) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.3)
        sock.connect(str(stack.path("/run/xlmt/supervise.sock")))
        sock.recv(1)


def test_without_xenstored_it_says_so_and_exits_with_5(stack: Stack) -> None:
    stack.kill_daemon()
    done = stack.xlmt("supervise")
    assert done.returncode == 5
    assert "xenstored" in complaint(done)


def test_while_xenstored_is_away_it_neither_ends_nor_spins(stack: Stack) -> None:
    with supervising(stack) as it:
        stack.kill_daemon()
        seen = [(time.monotonic(), _switches(it))]

        def rests() -> bool:
            """Whether it has not run for a second: its pauses have become longer than that."""
            if seen[0][1] != (now := _switches(it)):
                seen[0] = time.monotonic(), now
            return time.monotonic() - seen[0][0] > 1

        eventually(rests, timeout=60)
        assert it.poll() is None
        stack.start_daemon()
        eventually(lambda: look(stack), timeout=20)
        ok(stack.xl("create", "-qe", stack.guest("g1")))
        eventually(lambda: stack.nodes() == {"1": "n0"})
    assert log(stack).count("trying again") <= 3


def test_a_queue_before_a_frozen_xenstored_holds_up_nobody_who_asks(stack: Stack) -> None:
    """libxl waits without a deadline until it is let into that queue, which is short."""
    with supervising(stack):
        stack.freeze_daemon()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                other.connect(str(stack.socket))
                assert [look(stack) for _ in range(3)] == [False] * 3
        finally:
            stack.thaw_daemon()
        eventually(lambda: look(stack), timeout=20)


def _switches(process: subprocess.Popen[str]) -> int:
    """How often it has gone from running to waiting."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))


def test_in_a_storm_of_events_it_still_answers(stack: Stack) -> None:
    stack.add_domains(range(1, 201))
    enough = threading.Event()

    def storm() -> None:
        with stack.client() as client:
            while not enough.is_set():
                client.write("/vm/storm", "x")

    with supervising(stack):
        storms = [threading.Thread(target=storm, daemon=True) for _ in range(2)]
        for thread in storms:
            thread.start()
        try:
            for _ in range(3):
                assert look(stack)
        finally:
            enough.set()
            for thread in storms:
                thread.join(15)


def test_a_file_that_is_no_job_is_in_nobodys_way(stack: Stack) -> None:
    with supervising(stack):
        create(stack)
    (stack.path("/run/xlmt/jobs") / "copy of a job.json").write_text("{}")
    odd = stack.path("/run/xlmt/jobs") / "00000000-0000-0000-0000-000000000001.json"
    odd.write_text("what?")
    stack.die(1, "poweroff")
    with supervising(stack):
        eventually(lambda: set(stack.domains()) == {0})
        eventually(lambda: not odd.exists())
        assert odd.with_suffix(".bad").exists()


# --- deaths --------------------------------------------------------------------------------


@pytest.mark.parametrize("daemon", ["c"])
def test_a_slow_restart_is_in_nobodys_way(stack: Stack) -> None:
    with supervising(stack), stack.backends() as backends:
        create(stack, "slow", vif=["script=/bin/true"])
        create(stack, "quick")
        backends.stall(1)  # libxl waits 10 s for it
        stack.die(1, "reboot")
        eventually(lambda: "slow (domain 1) has shut down" in log(stack))
        stack.die(2, "reboot")
        eventually(lambda: "quick (domain 2) is restarted as domain" in log(stack), timeout=20)
        assert "slow (domain 1) is restarted" not in log(stack)
        backends.release(1)
        eventually(lambda: "slow (domain 1) is restarted" in log(stack), timeout=40)


#: A supervisor for which a bootloader has not two minutes, but three seconds.
IMPATIENT = (
    "import sys; from xlmt.supervise import handler; handler._BOOTLOADER_S = 3.0; "
    "sys.argv[0:1] = []; from xlmt.cli.main import main; main()"
)


@pytest.mark.parametrize("daemon", ["c"])
def test_a_bootloader_that_hangs_is_ended_and_nobody_waits_for_it(stack: Stack) -> None:
    bootloader = Bootloader(stack)
    with (
        stack.backends(),
        supervising(stack, within=[sys.executable, "-c", IMPATIENT], env=NO_LIMIT),
    ):
        create(stack, "slow", **bootloader.settings)
        create(stack, "quick")
        bootloader.hangs.touch()
        stack.die(1, "reboot")
        ended = "handling the shutdown of slow (domain 1): libxl did not finish in time"
        eventually(lambda: ended in log(stack), timeout=30)
        stack.die(2, "reboot")
        eventually(lambda: "quick (domain 2) is restarted as domain" in log(stack), timeout=20)
        bootloader.hangs.unlink()
        eventually(lambda: "slow (domain 1) is restarted as domain" in log(stack), timeout=60)
        assert not [d for d in stack.domains().values() if d.paused]
        assert not has_disk(stack)
    assert "detach" not in log(stack)


def test_a_guest_that_keeps_dying_is_left_down_and_that_is_said(stack: Stack) -> None:
    with supervising(stack, "--restart-limit", "3"):
        create(stack)
        for domid in (1, 2, 3):
            eventually(lambda: domid in stack.domains(), timeout=20)  # noqa: B023
            eventually(lambda: not stack.domains()[domid].paused)  # noqa: B023
            stack.die(domid, "reboot")
        eventually(lambda: set(stack.domains()) == {0}, timeout=20)
        eventually(lambda: stack.nodes() == {})
        assert look(stack)
        assert set(stack.domains()) == {0}
    assert (
        "g1 (domain 3) is not restarted: it died 3 times in a row within 10 s of its start"
        in log(stack)
    )
    assert "xlmt create" in log(stack)


def test_a_guest_that_lives_long_enough_is_always_brought_back(stack: Stack) -> None:
    with supervising(stack, "--restart-limit", "1", "--restart-window", "0"):
        create(stack)
        for domid in (1, 2):
            eventually(lambda: domid in stack.domains(), timeout=20)  # noqa: B023
            eventually(lambda: not stack.domains()[domid].paused)  # noqa: B023
            stack.die(domid, "reboot")
        eventually(lambda: set(stack.domains()) == {0, 3}, timeout=20)


def test_a_preserved_domain_is_left_alone_ever_after(stack: Stack) -> None:
    with supervising(stack):
        create(stack, on_crash="preserve")
        stack.die(1, "crash")
        eventually(lambda: "action: preserve" in log(stack))
        eventually(lambda: len(supervisors(stack)) == 1)
        for _ in range(3):
            assert look(stack)
    with supervising(stack):
        assert look(stack)
    assert log(stack).count("action: preserve") == 1
    assert stack.domains()[1].reason == "crash"


def test_a_record_of_before_the_host_crashed_is_none(stack: Stack) -> None:
    """Another toolstack's domain can have the same domid and uuid after that."""
    with supervising(stack):
        create(stack, on_poweroff="destroy")
    (record,) = stack.path("/var/lib/xen").glob("userdata-d.1.*.xlmt")
    values = json.loads(record.read_text())
    record.write_text(json.dumps(values | {"boot": "another"}))
    stack.die(1, "poweroff")
    with supervising(stack):
        assert look(stack)
        eventually(lambda: len(supervisors(stack)) == 1)
        assert stack.domains()[1].reason == "poweroff"
    assert "shut down" not in log(stack)


def test_a_death_while_no_supervisor_ran_is_handled_by_the_next(stack: Stack) -> None:
    with supervising(stack, env=NO_LIMIT):
        create(stack)
    stack.die(1, "reboot")
    with supervising(stack, env=NO_LIMIT):
        eventually(lambda: set(stack.nodes()) == {"2"}, timeout=20)


def test_why_a_guest_cannot_be_restarted_is_said(stack: Stack) -> None:
    with supervising(stack):
        create(stack)
        with stack.hypervisor.fault("builder"):
            stack.die(1, "reboot")
            eventually(
                lambda: "g1 (domain 1) is not restarted: creating the domain" in log(stack),
                timeout=20,
            )
        eventually(lambda: len(supervisors(stack)) == 1)
        assert look(stack)
        assert set(stack.domains()) == {0}
        assert not list(stack.path("/run/xlmt/jobs").iterdir())
    assert stack.nodes() == {}


# --- HVM guests: soft resets, CDs ----------------------------------------------------------

#: What libxl waits for of a device model; nothing runs in the guest.
DEVICE_MODEL = """\
#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" != -d ] || domid=$2; shift; done
unset LD_PRELOAD
me=/local/domain/0/device-model/$domid
xenstore-write $me/state running
while sleep 0.1; do
	[ "$(xenstore-read $me/command 2>/dev/null)" = save ] || continue
	touch /var/lib/xen/qemu-save.$domid
	xenstore-write $me/command '' $me/state paused
done
"""


def hvm_guest(stack: Stack, name: str, **settings: object) -> Path:
    """An HVM guest with a CD in its drive hdc."""
    device_model, cd = stack.workdir / "device-model", stack.workdir / "cd.iso"
    device_model.write_text(DEVICE_MODEL)
    device_model.chmod(0o755)
    cd.write_bytes(bytes(4096))
    config = stack.guest(
        name,
        "hvm",
        firmware_override="/etc/hostname",
        device_model_version="qemu-xen-traditional",
        device_model_override=str(device_model),
        disk=[f"file:{cd},hdc:cdrom,r"],
        **settings,
    )
    config.write_text("".join(line for line in config.open() if not line.startswith("kernel")))
    return config


def test_a_soft_reset_keeps_the_domain_and_gives_it_its_node_anew(stack: Stack) -> None:
    with supervising(stack), stack.backends():
        ok(stack.xlmt("create", "-q", hvm_guest(stack, "h1", on_soft_reset="soft-reset")))
        first = stack.domains()[1]
        for times in (1, 2):
            stack.die(1, "soft_reset")
            eventually(lambda: log(stack).count("runs again after its") == times, timeout=30)  # noqa: B023
            eventually(lambda: stack.domains().get(1) == first)  # its handle, and it runs
            assert stack.nodes() == {"1": "n0"}
        assert_node_came_first(stack.trace(), 1)
        stack.die(1, "poweroff")  # still managed
        eventually(lambda: set(stack.domains()) == {0})


def test_a_cd_that_the_guest_ejects_is_out_of_its_drive(stack: Stack) -> None:
    with supervising(stack), stack.backends(), stack.client() as client:
        ok(stack.xlmt("create", "-q", hvm_guest(stack, "h1")))
        drive = "/local/domain/1/device/vbd/5632"
        backend = client.read(f"{drive}/backend")
        assert client.read(f"{backend}/params").endswith("cd.iso")
        client.write(f"{drive}/eject", "eject")
        eventually(lambda: client.read(f"{backend}/params") == "")
        assert client.read(f"{drive}/eject") == ""
        eventually(lambda: "h1 (domain 1) has ejected the CD in hdc" in log(stack))
    assert log(stack).count("ejected") == 1


def test_a_cd_that_was_ejected_while_no_supervisor_ran_is_seen_by_the_next(stack: Stack) -> None:
    with stack.backends(), stack.client() as client:
        with supervising(stack):
            ok(stack.xlmt("create", "-q", hvm_guest(stack, "h1")))
        client.write("/local/domain/1/device/vbd/5632/eject", "eject")
        with supervising(stack):
            eventually(lambda: "has ejected the CD in hdc" in log(stack))


def test_a_guest_comes_back_without_the_cd_that_it_has_ejected(stack: Stack) -> None:
    with supervising(stack), stack.backends(), stack.client() as client:
        ok(stack.xlmt("create", "-q", hvm_guest(stack, "h1", on_reboot="restart")))
        client.write("/local/domain/1/device/vbd/5632/eject", "eject")
        eventually(lambda: "has ejected the CD" in log(stack))
        stack.die(1, "reboot")
        eventually(lambda: "h1 (domain 1) is restarted as domain 2" in log(stack), timeout=30)
        backend = client.read("/local/domain/2/device/vbd/5632/backend")
        assert client.read(f"{backend}/params") == "aio:"
        client.write("/local/domain/2/device/vbd/5632/eject", "eject")  # watched in this life, too
        eventually(lambda: client.read("/local/domain/2/device/vbd/5632/eject") == "")


# --- as a unit -----------------------------------------------------------------------------


def taken_away() -> list[str]:
    """The capabilities that its unit leaves it without."""
    lines = re.findall(r"^CapabilityBoundingSet=~(.+)$", UNIT.read_text(), re.MULTILINE)
    return [name.removeprefix("CAP_").lower() for line in lines for name in line.split()]


def test_guests_are_restarted_with_the_capabilities_of_the_unit(stack: Stack) -> None:
    without = ",".join(f"-{name}" for name in taken_away())
    assert "-sys_time" in without
    with supervising(stack, within=["setpriv", f"--bounding-set={without}"]) as supervisor:
        status = Path(f"/proc/{supervisor.pid}/status").read_text()
        assert int(re.findall(r"^CapEff:\s*(\w+)$", status, re.MULTILINE)[0], 16) & 1 << 25 == 0
        create(stack, on_reboot="restart")
        stack.die(1, "reboot")
        eventually(lambda: stack.nodes() == {"2": "n0"}, timeout=60)
        ok(stack.xlmt("destroy", "g1"))
        eventually(lambda: stack.nodes() == {})
