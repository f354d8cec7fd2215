# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read from sysfs and proc, from trees of files that look like them."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.kernel import places
from xlmt.kernel import proc as kernel_proc
from xlmt.kernel.status import WORKER
from xlmt.model import Spinner, Thread

REST = "0 0 0 0 -1 2129984 0 0 0\n"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Below which the kernel shows what there is; nothing, before the test makes it."""
    monkeypatch.setattr(places, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def bus() -> Path:
    """What the kernel's bus of backends lists. There is no such bus before the test makes it."""
    places.backends().parents[1].mkdir(parents=True)
    return places.backends()


@pytest.fixture
def devices(bus: Path) -> Path:
    """All devices without a parent, of whatever bus."""
    places.devices().mkdir()
    return places.devices()


def device(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)


@pytest.fixture
def proc() -> Path:
    path = places.processes()
    path.mkdir()
    (path / "self").mkdir()
    (path / "meminfo").write_text("MemTotal: 1 kB\n")
    return path


def interface_is(state: str, name: str) -> None:
    folder = places.interfaces() / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "operstate").write_text(f"{state}\n")


def process(proc: Path, pid: int, name: str, *, state: str = "S", parent: int = 2) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {state} {parent} {REST}")


# --- backends ------------------------------------------------------------------------------


def test_a_kernel_without_the_bus_holds_nothing(bus: Path, devices: Path) -> None:
    assert not bus.parent.exists()
    assert devices.exists()
    assert kernel_proc.backends() == {}


def test_devices_are_told_apart_by_their_domid(devices: Path) -> None:
    device(devices, "vif-1-1", "vbd-1-51712", "vif-1-0", "vif-11-0", "vfb-32751-0", "9pfs-2-0")
    assert kernel_proc.backends() == {
        1: ("vbd-1-51712", "vif-1-0", "vif-1-1"),
        2: ("9pfs-2-0",),
        11: ("vif-11-0",),
        32751: ("vfb-32751-0",),
    }


def test_a_device_that_is_off_its_bus_is_held(bus: Path, devices: Path) -> None:
    """As while its driver's remove() runs."""
    device(bus, "vif-1-0")
    device(devices, "vif-1-0", "vbd-1-51712")
    assert kernel_proc.backends() == {1: ("vbd-1-51712", "vif-1-0")}


def test_a_device_that_is_elsewhere_than_its_bus_says_is_held(bus: Path, devices: Path) -> None:
    device(bus, "vif-1-0")
    assert not list(devices.iterdir())
    assert kernel_proc.backends() == {1: ("vif-1-0",)}


def test_a_type_with_a_hyphen_does_not_shift_the_domid(devices: Path) -> None:
    device(devices, "virtio-device-3-0")
    assert kernel_proc.backends() == {3: ("virtio-device-3-0",)}


@pytest.mark.parametrize("place", ["bus", "devices"])
def test_what_is_no_device_s_name_is_left_out(
    place: str, devices: Path, request: pytest.FixtureRequest
) -> None:
    device(request.getfixturevalue(place), "README", "vif-x-0", "vif-1", "-1-0", "vif-1-")
    assert kernel_proc.backends() == {}


def test_what_else_sysfs_has_at_its_top_is_no_backend(devices: Path) -> None:
    """Frontends, too, which have no domid in their names."""
    device(devices, "vbd-51712", "vif-0", "LNXSYSTM:00", "pci0000:00", "pnp0", "uncore_imc_0")
    device(devices, "arm_cmn_0", "cs_etm", "system", "virtual", "platform", "amd_iommu_0")
    assert kernel_proc.backends() == {}


@pytest.mark.parametrize("place", ["bus", "devices"])
def test_a_place_that_cannot_be_read_is_an_error_and_not_empty(
    place: str, devices: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(place)
    if place == "bus":
        folder.parent.mkdir()
    else:
        folder.rmdir()
    folder.write_text("not a directory")
    with pytest.raises(OSError, match="Not a directory"):
        kernel_proc.backends()


@pytest.mark.parametrize("place", ["bus", "devices"])
def test_without_sysfs_it_is_an_error(
    place: str, bus: Path, devices: Path, request: pytest.FixtureRequest
) -> None:
    (bus.parents[1] if place == "bus" else devices).rmdir()
    with pytest.raises(FileNotFoundError):
        kernel_proc.backends()


# --- threads -------------------------------------------------------------------------------


def test_threads_are_found_by_the_domid_in_their_name(proc: Path) -> None:
    process(proc, 2, "kthreadd", parent=0)
    process(proc, 812, "xen-mtwatch-1")
    process(proc, 830, "xen-mtwatch-42", state="D")
    assert kernel_proc.mtwatch_threads() == {
        1: Thread("xen-mtwatch-1", 812, "S"),
        42: Thread("xen-mtwatch-42", 830, "D"),
    }


def switches(proc: Path, pid: int, state: str, voluntary: int, forced: int = 3) -> None:
    (proc / str(pid) / "status").write_text(
        f"Name:\tx\nState:\t{state} (whatever)\n"
        f"voluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{forced}\n"
    )


@pytest.mark.parametrize(
    ("later", "stalled"),
    [
        (("D", 10, 3), True),
        (("D", 11, 3), False),  # it ran in between
        (("D", 10, 4), False),
        (("S", 10, 3), False),
        (None, False),  # it ended
    ],
)
def test_a_thread_is_stalled_that_is_blocked_and_does_not_run(
    proc: Path,
    monkeypatch: pytest.MonkeyPatch,
    later: tuple[str, int, int] | None,
    stalled: bool,
) -> None:
    process(proc, 830, "xen-mtwatch-42", state="D")
    process(proc, 831, "xen-mtwatch-43")
    switches(proc, 830, "D", 10)

    def in_the_meantime(_seconds: float) -> None:
        if later:
            switches(proc, 830, *later)
        else:
            (proc / "830" / "status").unlink()

    monkeypatch.setattr(time, "sleep", in_the_meantime)
    monkeypatch.setattr(time, "monotonic", iter([100.0, 100.25]).__next__)
    threads = kernel_proc.mtwatch_threads()
    assert threads[42].stalled_s == (0.25 if stalled else 0.0)
    assert threads[43].stalled_s == 0.0


def test_nobody_waits_where_no_thread_is_blocked(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(proc, 831, "xen-mtwatch-43")
    monkeypatch.setattr(time, "sleep", None)  # calling it would fail
    assert set(kernel_proc.mtwatch_threads()) == {43}


@pytest.mark.parametrize(
    "name", ["xenwatch", "xen-mtwatch", "xen-mtwatch-", "xen-mtwatch-x", "oxen-mtwatch-1"]
)
def test_other_kernel_threads_are_not_ours(proc: Path, name: str) -> None:
    process(proc, 812, name)
    assert kernel_proc.mtwatch_threads() == {}


def test_a_program_that_takes_the_name_is_no_kernel_thread(proc: Path) -> None:
    process(proc, 812, "xen-mtwatch-1", parent=1)
    assert kernel_proc.mtwatch_threads() == {}


def test_a_long_name_that_a_kernel_shows_in_full_is_taken(proc: Path) -> None:
    process(proc, 812, "xen-mtwatch-32751")
    assert set(kernel_proc.mtwatch_threads()) == {32751}


def test_a_process_that_ends_meanwhile_is_passed_over(proc: Path) -> None:
    (proc / "7").mkdir()
    process(proc, 812, "xen-mtwatch-1")
    assert set(kernel_proc.mtwatch_threads()) == {1}


# --- watchers ------------------------------------------------------------------------------


def ran(proc: Path, pid: int, name: str, state: str, ticks: int, slept: int = 7) -> None:
    fields = f"2 0 0 0 -1 2129984 0 0 0 0 {ticks // 2} {ticks - ticks // 2} 0 0 20 0 1 0 9\n"
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {state} {fields}")
    switches(proc, pid, state, slept, ticks)


@pytest.fixture
def threads(proc: Path) -> Path:
    process(proc, 2, "kthreadd", parent=0)
    process(proc, 57, "xenwatch")
    process(proc, 350, "xen-mtwatch-2")
    process(proc, 351, "kworker/0:1-xen")
    return proc


def test_xenwatch_and_its_relatives_are_watched(threads: Path) -> None:
    process(threads, 352, "xen-mtwatch-x")
    found, spinners = kernel_proc.watchers(0.0, 0.0)
    assert {t.name for t in found} == {"xenwatch", "xen-mtwatch-2", "xen-mtwatch-x"}
    assert spinners == ()


def test_a_xenwatch_that_stands_still_is_seen(
    threads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(threads, 58, "xen-mtwatch-3", state="D")
    switches(threads, 58, "D", 10)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(time, "monotonic", iter([100.0, 100.5, 100.5, 105.5]).__next__)
    found, _ = kernel_proc.watchers(0.5, 5.0)
    assert {t.name: t.stalled_s for t in found}["xen-mtwatch-3"] == 5.0


def test_where_the_kernel_tells_since_when_one_look_is_enough(threads: Path) -> None:
    process(threads, 58, "xen-mtwatch-3", state="D")
    switches(threads, 58, "D", 10)
    stat = f"58 (xen-mtwatch-3) D 2 {'0 ' * 48}\n"
    (threads / "58/stat").write_text(stat)
    (threads / "58/sched").write_text("se.exec_start : 1000.0\n")
    (threads / "self/sched").write_text("se.exec_start : 61000.0\n")
    found, _ = kernel_proc.watchers(0.01, 60.0)
    assert {t.name: t.stalled_s for t in found}["xen-mtwatch-3"] == 60.0


@pytest.mark.parametrize("name", ["xenbus", "1.xvda-0", "xenwatch", "vif1.0-q0-dealloc"])
def test_a_process_that_calls_itself_like_a_thread_of_the_kernel_is_none(
    threads: Path, name: str
) -> None:
    process(threads, 406, name, state="D", parent=1)
    (threads / "406/status").write_text("State:\tD (x)\nvoluntary_ctxt_switches:\t7\n")
    assert kernel_proc.blocked(0.01) == ()


@pytest.mark.parametrize(
    ("name", "interface", "domid"),
    [
        ("vif1.0-q0-dealloc", "vif1.0", 1),
        ("vif100.0-q0-dea", "vif100.0", 100),  # cut, as before Linux 5.17
        ("vif12.3-emu-q1-dealloc", "vif12.3-emu", 12),
        ("guest-eth-q0-dealloc", "guest-eth", None),  # renamed
    ],
)
def test_what_spins_in_netback_is_seen(
    threads: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    interface: str,
    domid: int | None,
) -> None:
    interface_is("down", interface)
    ran(threads, 360, name, "R", 1000)
    monkeypatch.setattr(time, "sleep", lambda _s: ran(threads, 360, name, "R", 1049))
    monkeypatch.setattr(time, "monotonic", iter([100.0, 100.5] * 2).__next__)
    monkeypatch.setattr("os.sysconf", lambda _name: 100)
    _, spinners = kernel_proc.watchers(0.5, 0.0)
    assert spinners == (Spinner(name, 360, interface, domid, 0.98),)
    ran(threads, 360, name, "R", 1000)
    interface_is("up", interface)
    assert kernel_proc.watchers(0.5, 0.0)[1] == ()  # it is busy for its guest


def test_a_spinning_interface_with_a_name_of_its_own_is_known_by_its_device(
    threads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interface_is("down", "web")
    (places.interfaces() / "web/device").symlink_to("../../../devices/vif-5-0")
    ran(threads, 360, "web-q0-dealloc", "R", 1000)
    monkeypatch.setattr(time, "sleep", lambda _s: ran(threads, 360, "web-q0-dealloc", "R", 1049))
    monkeypatch.setattr(time, "monotonic", iter([100.0, 100.5]).__next__)
    (spinner,) = kernel_proc.watchers(0.5, 0.0)[1]
    assert spinner.domid == 5


@pytest.mark.parametrize(
    ("later", "slept"),
    [
        (1000, 7),
        (1002, 7),  # throttled
        (1040, 8),
    ],
)
def test_what_only_works_does_not_spin(
    threads: Path, monkeypatch: pytest.MonkeyPatch, later: int, slept: int
) -> None:
    interface_is("down", "vif1.0")
    ran(threads, 360, "vif1.0-q0-dealloc", "R", 1000)
    ran(threads, 361, "vif1.0-q0-guest-rx", "R", 1000)
    monkeypatch.setattr(time, "sleep", lambda _s: ran(threads, 360, "x", "R", later, slept))
    monkeypatch.setattr(time, "monotonic", iter([100.0, 100.5]).__next__)
    monkeypatch.setattr("os.sysconf", lambda _name: 100)
    assert kernel_proc.watchers(0.5, 0.0)[1] == ()


def test_in_peace_there_is_no_second_look(threads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(threads, 360, "vif1.0-q0-dealloc", "S", 1000)
    monkeypatch.setattr(time, "sleep", None)
    assert kernel_proc.watchers(0.5, 0.0)[1] == ()


def test_where_kernel_threads_are_hidden_it_is_an_error_and_not_none(proc: Path) -> None:
    """As in a container, or with hidepid= for who is not root."""
    hidden = "does not show the threads of the kernel"
    with pytest.raises(FileNotFoundError, match=hidden):
        kernel_proc.watchers(0.0, 0.0)
    process(proc, 2, "bash", parent=1)
    with pytest.raises(FileNotFoundError, match=hidden):
        kernel_proc.watchers(0.0, 0.0)


# --- places --------------------------------------------------------------------------------

STACK = """\
[<0>] kthread_stop+0x5f/0x170
[<0>] xenvif_disconnect_data+0x62/0x1d0 [xen_netback]
[<ffffffffc0123456>] set_backend_state.part.0+0x2b2/0x5c0 [xen_netback]
[<0>] ret_from_fork+0x1f/0x30
"""


def test_where_a_thread_is_comes_from_its_stack(proc: Path) -> None:
    process(proc, 342, "xen-mtwatch-1")
    (proc / "342" / "stack").write_text(STACK)
    assert kernel_proc.frames(342) == (
        "kthread_stop",
        "xenvif_disconnect_data",
        "set_backend_state.part.0",
        "ret_from_fork",
    )


@pytest.mark.parametrize(
    ("wchan", "found"), [("kthread_stop", ("kthread_stop",)), ("0", ()), ("", ())]
)
def test_without_its_stack_there_may_be_wchan(
    proc: Path, wchan: str, found: tuple[str, ...]
) -> None:
    process(proc, 342, "xen-mtwatch-1")
    (proc / "342" / "wchan").write_text(wchan)
    assert kernel_proc.frames(342) == found


def test_a_thread_that_has_ended_is_nowhere(proc: Path) -> None:
    assert kernel_proc.frames(342) == ()


@pytest.mark.parametrize(
    ("symbols", "has"),
    [
        ("0000000000000000 t mtwatch_thread\n", True),
        ("0000000000000000 t mtwatch_process.isra.0\n", True),
        ("ffffffff81a0 T xenwatch_thread\nffffffff81a1 d mtwatch_lock\n", True),
        ("0000000000000000 t mtwatch_queue\t[xen_mtwatch]\n", False),
        ("0000000000000000 t xen_mtwatch_thread\n0000000000000000 t smtwatch_x\n", False),
        ("", False),
    ],
)
def test_a_patched_kernel_is_known_by_its_symbols(proc: Path, symbols: str, has: bool) -> None:
    (proc / "kallsyms").write_text(symbols)
    assert kernel_proc.has_patch() is has


def test_without_symbols_a_kernel_is_not_patched(proc: Path) -> None:
    assert not kernel_proc.has_patch()


# --- stat ----------------------------------------------------------------------------------


def test_a_kernel_thread_is_a_child_of_kthreadd() -> None:
    assert kernel_proc.parse_stat(f"30 (xenwatch) D 2 {REST}") == Thread("xenwatch", 30, "D")


@pytest.mark.parametrize("parent", [0, 1, 20, 22, 812])
def test_a_child_of_another_is_none(parent: int) -> None:
    assert kernel_proc.parse_stat(f"30 (xenwatch) S {parent} {REST}") is None


@pytest.mark.parametrize("line", ["", "30", "30 (x", "30 (x) S", "x (y) S 2 0", "30 x S 2 0"])
def test_half_a_line_is_none(line: str) -> None:
    assert kernel_proc.parse_stat(line) is None


@given(
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=15),
    st.integers(1, 4194304),
    st.sampled_from("SDRTtZXI"),
)
def test_any_name_is_read_to_its_last_bracket(name: str, pid: int, state: str) -> None:
    assert kernel_proc.parse_stat(f"{pid} ({name}) {state} 2 {REST}") == Thread(name, pid, state)


def test_a_name_that_looks_like_the_end_of_the_name_fools_nobody() -> None:
    assert kernel_proc.parse_stat(f"30 (x) S 2 () R 1 {REST}") is None


@pytest.mark.parametrize(
    ("name", "domid"),
    [
        ("1.xvda-0", 1),
        ("62.d0p1-3", 62),
        ("vif1.0-q0-guest", 1),  # cut, as kernels before 5.17 do
        ("vif12.3-q0-dealloc", 12),
        *(
            (other, None)
            for other in ("xenwatch", "xen-mtwatch-1", "kworker/0:1-xen", "md5_raid10")
        ),
    ],
)
def test_a_backends_worker_is_named_after_its_guest(name: str, domid: int | None) -> None:
    match = WORKER.fullmatch(name)
    assert (int(match["domid"]) if match else None) == domid


def test_whoever_stands_still_is_blocked_but_the_watchers(threads: Path) -> None:
    """Those are looked at apart: the module may know better."""
    for pid, name, state in (
        (400, "1.xvda-0", "D"),
        (401, "vif2.0-q0-guest-rx", "D"),
        (402, "3.xvda-0", "S"),
        (403, "xenbus", "D"),
        (404, "jbd2/sda1-8", "D"),
        (405, "xen-mtwatch-1", "D"),
    ):
        process(threads, pid, name, state=state)
        (threads / str(pid) / "status").write_text(
            f"Name:\t{name}\nState:\t{state} (x)\nvoluntary_ctxt_switches:\t7\n"
        )
    process(threads, 406, "xl", state="D", parent=1)
    (threads / "406/status").write_text("State:\tD (x)\nvoluntary_ctxt_switches:\t7\n")
    blocked = kernel_proc.blocked(0.01)
    assert {thread.pid for thread in blocked} == {400, 401, 403, 404, 406}


def test_how_long_a_task_has_not_run_is_told_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ROOT", Path("/"))
    try:
        kernel_proc.blocked_s(os.getpid())
    except (OSError, ValueError) as lack:
        pytest.skip(f"this kernel does not tell when a task last ran: {lack}")
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        time.sleep(0.5)
        first = kernel_proc.blocked_s(sleeper.pid)
        time.sleep(0.5)
        second = kernel_proc.blocked_s(sleeper.pid)
        sleeper.kill()
    assert 0 < first < second


@pytest.mark.parametrize("told", ["", "se.exec_start : 1.5\n"])
def test_a_kernel_that_does_not_tell_is_an_error(threads: Path, told: str) -> None:
    process(threads, 400, "1.xvda-0", state="D")
    (threads / "400/sched").write_text(told)
    with pytest.raises((OSError, ValueError)):
        kernel_proc.blocked_s(400)
