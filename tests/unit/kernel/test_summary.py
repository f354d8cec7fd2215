# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an administrator gets to read of a host in trouble."""

import json
import re

import pytest

from tests.unit.kernel.test_status import STATUS
from xlmt.kernel import render, summary
from xlmt.kernel import status as mtwatch
from xlmt.kernel.diagnose import Half, View
from xlmt.kernel.status import Module, Share, Status, Xenwatch
from xlmt.model import Doing, Spinner, Thread

STATE = "/local/domain/1/device/vif/0/state"
XENWATCH = Thread("xenwatch", 57, "S")
DOWN = XENWATCH._replace(state="D", stalled_s=5.5)
STUCK = Thread("xen-mtwatch-1", 342, "D", stalled_s=5.5)
BARE = View(release="6.1.0-56-amd64", threads=(XENWATCH,))
CONTAINED = View(
    release="6.1.0-56-amd64",
    half=Half.MODULE,
    version="0.1",
    parameters={"mode": "both", "enabled": "1"},
    status=mtwatch.parse(STATUS),
    threads=(XENWATCH, STUCK),
    spinners=(Spinner("vif1.0-q0-dealloc", 360, "vif1.0", 1, 0.98),),
    names={1: "web1"},
    frames={342: ("kthread_stop", "xenvif_disconnect_data", "set_backend_state")},
)


def in_state(state: str) -> View:
    return CONTAINED._replace(status=Status(Module("0.1", state)), threads=(XENWATCH,))


# --- the first line ------------------------------------------------------------------------


def test_a_stuck_thread_is_told_with_its_guest_its_place_and_who_does_not_suffer() -> None:
    assert summary.headline(CONTAINED) == (
        f"xen-mtwatch-1 (web1, pid 342) has been in frontend_changed on {STATE} for 24.8 s, "
        "6 events behind it; other guests are not affected"
    )


def test_without_xenstored_it_is_told_without_the_name() -> None:
    assert summary.headline(CONTAINED._replace(names={})).startswith("xen-mtwatch-1 (pid 342) ")


def test_without_debugfs_it_is_told_from_proc() -> None:
    assert summary.headline(CONTAINED._replace(status=None)) == (
        "xen-mtwatch-1 (web1, pid 342) has been blocked in kthread_stop for at least 5.5 s; "
        "other guests are not affected"
    )


def of_no_guest(name: str, domid: int | None) -> View:
    """A host on which the thread of a guest is well and another one is stuck."""
    doing = Doing("watch_fired", "p", 7.0, 3)
    shares = (Share(1, 342, "up"), Share(domid, 9, "up", depth=3, doing=doing))
    threads = (XENWATCH, Thread("xen-mtwatch-1", 342, "S"), Thread(name, 9, "D", stalled_s=7.0))
    status = Status(Module("0.1", "on"), domains=shares)
    return CONTAINED._replace(status=status, threads=threads, spinners=())


@pytest.mark.parametrize(
    ("name", "domid", "affected", "column", "serves"),
    [
        (
            "xen-mtwatch-users",
            None,
            "programs that watch by /dev/xen/xenbus wait, guests do not",
            "programs",
            "programs",
        ),
        (
            "xen-mtwatch-0",
            0,
            "guests whose bootloader needs a disk in domain 0 wait, others do not",
            "domain 0",
            "domain-0",
        ),
    ],
)
def test_a_thread_that_is_no_guest_s_is_not_told_as_one(
    name: str, domid: int | None, affected: str, column: str, serves: str
) -> None:
    view = of_no_guest(name, domid)
    assert summary.headline(view) == (
        f"{name} (pid 9) has been in watch_fired on p for 7.0 s, 3 events behind it; {affected}"
    )
    assert re.search(rf"^{name} +{column} +9 +D +3 ", render.status_text(view), re.MULTILINE)
    told = {t["name"]: t for t in json.loads(render.status_json(view))["threads"]}
    assert (told[name]["serves"], told[name]["domid"]) == (serves, domid)
    assert told["xen-mtwatch-1"]["serves"] == "guest"


def test_what_each_stuck_thread_means_is_said_once() -> None:
    view = of_no_guest("xen-mtwatch-users", None)
    threads = view.threads or ()
    view = view._replace(status=None, threads=(*threads, STUCK._replace(pid=343)))
    said = summary.headline(view)
    assert said.count("guests are not affected") == said.count("programs that watch") == 1


def test_only_guests_are_counted_on_a_host_that_is_well() -> None:
    shares = (Share(1, 342), Share(0, 8), Share(None, 9))
    threads = tuple(
        Thread(f"xen-mtwatch-{who}", pid, "S") for who, pid in (("1", 342), ("0", 8), ("users", 9))
    )
    view = CONTAINED._replace(
        status=Status(Module("0.1", "on"), domains=shares), threads=(XENWATCH, *threads)
    )
    assert "one guest has a thread of its own" in summary.headline(view)


def test_who_waits_for_xenwatch_s_older_events_is_named() -> None:
    view = of_no_guest("xen-mtwatch-0", 0)
    waiting = Status(Module("0.1", "on"), domains=(Share(0, None, "new"),))
    said = render.status_text(view._replace(status=waiting, threads=(XENWATCH,)))
    assert "waits for what xenwatch still has of domain 0" in said


def test_more_stuck_threads_are_counted() -> None:
    two = tuple(Thread(f"xen-mtwatch-{d}", 340 + d, "D", stalled_s=5.5) for d in (7, 8))
    view = CONTAINED._replace(threads=(XENWATCH, STUCK, *two))
    assert ", 6 events behind it, and 2 more threads are stuck; other" in summary.headline(view)
    view = CONTAINED._replace(threads=(XENWATCH, STUCK, two[0]))
    assert ", and 1 more thread is stuck; other" in summary.headline(view)


def test_a_stock_kernel_is_told_what_to_do() -> None:
    assert summary.headline(BARE) == (
        "nothing is stuck, but nodes have no effect on this kernel (6.1.0-56-amd64), and one stuck "
        "guest would take the host with it; to change that: xlmt kernel load"
    )


def test_a_stalled_stock_kernel_is_told_what_to_do() -> None:
    view = BARE._replace(threads=(DOWN,), frames={57: ("kthread_stop",)})
    assert summary.headline(view) == (
        "xenwatch (pid 57) has been blocked in kthread_stop for at least 5.5 s, and no guest can "
        "be created or destroyed; for new guests to work again: xlmt kernel load"
    )


def test_with_the_module_a_stalled_xenwatch_is_half_as_bad() -> None:
    status = Status(Module("0.1", "on"), Xenwatch(57, silent_s=31.0))
    assert summary.headline(CONTAINED._replace(status=status, threads=(DOWN,))) == (
        "xenwatch (pid 57) has not answered for 31.0 s; guests without a thread of their own wait "
        "for it, the others are not affected"
    )


def test_a_silent_xenstored_is_told_with_what_to_look_at_and_who_is_stuck_besides() -> None:
    module = Module("0.1", "on", store_silent_s=31.0)
    view = CONTAINED._replace(status=Status(module), threads=(XENWATCH,))
    said = summary.headline(view)
    assert said == (
        "xenstored has not answered the kernel for 31.0 s, and no guest can be created or "
        "destroyed; xenwatch is not stuck; to look at xenstored: "
        "ps -C xenstored,oxenstored -o pid,stat,time,args"
    )
    both = view._replace(threads=(XENWATCH, STUCK._replace(state="D", stalled_s=6.0)))
    assert re.search("; xen-mtwatch-1 .* has been blocked", summary.headline(both))
    assert json.loads(render.status_json(view))["module"]["store_silent_s"] == 31.0


def test_a_short_callback_does_not_explain_a_long_silence() -> None:
    told = Xenwatch(57, 31.0, 3, doing=Doing("frontend_changed", "p", 0.1))
    status = Status(Module("0.1", "on"), told)
    view = CONTAINED._replace(status=status, threads=(DOWN,))
    assert summary.headline(view).startswith("xenwatch (pid 57) has not answered for 31.0 s;")


def test_a_xenwatch_that_was_asked_only_now_is_told_by_what_was_seen() -> None:
    status = Status(Module("0.1", "on"), Xenwatch(57, silent_s=0.4))
    view = CONTAINED._replace(status=status, threads=(DOWN,))
    assert summary.headline(view).startswith("xenwatch (pid 57) has been blocked for at least 5.5")
    assert "blocked for 5.5 s" in render.status_text(view)


def test_an_answer_that_is_on_its_way_is_no_news() -> None:
    status = Status(Module("0.1", "on"), Xenwatch(57, silent_s=0.001))
    view = CONTAINED._replace(status=status, threads=(XENWATCH,), spinners=())
    assert "answer" not in render.status_text(view)


def test_the_callback_that_xenwatch_is_in_is_told() -> None:
    told = Xenwatch(57, 31.0, 1, doing=Doing("frontend_changed", "p", 31.2))
    status = Status(Module("0.1", "on"), told)
    view = CONTAINED._replace(status=status, threads=(DOWN,))
    assert summary.headline(view).startswith(
        "xenwatch (pid 57) has been in frontend_changed on p, of guest 1 (web1), for 31.2 s; guests"
    )
    view = view._replace(names={})
    assert "on p, of guest 1, for 31.2 s" in summary.headline(view)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("off", "is loaded, but off.*xlmt kernel load enabled=1"),
        ("waiting", "waits for xenstored; it begins by itself.*look at xenstored"),
        ("draining", "being switched off.*to take that back: xlmt kernel load enabled=1"),
        ("leaving", "handing all guests back.*xlmt kernel unload"),
        ("sleepy", "is sleepy"),
    ],
)
def test_a_module_that_is_not_at_work_says_why(state: str, said: str) -> None:
    headline = summary.headline(in_state(state))
    assert re.match(rf"nothing is stuck, but xen_mtwatch 0\.1 .*{said}", headline)


def test_a_stall_under_a_module_that_is_off_has_both_said() -> None:
    assert summary.headline(in_state("off")._replace(threads=(DOWN,))) == (
        "xenwatch (pid 57) has been blocked for at least 5.5 s, and no guest can be created or "
        "destroyed; xen_mtwatch 0.1 is loaded, but off; to switch it on: xlmt kernel load enabled=1"
    )


def test_a_patched_kernel_is_named() -> None:
    view = BARE._replace(half=Half.BUILTIN, threads=(XENWATCH, STUCK._replace(stalled_s=0.0)))
    assert summary.headline(view) == (
        "this kernel (6.1.0-56-amd64) has the xenwatch multithreading patch of 2018 built in: "
        "one guest has a thread of its own, and nothing is stuck"
    )


def test_a_patch_that_is_switched_off_is_named() -> None:
    view = BARE._replace(half=Half.BUILTIN, guests=frozenset({1}))
    assert summary.headline(view) == (
        "nothing is stuck, but no guest has a thread, the patch of 2018 seems to be switched off "
        "in this kernel (6.1.0-56-amd64), and one stuck guest would take the host with it; "
        "to change that: xlmt kernel load"
    )


@pytest.mark.parametrize(("half", "end"), [(Half.NONE, "is rebooted"), (Half.MODULE, "you can")])
def test_a_crashed_xenwatch_is_told(half: Half, end: str) -> None:
    said = summary.headline(BARE._replace(half=half, threads=()))
    assert said.startswith("xenwatch has crashed, see dmesg")
    assert said.endswith(end)


def test_what_keeps_us_from_telling_is_told() -> None:
    view = BARE._replace(threads=None, problems=("/proc does not show the threads",))
    assert summary.headline(view) == "cannot tell: /proc does not show the threads"


# --- the rest ------------------------------------------------------------------------------


def test_the_table_is_one_line_per_thread_and_what_follows_from_it() -> None:
    assert render.status_text(CONTAINED).split("\n")[1:] == [
        "",
        "THREAD             GUEST  PID  STATE  QUEUE  DOING",
        "xenwatch           -      57   S      -",
        f"xen-mtwatch-1      web1   342  D      6      frontend_changed {STATE} for 24.8 s",
        "xen-mtwatch-2      -      -    -      1      "
        "not started: waits for what xenwatch still has of this guest",
        "vif1.0-q0-dealloc  web1   360  R      -      "
        "spins: 98% of a CPU, waits for packets of vif1.0",
        "",
        "xen-mtwatch-1 is in kthread_stop < xenvif_disconnect_data < set_backend_state",
        "What it may wait for, and how to release it: man 7 xlmt-mtwatch, lingering",
        "To limit the spinning thread: xlmt kernel throttle",
        "",
        "xen_mtwatch 0.1: on, mode both, 3 of at most 1024 threads, "
        "12 watches from before the load adopted",
    ]


def test_the_document_has_the_verdict_and_every_thread() -> None:
    document = json.loads(render.status_json(CONTAINED))
    assert document["schema"] == 1
    assert document["verdict"] == "contained"
    assert document["summary"] == summary.headline(CONTAINED)
    assert document["kernel"] == {"release": "6.1.0-56-amd64", "mtwatch": "module"}
    assert document["module"]["state"] == "on"
    assert document["xenwatch"]["longest"]["took_s"] == 0.003
    stuck, new = document["threads"]
    assert stuck["doing"] == {
        "callback": "frontend_changed",
        "path": STATE,
        "age_s": 24.8,
        "depth": 6,
    }
    assert (stuck["domid"], stuck["guest"], stuck["stalled_s"]) == (1, "web1", 24.8)
    assert (new["phase"], new["doing"], new["stalled_s"]) == ("new", None, 0.0)
    assert document["spinning"][0]["cpu"] == 0.98


def test_the_document_of_a_stock_kernel_has_no_module() -> None:
    document = json.loads(render.status_json(BARE))
    assert document["verdict"] == "exposed"
    assert document["module"] is None
    assert document["threads"] == []


# --- load, unload --------------------------------------------------------------------------


def test_after_a_load_in_peace_there_is_one_line() -> None:
    assert summary.loaded_text(in_state("on")) == "xen_mtwatch 0.1 is on"


def test_after_a_load_of_which_nothing_is_told_nothing_is_claimed() -> None:
    view = CONTAINED._replace(status=None, problems=("debugfs is not mounted",))
    said = summary.loaded_text(view)
    assert said.endswith("is loaded; cannot tell whether it is on: debugfs is not mounted")


def test_after_a_load_of_what_is_off_the_way_to_switch_it_on_is_said() -> None:
    said = summary.loaded_text(in_state("off"))
    assert said == "xen_mtwatch 0.1 is loaded, but off; to switch it on: xlmt kernel load enabled=1"


def test_after_a_load_into_a_stall_it_is_said_what_works_and_what_does_not() -> None:
    status = Status(Module("0.1", "on", partial=1))
    view = in_state("on")._replace(status=status, threads=(DOWN,))
    said = summary.loaded_text(view)
    assert "new guests work now" in said
    assert "stay stuck until it continues" in said
    assert "not adopted yet" in said


def test_a_stuck_thread_is_why_the_module_stays() -> None:
    assert summary.staying_text(CONTAINED, 30.0) == (
        "xen_mtwatch stays loaded: its threads have not ended after 30.0 s: xen-mtwatch-1 "
        f"(web1, pid 342) of domain 1 has been in frontend_changed on {STATE} for 24.8 s, "
        "6 events behind it"
    )


def test_a_silent_xenwatch_is_why_the_module_stays() -> None:
    status = Status(Module("0.1", "draining"), Xenwatch(57, silent_s=31.0))
    view = CONTAINED._replace(status=status, threads=(DOWN,))
    assert summary.staying_text(view, 5.0).endswith(
        "5.0 s: xenwatch (pid 57) has not answered for 31.0 s"
    )


def test_a_module_that_is_leaving_is_not_called_staying() -> None:
    said = summary.staying_text(in_state("leaving"), 30.0)
    late = "xen_mtwatch is being unloaded, but not done after 30.0 s"
    assert said == f"{late}: its state is still leaving; try again"


def test_what_has_been_throttled_is_told_with_its_guest() -> None:
    assert summary.throttled_text(CONTAINED, 1) == (
        "vif1.0-q0-dealloc (web1, pid 360) is limited to 1 % of a CPU"
    )
    assert summary.throttled_text(BARE, 1) == "no thread is spinning"
