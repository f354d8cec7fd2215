# SPDX-License-Identifier: LGPL-2.1-or-later
"""Traces as they are pasted: by the kernel's own words, with all that mail and syslog add."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.doctor.traces import MOST_FRAMES, Report, Trace, read

HUNG = """\
[  242.701234] INFO: task xenwatch:57 blocked for more than 120 seconds.
[  242.701301]       Not tainted 6.12.48+deb13-amd64 #1 Debian 6.12.48-1
[  242.701340] "echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.
[  242.701377] task:xenwatch        state:D stack:0     pid:57    tgid:57    ppid:2
[  242.701421] Call Trace:
[  242.701440]  <TASK>
[  242.701460]  __schedule+0x505/0xbf0
[  242.701500]  ? srso_return_thunk+0x5/0x5f
[  242.701533]  schedule+0x27/0xf0
[  242.701560]  kthread_stop.part.0+0x50/0x150
[  242.701590]  xenvif_disconnect_data+0x12c/0x3a0 [xen_netback]
[  242.701620]  frontend_changed+0x6f/0x180 [xen_netback]
[  242.701650]  xenwatch_thread+0x8f/0x1b0
[  242.701680]  ? __pfx_xenwatch_thread+0x10/0x10
[  242.701700]  kthread+0xcf/0x100
[  242.701720]  ret_from_fork+0x31/0x50
[  242.701740]  ret_from_fork_asm+0x1a/0x30
[  242.701760]  </TASK>
"""
FRAMES = (
    *("__schedule", "schedule", "kthread_stop", "xenvif_disconnect_data", "frontend_changed"),
    *("xenwatch_thread", "kthread", "ret_from_fork", "ret_from_fork_asm"),
)
PROC = """\
[<0>] kthread_stop+0x50/0x150
[<0>] xenvif_disconnect_data+0x12c/0x3a0 [xen_netback]
[<0>] xenwatch_thread+0x8f/0x1b0
[<0>] kthread+0xcf/0x100
"""
OLD = """\
INFO: task xenwatch:39 blocked for more than 120 seconds.
"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.
xenwatch      D ffff88003e2c5ec0     0    39      2 0x00000000
Call Trace:
 [<ffffffff8145a3b0>] io_schedule+0x70/0xc0
 [<ffffffff810d2c3d>] ? sync_page+0x3d/0x50
 [<ffffffff8127f3a2>] backend_changed+0x12/0x20
 [<ffffffff8127e190>] xenwatch_thread+0xb0/0x170
 [<ffffffff8106b6a6>] kthread+0x96/0xa0
"""
BUG = """\
------------[ cut here ]------------
kernel BUG at mm/slub.c:305!
invalid opcode: 0000 [#1] SMP NOPTI
CPU: 3 PID: 97 Comm: xenwatch Tainted: G           O      5.0.0-31-generic #33
RIP: e030:__slab_free+0x188/0x330
Code: 00 48 8b 01
Call Trace:
 kfree+0x215/0x220
 xenbus_transaction_start+0x6d/0x90
 xenwatch_thread+0xb7/0x160
---[ end trace 25b0a4a1e3a2ab79 ]---
RIP: e030:__slab_free+0x188/0x330
"""
WARNING = """\
WARNING: CPU: 2 PID: 52 at drivers/block/xen-blkback/xenbus.c:322 xen_blkif_disconnect+0x20d/0x230
CPU: 2 PID: 52 Comm: xenwatch Not tainted 5.19.8-100.fc35.x86_64 #1
RIP: e030:xen_blkif_disconnect+0x20d/0x230 [xen_blkback]
Call Trace:
 <TASK>
 frontend_changed+0x8b/0x670 [xen_blkback]
 xenwatch_thread+0x94/0x180
 </TASK>
"""


def test_a_hung_task_of_today() -> None:
    assert read(HUNG) == (Trace("xenwatch", FRAMES, Report.HUNG, 57, 120),)


@pytest.mark.parametrize(
    "prefix",
    [
        "> ",
        "> > ",
        "Feb 26 12:34:56 dom0 kernel: ",
        "2021-02-26T12:34:56.789012+01:00 dom0 kernel: ",
        "<4>",
        "[T57] ",
    ],
)
def test_what_mail_and_syslog_put_before_a_line_is_no_matter(prefix: str) -> None:
    quoted = "".join(f"{prefix}{line}\n" for line in HUNG.splitlines())
    if prefix == "[T57] ":
        quoted = HUNG.replace("] ", f"]{prefix}", 1).replace("]  ", f"] {prefix} ")
    assert read(quoted) == read(HUNG)


def test_a_hung_task_of_long_ago() -> None:
    frames = ("io_schedule", "backend_changed", "xenwatch_thread", "kthread")
    assert read(OLD) == (Trace("xenwatch", frames, Report.HUNG, 39, 120),)


def test_proc_names_no_task() -> None:
    frames = ("kthread_stop", "xenvif_disconnect_data", "xenwatch_thread", "kthread")
    assert read(PROC) == (Trace("", frames),)
    (named,) = read(f"# cat /proc/57/stack\n{PROC}")
    assert named == Trace("", frames, pid=57)


def test_two_stacks_without_a_word_between_them_are_two() -> None:
    first, second = read(PROC + PROC)
    assert first == second


def test_names_alone_are_a_stack_too() -> None:
    assert read("kthread_stop\nxenvif_disconnect_data.isra.0\n[<0>] xenwatch_thread\n") == (
        Trace("", ("kthread_stop", "xenvif_disconnect_data", "xenwatch_thread")),
    )


def test_the_function_in_which_a_task_crashed_is_its_innermost() -> None:
    frames = ("__slab_free", "kfree", "xenbus_transaction_start", "xenwatch_thread")
    assert read(BUG) == (Trace("xenwatch", frames, Report.CRASH, 97),)


def test_a_warning_is_told_from_a_crash() -> None:
    frames = ("xen_blkif_disconnect", "frontend_changed", "xenwatch_thread")
    assert read(WARNING) == (Trace("xenwatch", frames, Report.WARNING, 52),)


def test_a_failed_allocation_is_a_warning_of_its_task() -> None:
    paste = "xenwatch: page allocation failure: order:4, mode:0x40dc0\nCall Trace:\n f+0x1/0x2\n"
    assert read(paste) == (Trace("xenwatch", ("f",), Report.WARNING),)


def test_a_paste_of_several_tasks_has_them_in_order() -> None:
    several = read(HUNG + BUG + WARNING + OLD)
    assert [(trace.pid, trace.report) for trace in several] == [
        (57, Report.HUNG),
        (97, Report.CRASH),
        (52, Report.WARNING),
        (39, Report.HUNG),
    ]


def test_all_blocked_tasks_of_sysrq_w() -> None:
    paste = (
        "sysrq: Show Blocked State\n"
        "task:1.xvda-0        state:D stack:0     pid:812   ppid:2      flags:0x4000\n"
        "Call Trace:\n xen_blkif_schedule+0x1/0x2 [xen_blkback]\n kthread+0x1/0x2\n"
        "task:qemu-system-i38 state:D stack:0     pid:900   ppid:1      flags:0x4000\n"
        "Call Trace:\n btrfs_sync_file+0x1/0x2 [btrfs]\n"
    )
    assert [(t.task, t.pid, t.report) for t in read(paste)] == [
        ("1.xvda-0", 812, Report.HUNG),
        ("qemu-system-i38", 900, Report.HUNG),
    ]


def test_who_tells_of_a_hung_task_is_not_the_hung_task() -> None:
    """With hung_task_all_cpu_backtrace each CPU tells what it does, khungtaskd's own first."""
    told = (
        "NMI backtrace for cpu 1\n"
        "CPU: 1 UID: 0 PID: 30 Comm: khungtaskd Not tainted 6.12.48+deb13-amd64 #1\n"
        "Call Trace:\n <TASK>\n nmi_cpu_backtrace+0x1/0x2\n watchdog+0x1/0x2\n kthread+0x1/0x2\n"
    )
    hung, teller = read(f"{HUNG}CPU: 1 PID: 30 Comm: khungtaskd Not tainted\n{told}")
    assert (hung,) == read(HUNG)
    assert (teller.task, teller.pid, teller.report) == ("khungtaskd", 30, Report.STACK)


def test_what_is_no_trace_has_none() -> None:
    assert read("") == read("dear list,\nmy host is stuck. What can I do?\n\nthanks\n") == ()


def test_a_word_of_a_mail_is_no_function() -> None:
    assert read(f"hello\n{HUNG}thanks\nPeter\n")[-1] == read(HUNG)[0]


@given(st.text(), st.text())
def test_nothing_around_a_trace_can_break_it(before: str, after: str) -> None:
    read(f"{before}\n{HUNG}\n{after}")


@given(st.text(st.sampled_from("INFO: task xenwach57+0/[]<>?.BUG\n "), max_size=500))
def test_no_text_is_too_odd(text: str) -> None:
    for trace in read(text):
        assert trace.frames


def test_no_stack_is_without_end() -> None:
    (trace,) = read("f+0x1/0x2\ng+0x1/0x2\n" * 10_000)
    assert len(trace.frames) == MOST_FRAMES
