# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt kernel`, on trees of files that look like /proc and /sys, with a stand-in for modprobe.

What a real module does is for the lab to show. This is about what is read, decided and said.
"""

import itertools
import json
import os
import re
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.kernel.test_proc import STACK, interface_is, process, ran, switches
from tests.unit.kernel.test_status import STATUS
from tests.unit.xenstore.xsserver import LONG, SOON, Serve, answers, silent
from xlmt.cli import kernel as cli
from xlmt.cli.kernel import StatusOutput
from xlmt.errors import NoXenError, RefusedError, TimedOutError, UsageError, XlmtError
from xlmt.kernel import cgroup, deadline, manage, modprobe, module, places
from xlmt.nodes import observe

_MODPROBE = """\
#!/bin/sh
echo "$LC_ALL $*" >>"$0.calls"
[ ! -e "$0.does" ] || . "$0.does"
"""


@dataclass(frozen=True)
class Host:
    """A dom0 with xenwatch and xenbus, without the module, as root sees it."""

    root: Path

    @property
    def sys(self) -> Path:
        return self.root / "sys/module/xen_mtwatch"

    @property
    def status(self) -> Path:
        return self.root / "sys/kernel/debug/xen_mtwatch/status"

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    def load(self, status: str | None = STATUS) -> None:
        """Have the module there, with what it says of itself, or without."""
        (self.sys / "parameters").mkdir(parents=True)
        (self.sys / "version").write_text("0.1\n")
        (self.sys / "refcnt").write_text("0\n")
        for key, value in {"mode": "both", "enabled": "1", "warn_secs": "30"}.items():
            (self.sys / "parameters" / key).write_text(f"{value}\n")
        if status is not None:
            self.tell(status)

    def tell(self, status: str) -> None:
        self.status.parent.mkdir(parents=True, exist_ok=True)
        self.status.write_text(status)

    def state(self, state: str) -> None:
        self.tell(f"xen_mtwatch 1\nmodule version=0.1 state={state}\n")

    def parameter(self, key: str) -> str:
        return (self.sys / "parameters" / key).read_text().strip()

    def modprobe(self, does: str) -> None:
        (self.root / "bin/modprobe.does").write_text(does)

    def rmmod(self, does: str) -> None:
        (self.root / "bin/rmmod.does").write_text(does)

    @property
    def calls(self) -> list[str]:
        calls = self.root / "bin/modprobe.calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def dom0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(places, "ROOT", tmp_path)
    there = Host(tmp_path)
    there.proc.mkdir()
    process(there.proc, 2, "kthreadd", parent=0)
    process(there.proc, 57, "xenwatch")
    process(there.proc, 58, "xenbus")
    (places.hypervisor() / "properties").mkdir(parents=True)
    (places.hypervisor() / "type").write_text("xen\n")
    places.backends().parent.mkdir(parents=True)
    places.devices().mkdir()
    places.log().parent.mkdir()
    (tmp_path / "bin").mkdir()
    for program in ("modprobe", "rmmod"):
        (tmp_path / "bin" / program).write_text(_MODPROBE)
        (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setattr(manage, "LOOK_S", 0.01)
    monkeypatch.setattr(manage, "_TO_BEGIN_S", 0.1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("XENSTORED_PATH", str(tmp_path / "no-xenstored"))
    return there


def stall_xenwatch(dom0: Host) -> None:
    (dom0.proc / "57/stat").write_text("57 (xenwatch) D 2 0 0 0 -1 2129984 0 0 0\n")
    switches(dom0.proc, 57, "D", 10)
    (dom0.proc / "57/stack").write_text(STACK)


def stall_a_thread(dom0: Host) -> None:
    process(dom0.proc, 342, "xen-mtwatch-1", state="D")
    switches(dom0.proc, 342, "D", 10)
    (dom0.proc / "342/stack").write_text(STACK)


# --- status --------------------------------------------------------------------------------


def status(capsys: pytest.CaptureFixture[str], output: str = "text") -> tuple[int, str]:
    code = cli.status(StatusOutput(output))
    return code, capsys.readouterr().out


def test_a_stock_kernel_is_exposed(dom0: Host, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = status(capsys)
    assert code == 6
    assert said.startswith("nothing is stuck, but nodes have no effect on this kernel (")


def test_a_stall_on_a_stock_kernel(dom0: Host, capsys: pytest.CaptureFixture[str]) -> None:
    stall_xenwatch(dom0)
    code, said = status(capsys)
    assert code == 3
    assert said.startswith("xenwatch (pid 57) has been blocked in kthread_stop for at least ")
    assert "xenwatch is in kthread_stop < xenvif_disconnect_data < set_backend_state" in said


def test_a_healthy_module(dom0: Host, capsys: pytest.CaptureFixture[str]) -> None:
    dom0.load(STATUS.replace("age_ms=24800", "age_ms=20"))
    code, said = status(capsys)
    assert code == 0
    assert said.startswith("xen_mtwatch 0.1 is on: 2 guests have threads")


def test_a_contained_stall(dom0: Host, capsys: pytest.CaptureFixture[str]) -> None:
    dom0.load()
    stall_a_thread(dom0)
    code, said = status(capsys)
    assert code == 3
    assert said.startswith("xen-mtwatch-1 (pid 342) has been in frontend_changed on ")
    assert "other guests are not affected" in said


def test_a_guest_has_the_name_that_xenstored_tells(
    dom0: Host, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    dom0.load()
    stall_a_thread(dom0)
    server = serve(answers(b"web1", b"db1"))
    monkeypatch.setenv("XENSTORED_PATH", server.path)
    assert manage.look().names == {1: "web1", 2: "db1"}
    assert server.seen[0].payload == b"/local/domain/1/name\0"


def test_a_silent_xenstored_costs_a_moment_and_the_names(
    dom0: Host, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    dom0.load()
    stall_a_thread(dom0)
    monkeypatch.setenv("XENSTORED_PATH", serve(silent).path)
    monkeypatch.setattr(manage, "_NAMES_S", SOON)
    started = time.monotonic()
    assert manage.look().names == {}
    assert time.monotonic() - started < LONG


@pytest.fixture
def spinning(dom0: Host, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that run all the time: one."""
    dom0.load()
    interface_is("down", "vif1.0")
    moment, pids, ticks = time.sleep, {360}, itertools.count(1000, 100_000)
    ran(dom0.proc, 360, "vif1.0-q0-dealloc", "R", next(ticks))

    def sleep(seconds: float) -> None:
        moment(seconds)
        for pid in pids:
            ran(dom0.proc, pid, "vif1.0-q0-dealloc", "R", next(ticks))

    monkeypatch.setattr(time, "sleep", sleep)
    return pids


def test_a_spinning_thread_is_shown(spinning: set[int], capsys: pytest.CaptureFixture[str]) -> None:
    _, said = status(capsys, "json")
    (spinner,) = json.loads(said)["spinning"]
    assert {spinner["pid"]} == spinning
    assert (spinner["domid"], spinner["interface"]) == (1, "vif1.0")


def test_it_is_kept_from_the_cpu(
    spinning: set[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "limit", spinning.difference_update)
    monkeypatch.setattr(deadline, "limit", lambda pids: pytest.fail("there is none to be limited"))
    assert cli.throttle() == 0
    assert cli.throttle() == 0
    told, then = capsys.readouterr().out.splitlines()
    assert told == "vif1.0-q0-dealloc (pid 360) is limited to 1 % of a CPU"
    assert then == "no thread is spinning"


def test_where_control_groups_do_not_limit_it_a_deadline_does(
    spinning: set[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "limit", set)
    monkeypatch.setattr(deadline, "limit", spinning.difference_update)
    assert cli.throttle() == 0
    assert capsys.readouterr().out == "vif1.0-q0-dealloc (pid 360) is limited to 1 % of a CPU\n"


def refuse(_: set[int]) -> None:
    raise XlmtError("no CPU control group is mounted")


def test_where_there_are_no_control_groups_a_deadline_does(
    spinning: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "limit", refuse)
    monkeypatch.setattr(deadline, "limit", spinning.difference_update)
    assert cli.throttle() == 0


@pytest.mark.usefixtures("spinning")
def test_of_two_that_fail_the_control_group_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "limit", refuse)
    monkeypatch.setattr(deadline, "limit", set)
    with pytest.raises(XlmtError, match="no CPU control group"):
        cli.throttle()


@pytest.mark.usefixtures("spinning")
def test_a_kernel_that_does_not_limit_its_threads_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cgroup, "limit", set)
    monkeypatch.setattr(deadline, "limit", set)
    with pytest.raises(XlmtError, match=r"netback thread: Linux .* does not; it ends when"):
        cli.throttle()


def test_without_proc_nobody_knows_what_spins(dom0: Host) -> None:
    (dom0.proc / "2/stat").unlink()
    with pytest.raises(XlmtError, match="cannot tell: "):
        cli.throttle()


def test_without_debugfs_threads_are_judged_by_proc_and_it_is_said_what_is_missing(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    dom0.load(status=None)
    stall_a_thread(dom0)
    code, said = status(capsys, "json")
    document = json.loads(said)
    assert code == 3
    assert document["verdict"] == "contained"
    assert document["module"]["version"] == "0.1"
    assert document["module"]["mode"] == "both"
    assert document["problems"] == [
        f"debugfs is not mounted: mount -t debugfs none {places.debugfs()}"
    ]


def test_another_format_is_said_and_the_rest_is_shown(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    dom0.load("xen_mtwatch 2\n")
    code, said = status(capsys, "json")
    assert code == 0
    assert "update xlmt" in json.loads(said)["problems"][0]


def test_a_module_that_is_off_is_exposed(dom0: Host, capsys: pytest.CaptureFixture[str]) -> None:
    dom0.load()
    dom0.state("off")
    assert status(capsys)[0] == 6


def test_a_patched_kernel_is_told_by_its_threads(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    process(dom0.proc, 342, "xen-mtwatch-1")
    code, said = status(capsys, "json")
    assert (code, json.loads(said)["kernel"]["mtwatch"]) == (0, "builtin")


def test_a_patched_kernel_is_told_by_its_symbols(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    (dom0.proc / "kallsyms").write_text("0000000000000000 t mtwatch_thread\n")
    assert status(capsys)[0] == 0
    (places.devices() / "vif-1-0").mkdir()  # and yet no thread
    assert status(capsys)[0] == 6


def test_a_crashed_xenbus_is_out_of_order(dom0: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """xenwatch looks idle for ever then."""
    shutil.rmtree(dom0.proc / "58")
    code, said = status(capsys)
    assert code == 3
    assert said.startswith("xenbus has crashed")


def test_a_crashed_xenwatch_is_out_of_order(dom0: Host, capsys: pytest.CaptureFixture[str]) -> None:
    (dom0.proc / "57/stat").unlink()
    code, said = status(capsys)
    assert code == 3
    assert said.startswith("xenwatch has crashed")


def test_without_xen_there_is_nothing_to_say(dom0: Host) -> None:
    (dom0.proc / "57/stat").unlink()
    (places.hypervisor() / "type").write_text("kvm\n")
    with pytest.raises(NoXenError, match="no Xen here"):
        manage.look()


@pytest.mark.parametrize(
    ("features", "guest"), [("00002705", True), ("00002f05", False), ("", False)]
)
def test_what_is_not_domain_0_is_not_told_to_load_the_module(
    dom0: Host, capsys: pytest.CaptureFixture[str], features: str, guest: bool
) -> None:
    (places.hypervisor() / "properties/features").write_text(f"{features}\n")
    code, said = status(capsys)
    assert code == 6
    assert ("this is not domain 0" in said) is guest
    assert ("xlmt kernel load" in said) is not guest


def test_where_kernel_threads_are_hidden_nothing_is_known(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    (dom0.proc / "2/stat").unlink()
    code, said = status(capsys)
    assert code == 1
    assert said.startswith("cannot tell: ")


# --- list ----------------------------------------------------------------------------------


def test_list_has_what_a_thread_does(dom0: Host) -> None:
    dom0.load()
    process(dom0.proc, 342, "xen-mtwatch-1")
    doing = observe._threads()[1].doing
    assert doing
    assert (doing.callback, doing.age_s, doing.depth) == ("frontend_changed", 24.8, 6)


@pytest.mark.parametrize("text", [None, "xen_mtwatch 2\n"])
def test_list_does_without_the_module_s_word(dom0: Host, text: str | None) -> None:
    dom0.load(text)
    process(dom0.proc, 342, "xen-mtwatch-1")
    assert observe._threads()[1].doing is None


# --- load ----------------------------------------------------------------------------------


def loads(dom0: Host, then: str = "") -> str:
    """What modprobe does when all is well: the module is there, and has begun."""
    ready = dom0.root / "ready"
    Host(ready).load()
    return f"cp -r {ready}/sys {dom0.root}/\n{then}"


def test_a_load_goes_to_modprobe_with_its_parameters(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    dom0.modprobe(loads(dom0))
    assert cli.load(["mode=node", "warn_secs=5"]) == 0
    assert dom0.calls == ["C --first-time xen_mtwatch mode=node warn_secs=5"]
    assert capsys.readouterr().out == "xen_mtwatch 0.1 is on\n"


def test_a_load_tells_the_module_of_more_nodes_than_it_can_list(
    dom0: Host, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modprobe, "_REPLY_BYTES", 10)
    names = b"".join(b"%d\0" % domid for domid in [*range(1, 10), 13])
    monkeypatch.setenv("XENSTORED_PATH", serve(answers(names)).path)
    dom0.modprobe(loads(dom0))
    assert cli.load(["mode=node"]) == 0
    assert dom0.calls == ["C --first-time xen_mtwatch mode=node domids=1-9,13"]


def test_a_load_does_not_wait_for_a_xenstored_that_is_silent(
    dom0: Host, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manage, "_NAMES_S", SOON)
    monkeypatch.setenv("XENSTORED_PATH", serve(silent).path)
    dom0.modprobe(loads(dom0))
    assert cli.load([]) == 0
    assert dom0.calls == ["C --first-time xen_mtwatch"]


def test_a_load_into_a_stall_says_what_will_work(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    stall_xenwatch(dom0)
    dom0.modprobe(loads(dom0))
    assert cli.load([]) == 0
    said = capsys.readouterr().out
    assert said.startswith("xen_mtwatch 0.1 is on\nxenwatch is stuck: new guests work now")


def test_a_wrong_parameter_reaches_nobody(dom0: Host) -> None:
    with pytest.raises(UsageError):
        cli.load(["mood=node"])
    assert dom0.calls == []


def test_only_root_can_load(dom0: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(XlmtError, match="only root can"):
        cli.load([])
    assert dom0.calls == []


def test_a_refusal_has_the_kernel_s_word(dom0: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is a FIFO here: as /dev/kmsg it gives what comes, and says when there is no more."""
    log = places.log()
    os.mkfifo(log)
    writer = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    monkeypatch.setattr(os, "lseek", lambda *_: 0)
    dom0.modprobe(
        f"echo '3,1,2,-;xen_mtwatch: ftrace is disabled' >{log}\n"
        "echo \"modprobe: ERROR: could not insert 'xen_mtwatch': Device or resource busy\" >&2\n"
        "exit 1\n"
    )
    try:
        with pytest.raises(XlmtError, match=r'live patch.*the kernel says: "ftrace is disabled"'):
            cli.load([])
    finally:
        os.close(writer)


def test_without_a_log_the_reason_is_still_told(dom0: Host) -> None:
    dom0.modprobe("echo 'modprobe: FATAL: Module xen_mtwatch not found in directory x' >&2; exit 1")
    with pytest.raises(XlmtError, match="it is not built for this kernel"):
        cli.load([])


def test_somebody_else_who_was_faster_is_no_refusal(dom0: Host) -> None:
    dom0.modprobe(loads(dom0, "echo 'modprobe: ERROR: Module already in kernel' >&2; exit 1"))
    assert cli.load([]) == 0


def test_a_module_that_is_there_already_is_no_error(
    dom0: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dom0.load()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.load([]) == 0
    assert capsys.readouterr().out.startswith(
        "xen_mtwatch was loaded already\nxen_mtwatch 0.1 is on\n"
    )
    assert dom0.calls == []


def test_parameters_are_set_of_a_module_that_is_there(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    dom0.load()
    assert cli.load(["mode=auto", "warn_secs=5"]) == 0
    assert capsys.readouterr().out.startswith(
        "xen_mtwatch was loaded already; now: mode=auto warn_secs=5\n"
    )
    assert dom0.parameter("mode") == "auto"
    assert dom0.calls == []


def test_a_parameter_that_cannot_be_set_is_named(dom0: Host) -> None:
    dom0.load()
    (dom0.sys / "parameters/mode").unlink()
    (dom0.sys / "parameters/mode").mkdir()
    with pytest.raises(XlmtError, match="cannot set mode=auto of xen_mtwatch: Is a directory"):
        cli.load(["mode=auto"])


def test_a_modprobe_that_waits_for_a_tracer_says_so(
    dom0: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MODPROBE_S", 0.3)
    monkeypatch.setattr(module, "_stack", lambda _: "[<0>] ftrace_process_locs+0x5c/0x4a0\n")
    dom0.modprobe("exec sleep 60 2>/dev/null")
    with pytest.raises(TimedOutError, match=r"ftrace is locked: .* xlmt doctor says by whom"):
        cli.load([])


def test_a_modprobe_that_hangs_is_left_behind(dom0: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MODPROBE_S", 0.3)
    dom0.modprobe('echo $$ >"$0.pid"; exec sleep 60 2>/dev/null')
    started = time.monotonic()
    with pytest.raises(TimedOutError, match=r"has not finished within 0 s.*cat /proc/\d+/stack"):
        cli.load([])
    assert time.monotonic() - started < 30
    pid = int((dom0.root / "bin/modprobe.pid").read_text())
    with suppress(ChildProcessError):  # whoever starts a child next may reap this one, too
        os.waitpid(pid, 0)  # it was killed, or this would hang


# --- unload --------------------------------------------------------------------------------


def at_each_sleep(monkeypatch: pytest.MonkeyPatch, *steps: object) -> None:
    """Let the module do one thing each time that it is waited for."""
    waiting = iter(steps)

    def sleep(_seconds: float) -> None:
        step = next(waiting, None)
        if callable(step):
            step()

    monkeypatch.setattr(time, "sleep", sleep)


def test_an_unload_waits_for_the_module_to_let_go(
    dom0: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dom0.load()
    dom0.modprobe(f"rm -r {dom0.sys}")
    (dom0.sys / "refcnt").write_text("1\n")
    at_each_sleep(
        monkeypatch,
        lambda: dom0.state("draining"),
        lambda: dom0.state("off"),  # the last thread has not quite ended
        lambda: (dom0.sys / "refcnt").write_text("0\n"),
    )
    assert cli.unload(30.0) == 0
    assert dom0.calls == ["C -r xen_mtwatch"]
    assert capsys.readouterr().out.startswith("xen_mtwatch is unloaded: xenwatch handles all")


def test_a_module_that_still_waits_for_xenstored_can_go(dom0: Host) -> None:
    dom0.load()
    dom0.state("waiting")
    (dom0.sys / "refcnt").write_text("0\n")
    dom0.modprobe(f"rm -r {dom0.sys}")
    assert cli.unload(0.05) == 0


def test_a_stuck_thread_keeps_the_module_which_is_switched_on_again(dom0: Host) -> None:
    dom0.load()
    stall_a_thread(dom0)
    with pytest.raises(
        RefusedError, match=r"^xen_mtwatch stays.*xen-mtwatch-1 .* domain 1 .*24.8 s"
    ):
        cli.unload(0.05)
    assert dom0.parameter("enabled") == "1"
    assert dom0.calls == []


def test_a_module_that_is_leaving_is_not_called_back(dom0: Host) -> None:
    dom0.load()
    dom0.state("leaving")
    with pytest.raises(RefusedError, match="is being unloaded, but not done"):
        cli.unload(0.05)
    assert dom0.parameter("enabled") == "0"


def test_a_module_that_was_off_is_not_switched_on(dom0: Host) -> None:
    dom0.load()
    (dom0.sys / "parameters/enabled").write_text("0\n")
    with pytest.raises(RefusedError):
        cli.unload(0.05)
    assert dom0.parameter("enabled") == "0"


def test_ctrl_c_leaves_the_module_on(dom0: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    dom0.load()
    at_each_sleep(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        cli.unload(30.0)
    assert dom0.parameter("enabled") == "1"


def test_a_module_that_modprobe_cannot_remove_is_switched_on_again(dom0: Host) -> None:
    dom0.load()
    dom0.state("off")
    dom0.modprobe("echo 'modprobe: FATAL: Module xen_mtwatch is in use.' >&2; exit 1")
    with pytest.raises(XlmtError, match=r"cannot unload xen_mtwatch: FATAL: .* is in use"):
        cli.unload(30.0)
    assert dom0.parameter("enabled") == "1"


def test_a_module_whose_file_is_gone_is_unloaded(dom0: Host) -> None:
    dom0.load()
    dom0.state("off")
    dom0.modprobe("echo 'modprobe: FATAL: Module xen_mtwatch not found.' >&2; exit 1")
    dom0.rmmod(f"rm -r {dom0.sys}")
    assert cli.unload(30.0) == 0
    assert (dom0.root / "bin/rmmod.calls").read_text() == "C xen_mtwatch\n"


def test_a_module_whose_file_is_gone_and_that_stays_is_switched_on_again(dom0: Host) -> None:
    dom0.load()
    dom0.state("off")
    dom0.modprobe("echo 'modprobe: FATAL: Module xen_mtwatch not found.' >&2; exit 1")
    dom0.rmmod("echo 'rmmod: ERROR: Module xen_mtwatch is in use' >&2; exit 1")
    with pytest.raises(XlmtError, match=r"cannot unload xen_mtwatch: ERROR: .* is in use"):
        cli.unload(30.0)
    assert dom0.parameter("enabled") == "1"


def test_a_removal_without_an_end_is_not_called_back(
    dom0: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    dom0.load()
    dom0.state("off")
    monkeypatch.setattr(module, "_MODPROBE_S", 0.3)
    dom0.modprobe("exec sleep 60 2>/dev/null")
    with pytest.raises(TimedOutError, match="modprobe -r xen_mtwatch has not finished"):
        cli.unload(30.0)
    assert dom0.parameter("enabled") == "0"


def test_without_its_status_the_module_is_not_touched(dom0: Host) -> None:
    dom0.load(status=None)
    with pytest.raises(XlmtError, match="debugfs is not mounted"):
        cli.unload(30.0)
    assert dom0.parameter("enabled") == "1"


def test_a_module_that_is_being_loaded_has_no_status_yet(
    dom0: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    dom0.load(status=None)
    (dom0.sys / "initstate").write_text("coming\n")
    monkeypatch.setattr(os.path, "ismount", lambda _: True)
    with pytest.raises(XlmtError, match="still being loaded; try again"):
        cli.unload(timeout=1)


def test_without_the_module_there_is_nothing_to_unload(
    dom0: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.unload(30.0) == 0
    assert re.fullmatch("xen_mtwatch was not loaded\n", capsys.readouterr().out)


def test_only_root_can_unload(dom0: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    dom0.load()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(XlmtError, match="only root can"):
        cli.unload(30.0)
