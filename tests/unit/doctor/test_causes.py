# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of the stacks that people have shown in public, and of odd ones."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.doctor.causes import Kind, Verdict, cause_of
from xlmt.doctor.traces import Report, Trace
from xlmt.doctor.words import ADVICE

STACKS = tomllib.loads(Path(__file__).with_name("stacks.toml").read_text())["stacks"]
CORPUS = pytest.mark.parametrize("stack", STACKS, ids=[stack["id"] for stack in STACKS])
#: Of those whose first function is there, too, it says as much as the name.
BEGAN = {"xenwatch_thread", "xenbus_thread", "xen_blkif_schedule"}
NAMED = [stack for stack in STACKS if BEGAN & {*stack["frames"]}]
CALLBACK = ("frontend_changed", "xenwatch_thread", "kthread", "ret_from_fork")


def trace_of(stack: dict[str, Any]) -> Trace:
    return Trace(stack["task"], tuple(stack["frames"]), Report(stack["report"]))


@CORPUS
def test_a_public_stack_is_understood(stack: dict[str, Any]) -> None:
    cause = cause_of(trace_of(stack))
    assert (cause.kind, cause.verdict) == (stack["kind"], stack["verdict"])


@pytest.mark.parametrize("stack", NAMED, ids=[stack["id"] for stack in NAMED])
def test_a_stack_without_its_name_is_understood_by_the_function_it_began_with(
    stack: dict[str, Any],
) -> None:
    cause = cause_of(trace_of(stack)._replace(task=""))
    assert (cause.kind, cause.verdict) == (stack["kind"], stack["verdict"])


@CORPUS
def test_a_warning_is_never_a_stall(stack: dict[str, Any]) -> None:
    assert cause_of(trace_of(stack)._replace(report=Report.WARNING)).verdict is Verdict.NO


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ("rtnl_lock", Kind.RTNL_LOCK),
        ("xen_pcibk_remove", Kind.PCIBACK),
        ("scsiback_disconnect", Kind.SCSIBACK),
        ("xenvif_disconnect_queue", Kind.NETBACK_INFLIGHT),
        ("some_driver_of_tomorrow", Kind.UNKNOWN),
    ],
)
def test_xenwatch_stalls_in_whatever_it_does_not_leave(frame: str, kind: Kind) -> None:
    frames = ("schedule", frame, *CALLBACK)
    cause = cause_of(Trace("xenwatch", frames))
    assert (cause.kind, cause.verdict) == (kind, Verdict.STALL)
    cause = cause_of(Trace("xen-mtwatch-7", frames))
    assert (cause.kind, cause.verdict) == (kind, Verdict.CONTAINED)


def test_the_lock_that_is_waited_for_decides_not_who_wants_it() -> None:
    frames = ("__mutex_lock", "rtnl_lock", "xenvif_disconnect_data", *CALLBACK)
    assert cause_of(Trace("xenwatch", frames)).kind is Kind.RTNL_LOCK


@pytest.mark.parametrize("task", ["xenwatch", "xl", "xen-mtwatch-3"])
def test_who_waits_for_xenstored_is_not_the_cause(task: str) -> None:
    frames = ("schedule", "read_reply", "xs_talkv", "xenbus_switch_state", *CALLBACK)
    cause = cause_of(Trace(task, frames[: None if task != "xl" else 4]))
    assert (cause.kind, cause.verdict) == (Kind.XENSTORED_SILENT, Verdict.COLLATERAL)


def test_who_waits_for_xenwatch_is_not_the_cause() -> None:
    frames = ("__mutex_lock", "unregister_xenbus_watch", "xenbus_file_free", "__fput")
    cause = cause_of(Trace("xl", frames))
    assert (cause.kind, cause.verdict) == (Kind.XENWATCH_MUTEX, Verdict.COLLATERAL)


@pytest.mark.parametrize(
    "frames",
    [
        ("xenwatch_thread", "kthread", "ret_from_fork"),
        ("__schedule", "schedule", "xenwatch_thread", "kthread", "ret_from_fork_asm"),
        ("wait_woken", "xb_read", "xenbus_thread", "kthread", "ret_from_fork"),
    ],
)
def test_a_thread_that_has_nothing_to_do_is_well(frames: tuple[str, ...]) -> None:
    assert cause_of(Trace("", frames)) == (Kind.NOT_A_STALL, Verdict.NO, None)


@given(
    st.sampled_from(["xenwatch", "xenbus", "xen-mtwatch-1", "1.xvda-0", "kswapd0", ""]),
    st.lists(st.text(max_size=30) | st.sampled_from([f for s in STACKS for f in s["frames"]])),
    st.sampled_from(Report),
)
def test_there_is_a_word_for_everything(task: str, frames: list[str], report: Report) -> None:
    assert cause_of(Trace(task, tuple(frames), report)).kind in ADVICE


def test_every_kind_has_an_id_of_its_own() -> None:
    assert len({advice.id for advice in ADVICE.values()}) == len(Kind) == len(ADVICE)


@pytest.mark.parametrize(
    ("task", "frame", "kind"),
    [
        ("xen-mtwatch-users", "watch_fired", Kind.PROGRAMS),
        ("xen-mtwatch-use", "watch_fired", Kind.PROGRAMS),
        ("xen-mtwatch-users", "shrink_node", Kind.MEMORY_RECLAIM),
        ("xen-mtwatch-0", "blkfront_connect", Kind.OWN_DEVICES),
        ("xen-mtwatch-0", "some_driver_of_tomorrow", Kind.OWN_DEVICES),
        ("xen-mtwatch-0", "xen_blkif_disconnect", Kind.BLKBACK_IO),
        ("xen-mtwatch-10", "some_driver_of_tomorrow", Kind.UNKNOWN),
    ],
)
def test_a_thread_that_serves_no_guest_is_known(task: str, frame: str, kind: Kind) -> None:
    """A frontend in domain 0's own thread is domain 0's, and not that of a guest's kernel."""
    cause = cause_of(Trace(task, ("schedule", frame, "mtw_dom_thread", "kthread")))
    assert (cause.kind, cause.verdict) == (kind, Verdict.CONTAINED)
