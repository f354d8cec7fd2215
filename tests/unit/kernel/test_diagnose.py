# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is stuck, and what that means for the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.kernel import diagnose, render, summary
from xlmt.kernel.diagnose import Half, Verdict, View
from xlmt.kernel.status import Longest, Module, Share, Status, Xenwatch
from xlmt.model import Doing, Spinner, Thread

XENWATCH = Thread("xenwatch", 57, "S")
IDLE = Thread("xen-mtwatch-2", 350, "S")
BLOCKED = Thread("xen-mtwatch-1", 342, "D", stalled_s=5.5)
ON = Module(version="0.1", state="on")
CALLBACK = Doing("frontend_changed", "/local/domain/1/device/vif/0/state", 24.8, 6)
BARE = View(release="6.1.0-56-amd64", threads=(XENWATCH,))
LOADED = BARE._replace(half=Half.MODULE, status=Status(ON), threads=(XENWATCH, IDLE))


def with_share(share: Share, *threads: Thread) -> View:
    return LOADED._replace(status=Status(ON, domains=(share,)), threads=(XENWATCH, *threads))


# --- verdict -------------------------------------------------------------------------------


def test_a_stock_kernel_in_peace_is_exposed() -> None:
    assert diagnose.judge(BARE) is Verdict.EXPOSED


def test_a_module_that_is_on_is_healthy() -> None:
    assert diagnose.judge(LOADED) is Verdict.HEALTHY


def test_a_patched_kernel_is_healthy() -> None:
    assert diagnose.judge(BARE._replace(half=Half.BUILTIN)) is Verdict.HEALTHY


def test_a_patch_that_is_switched_off_leaves_the_host_exposed() -> None:
    patched = BARE._replace(half=Half.BUILTIN, guests=frozenset({1}))
    assert diagnose.judge(patched) is Verdict.EXPOSED
    assert diagnose.judge(patched._replace(threads=(XENWATCH, IDLE))) is Verdict.HEALTHY


def test_a_xenwatch_that_was_asked_only_now_may_have_been_stuck_before() -> None:
    main = XENWATCH._replace(state="D", stalled_s=5.5)
    view = LOADED._replace(status=Status(ON, Xenwatch(57, 0.4)), threads=(main,))
    assert diagnose.judge(view) is Verdict.STALLED


def test_a_xenwatch_that_has_just_begun_a_callback_is_not_stuck() -> None:
    main = XENWATCH._replace(state="D", stalled_s=5.5)
    told = Xenwatch(57, 0.4, 1, doing=CALLBACK._replace(age_s=0.6))
    assert (
        diagnose.judge(LOADED._replace(status=Status(ON, told), threads=(main,))) is Verdict.HEALTHY
    )


@pytest.mark.parametrize(
    "state", ["off", "waiting", "starting", "draining", "leaving", "new-fangled"]
)
def test_a_module_that_is_not_at_work_leaves_the_host_exposed(state: str) -> None:
    assert diagnose.judge(LOADED._replace(status=Status(Module(state=state)))) is Verdict.EXPOSED


@pytest.mark.parametrize(
    ("enabled", "verdict"), [("0", Verdict.EXPOSED), ("N", Verdict.EXPOSED), ("1", Verdict.HEALTHY)]
)
def test_without_its_status_the_module_s_parameter_counts(enabled: str, verdict: Verdict) -> None:
    view = LOADED._replace(status=None, parameters={"enabled": enabled})
    assert diagnose.judge(view) is verdict


@pytest.mark.parametrize("half", Half)
def test_a_xenwatch_that_stands_still_is_a_stall(half: Half) -> None:
    main = XENWATCH._replace(state="D", stalled_s=5.5)
    assert diagnose.judge(BARE._replace(half=half, threads=(main, BLOCKED))) is Verdict.STALLED


@pytest.mark.parametrize(("silent_s", "verdict"), [(4.9, "healthy"), (5.0, "stalled")])
def test_a_xenwatch_that_does_not_answer_for_long_is_a_stall(silent_s: float, verdict: str) -> None:
    view = LOADED._replace(status=Status(ON, Xenwatch(57, silent_s)))
    assert diagnose.judge(view) == verdict


def test_a_xenstored_that_does_not_answer_is_worse_than_a_stuck_thread() -> None:
    module = ON._replace(store_silent_s=5.0)
    view = LOADED._replace(status=Status(module), threads=(XENWATCH, BLOCKED))
    assert diagnose.judge(view) is Verdict.SILENT
    on_its_way = module._replace(store_silent_s=4.9)
    assert diagnose.judge(view._replace(status=Status(on_its_way))) is Verdict.CONTAINED
    still = XENWATCH._replace(state="D", stalled_s=5.5)
    assert diagnose.judge(view._replace(threads=(still,))) is Verdict.STALLED


def test_a_thread_that_stands_still_is_contained() -> None:
    assert diagnose.judge(LOADED._replace(threads=(XENWATCH, BLOCKED))) is Verdict.CONTAINED


@pytest.mark.parametrize("state", "SDR")
def test_a_long_callback_is_a_stall_whatever_the_thread_waits_by(state: str) -> None:
    share = Share(1, 342, doing=CALLBACK)
    view = with_share(share, BLOCKED._replace(state=state, stalled_s=0.0))
    assert diagnose.judge(view) is Verdict.CONTAINED


def test_a_thread_that_has_just_begun_is_not_stuck_however_blocked() -> None:
    share = Share(1, 342, doing=CALLBACK._replace(age_s=0.7))
    assert diagnose.judge(with_share(share, BLOCKED)) is Verdict.HEALTHY


def test_a_stall_from_before_the_module_is_as_old_as_it_is() -> None:
    """The module has asked only since it came."""
    status, stuck = Status(ON, Xenwatch(57, 40.0)), XENWATCH._replace(state="D", stalled_s=92.6)
    main = diagnose.xenwatch(LOADED._replace(status=status, threads=(stuck, IDLE)))
    assert main is not None
    assert main.stuck_s == 92.6


def test_without_xenwatch_it_is_gone() -> None:
    assert diagnose.judge(LOADED._replace(threads=(IDLE,))) is Verdict.GONE


def test_without_proc_nothing_is_known() -> None:
    assert diagnose.judge(LOADED._replace(threads=None)) is Verdict.UNKNOWN


# --- threads -------------------------------------------------------------------------------


def test_the_module_s_word_counts_where_a_name_was_cut() -> None:
    """As before Linux 5.17: domid 1234's thread is called as if it were 123's."""
    view = with_share(Share(1234, 342), Thread("xen-mtwatch-123", 342, "D", stalled_s=5.5))
    (watcher,) = diagnose.watchers(view)
    assert (watcher.name, watcher.domid, watcher.stuck_s) == ("xen-mtwatch-1234", 1234, 5.5)


@pytest.mark.parametrize(("release", "domid"), [("5.10.0-32", None), ("5.17.0", 123), ("", None)])
def test_a_name_that_may_be_cut_is_nobody_s(release: str, domid: int | None) -> None:
    view = View(release=release, threads=(XENWATCH, Thread("xen-mtwatch-123", 342, "S")))
    assert [watcher.domid for watcher in diagnose.watchers(view)] == [domid]


def test_a_thread_of_which_the_module_says_nothing_is_there_all_the_same() -> None:
    found = diagnose.watchers(with_share(Share(1, 342), BLOCKED, IDLE))
    assert [(w.domid, w.share is None) for w in found] == [(1, False), (2, True)]


def test_a_share_without_a_thread_is_there() -> None:
    (watcher,) = diagnose.watchers(with_share(Share(3, None, "new")))
    assert (watcher.domid, watcher.pid, watcher.state) == (3, None, None)


def test_the_most_stuck_come_first() -> None:
    shares = tuple(
        Share(d, 300 + d, doing=CALLBACK._replace(age_s=age)) for d, age in [(1, 1), (2, 6), (3, 9)]
    )
    view = LOADED._replace(status=Status(ON, domains=shares))
    found = [w.domid for w in diagnose.watchers(view) if w.share]
    assert found == [3, 2, 1]


# --- any -----------------------------------------------------------------------------------

texts = st.text(st.characters(), max_size=6)
maybe_texts = st.none() | texts
numbers = st.none() | st.integers(0, 10)
seconds = st.none() | st.floats(0, 1e6)
doings = st.none() | st.builds(Doing, texts, maybe_texts, st.floats(0, 1e6), numbers)
states = st.sampled_from(["on", "off", "waiting", "draining", "leaving"]) | maybe_texts
modules = st.builds(
    Module,
    version=maybe_texts,
    state=states,
    mode=maybe_texts,
    threads=numbers,
    partial=numbers,
    store_silent_s=seconds,
)
longests = st.none() | st.builds(Longest, texts, maybe_texts, seconds)
xenwatches = st.builds(Xenwatch, numbers, seconds, numbers, numbers, doings, longests)
shares = st.builds(
    Share,
    *(st.integers(0, 9), numbers, states),
    doing=doings,
    depth=numbers,
    wait_s=seconds,
    longest=longests,
)
threads = st.builds(
    Thread,
    st.sampled_from(["xenwatch", "xen-mtwatch-1", "xen-mtwatch-12", "xen-mtwatch-x"]) | texts,
    st.integers(0, 10),
    st.sampled_from("SDR"),
    st.sampled_from([0.0, 5.5]),
    doings,
)
views = st.builds(
    View,
    release=texts,
    half=st.sampled_from(Half),
    version=maybe_texts,
    parameters=st.dictionaries(st.sampled_from(["enabled", "mode"]), texts),
    status=st.none()
    | st.builds(Status, modules, xenwatches, st.lists(shares, max_size=4).map(tuple)),
    threads=st.none() | st.lists(threads, max_size=5).map(tuple),
    spinners=st.lists(
        st.builds(Spinner, texts, st.integers(1, 9), texts, numbers, st.floats(0, 1)), max_size=2
    ).map(tuple),
    guests=st.frozensets(st.integers(1, 3)),
    names=st.dictionaries(st.integers(0, 9), texts),
    frames=st.dictionaries(st.integers(0, 9), st.lists(texts).map(tuple)),
    problems=st.lists(texts, max_size=2).map(tuple),
)


@given(views)
def test_whatever_is_seen_can_be_told(view: View) -> None:
    assert summary.headline(view) == render.status_text(view).split("\n")[0]
    render.status_json(view)
    summary.loaded_text(view)
    summary.staying_text(view, 30.0)


def without_xenstored_s_silence(view: View) -> View:
    if view.status is None:
        return view
    module = view.status.module._replace(store_silent_s=None)
    return view._replace(status=view.status._replace(module=module))


@given(views)
def test_stuck_is_a_question_of_the_verdict(view: View) -> None:
    view = without_xenstored_s_silence(view)
    wrong = diagnose.judge(view) in {Verdict.STALLED, Verdict.CONTAINED}
    other = diagnose.judge(view) in {Verdict.GONE, Verdict.UNKNOWN}
    assert wrong == bool(diagnose.stuck(view)) or other


@given(views)
def test_a_silent_xenstored_is_told_unless_something_is_worse(view: View) -> None:
    silent = diagnose.store_silent_s(view) >= diagnose.STUCK_S
    otherwise = diagnose.judge(without_xenstored_s_silence(view))
    worse = otherwise in {Verdict.STALLED, Verdict.GONE, Verdict.UNKNOWN}
    assert diagnose.judge(view) is (Verdict.SILENT if silent and not worse else otherwise)
