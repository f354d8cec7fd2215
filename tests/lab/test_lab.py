# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab itself, without guests: what the other lab tests stand on."""

import socket
import time

import pytest

from tests.lab.channel import Channel
from tests.lab.dmesg import Complained, quiet
from tests.lab.errors import CommandFailed, CommandTimeout, LabLost
from tests.lab.hosts import BOTH_DAEMONS, BOTH_RELEASES
from tests.lab.vm import Lab


def test_a_command_has_its_status_and_its_two_outputs(lab: Lab) -> None:
    result = lab.run("echo out; echo err >&2; exit 7")
    assert (result.rc, result.out, result.err) == (7, "out\n", "err\n")
    with pytest.raises(CommandFailed, match="status 7"):
        lab.run("exit 7", check=True)


def test_a_command_that_overruns_is_killed_and_the_next_one_runs(lab: Lab) -> None:
    with pytest.raises(CommandTimeout, match="before"):
        lab.run("echo before; sleep 1000", 1.0)
    assert lab.run("pgrep -x sleep").out == ""


def test_a_daemon_left_behind_does_not_hold_up_the_result(lab: Lab) -> None:
    began = time.monotonic()
    lab.run("sleep 60 &", check=True)
    assert time.monotonic() - began < 30
    lab.run("pkill -x sleep")


def test_files_go_in_and_out_unchanged(lab: Lab) -> None:
    text = "\n".join(f"{n} 'quotes' $dollars \\ ü" for n in range(20_000))
    assert lab.read(lab.push("/tmp/a file", text)) == text


def test_background_commands_report_when_they_end(lab: Lab) -> None:
    waits = lab.spawn("until [ -e /tmp/go ]; do sleep 0.1; done; echo gone; exit 3")
    assert waits.rc() is None
    lab.run("touch /tmp/go")
    assert (waits.wait().rc, waits.output()) == (3, "gone\n")


def test_the_verdict_survives_a_noisy_console(lab: Lab) -> None:
    noise = lab.spawn('while :; do echo \'{"id": 1, "rc": 0}\' > /dev/console; done')
    assert [lab.run(f"exit {n}").rc for n in range(5)] == [0, 1, 2, 3, 4]
    noise.kill()
    assert '"rc"' in lab.console()


@BOTH_RELEASES
def test_a_kernel_may_change_code_that_it_is_running(lab: Lab) -> None:
    """Under QEMU before 8.1 this ends dom0, see emulator.py."""
    busy = lab.spawn("while :; do /bin/true; done")
    switch = "for n in {1..30}; do echo 1 > enable && echo 0 > enable; done"
    lab.run(f"cd /sys/kernel/debug/tracing/events/sched && {switch}", check=True)
    busy.kill()


@BOTH_DAEMONS
def test_the_daemon_is_the_one_asked_for(lab: Lab) -> None:
    name = {"c": "xenstored", "ocaml": "oxenstored"}[lab.daemon]
    assert lab.run("ps -o comm= $(cat /run/xen/xenstored.pid)", check=True).out.strip() == name


@BOTH_RELEASES
def test_dom0_is_of_the_release_asked_for_and_so_are_xen_and_the_kernel(lab: Lab) -> None:
    assert f"VERSION_CODENAME={lab.release.codename}" in lab.read("/etc/os-release").split()
    (installed,) = lab.run("ls -d /usr/lib/xen-[0-9]*", check=True).out.split()
    xen = lab.run("xl info xen_version", check=True).out
    assert xen.startswith(f"{installed.removeprefix('/usr/lib/xen-')}.")
    lab.run("test -d /usr/lib/modules/$(uname -r)/build", check=True)


def test_what_the_kernel_complains_of_does_not_go_unnoticed(lab: Lab) -> None:
    with pytest.raises(Complained, match="BUG: on purpose"), quiet(lab):
        lab.run("echo BUG: on purpose > /dev/kmsg", check=True)
    with quiet(lab, ["on purpose"]):
        lab.run("echo BUG: on purpose > /dev/kmsg", check=True)


def test_a_vm_that_ends_is_lost_not_failed() -> None:
    # In its own VM would cost a boot: the line to the agent is what notices.
    ours, theirs = socket.socketpair()
    with ours:
        channel = Channel(ours)
        theirs.close()
        with pytest.raises(LabLost, match="ended"):
            channel.call("true", 60)
