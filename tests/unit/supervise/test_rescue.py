# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the module is loaded by itself, and what is kept of it."""

from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.test_manage import Host, dom0, stall_xenwatch
from tests.unit.kernel.test_proc import switches
from xlmt import paths
from xlmt.errors import UsageError, XlmtError
from xlmt.kernel import rescue
from xlmt.kernel.rescue import Rescue, Result
from xlmt.supervise import rescue as module
from xlmt.supervise.rescue import Load, Stillness, Watch
from xlmt.supervise.settings import rescue_from

__all__ = ["dom0"]

NOBODY: Any = cast(Any, None)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "RESCUE", str(tmp_path / "rescue.json"))
    return tmp_path / "rescue.json"


def tasks(watch: Watch, clock: Clock, seconds: int) -> list[float]:
    """After how long a watch has sent for a worker."""
    started, sent = clock.now, []
    while clock.now - started < seconds:
        if watch.task():
            sent.append(clock.now - started)
        clock.now += max(watch.next_s(), 1.0) if watch.next_s() < 1e6 else seconds
    return sent


# --- when --------------------------------------------------------------------------------------


def test_a_stuck_xenwatch_is_rescued_after_a_minute(dom0: Host, clock: Clock) -> None:
    stall_xenwatch(dom0)
    assert tasks(Watch(wanted=True), clock, 75) == [60.0]


def test_nobody_looks_where_it_is_not_wanted(dom0: Host, clock: Clock) -> None:
    stall_xenwatch(dom0)
    watch = Watch(wanted=False)
    assert watch.next_s() == float("inf")
    assert tasks(watch, clock, 600) == []


def test_a_xenwatch_that_runs_now_and_then_is_not_stuck(dom0: Host, clock: Clock) -> None:
    stall_xenwatch(dom0)
    watch = Watch(wanted=True)
    for count in range(20):
        switches(dom0.proc, 57, "D", count)
        assert tasks(watch, clock, 45) == []


def test_with_the_module_nothing_is_loaded(dom0: Host, clock: Clock) -> None:
    stall_xenwatch(dom0)
    dom0.load()
    assert tasks(Watch(wanted=True), clock, 600) == []


def test_without_xenwatch_nothing_is_loaded(dom0: Host, clock: Clock) -> None:
    (dom0.proc / "57/stat").unlink()
    assert tasks(Watch(wanted=True), clock, 600) == []


@pytest.mark.parametrize("data", [b"", b"{}"])
def test_it_is_tried_once_in_a_boot(dom0: Host, clock: Clock, file: Path, data: bytes) -> None:
    stall_xenwatch(dom0)
    watch = Watch(wanted=True)
    assert tasks(watch, clock, 70)
    file.write_bytes(data)
    assert not tasks(watch, clock, 600)[1:]
    assert watch.next_s() == float("inf")


STATES = st.sampled_from([("D", "1", "2"), ("D", "1", "3"), ("S", "1", "2"), ()])


@given(st.lists(st.tuples(STATES, st.floats(0, 100)), min_size=1))
def test_only_the_same_blocked_state_counts_as_still(
    looks: list[tuple[tuple[str, ...], float]],
) -> None:
    stillness, now, still = Stillness(), 0.0, 0.0
    before: tuple[str, ...] = ()
    for state, pause in looks:
        now += pause
        still = still + pause if state == before and state[:1] == ("D",) else 0.0
        assert stillness.seen(state, now) == pytest.approx(still)
        before = state


# --- what --------------------------------------------------------------------------------------


def test_the_worker_loads_the_module_and_keeps_that_it_did(
    dom0: Host, caplog: pytest.LogCaptureFixture
) -> None:
    stall_xenwatch(dom0)
    dom0.modprobe(f"mkdir -p {dom0.sys}")
    Load(63.0).carry_out(NOBODY, NOBODY)
    assert dom0.calls == ["C --first-time xen_mtwatch"]
    found = rescue.last()
    assert found
    assert found[1:] == (63.0, Result.LOADED, None)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "xenwatch has been stuck for 63.0 s: loading xen_mtwatch"
    assert said[1].startswith("xen_mtwatch")


def test_a_load_that_fails_is_said_with_the_way_out_and_not_tried_again(dom0: Host) -> None:
    stall_xenwatch(dom0)
    dom0.modprobe("echo 'modprobe: FATAL: Module xen_mtwatch not found.' >&2; exit 1")
    with pytest.raises(
        XlmtError, match=r"cannot be loaded: .*; once that is mended: xlmt kernel load"
    ):
        Load(63.0).carry_out(NOBODY, NOBODY)
    found = rescue.last()
    assert found
    assert found.result is Result.FAILED
    assert found.reason
    Load(90.0).carry_out(NOBODY, NOBODY)
    assert len(dom0.calls) == 1


def test_a_worker_that_finds_xenwatch_at_work_again_does_nothing(dom0: Host) -> None:
    Load(63.0).carry_out(NOBODY, NOBODY)
    assert dom0.calls == []
    assert not rescue.was_tried()


def test_what_was_kept_is_read_and_nothing_else(file: Path) -> None:
    assert rescue.last() is None
    attempt = Rescue("2026-11-28T15:00:00Z", 63.0)
    assert rescue.begin(attempt)
    assert not rescue.begin(attempt)
    assert rescue.last() == attempt
    for bad in (
        b"",
        b"[]",
        b"\xff",
        b'{"at": 1}',
        b'{"at": "", "stalled_s": [], "result": "loaded"}',
    ):
        file.write_bytes(bad)
        assert rescue.last() is None
        assert rescue.was_tried()


# --- wanted ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"), [("1", True), ("on", True), ("0", False), ("", False), ("No", False)]
)
def test_the_environment_says_whether_it_is_wanted(value: str, wanted: bool) -> None:
    assert rescue_from({"XLMT_RESCUE": value}) is wanted
    assert not rescue_from({})


def test_an_odd_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="XLMT_RESCUE=perhaps"):
        rescue_from({"XLMT_RESCUE": "perhaps"})
