# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module's status, as it comes and as it may come."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.errors import XlmtError
from xlmt.kernel import status as mtwatch
from xlmt.kernel.status import Longest, Module, Share, Status, Xenwatch
from xlmt.model import Doing, Thread

STATUS = """\
xen_mtwatch 1
module version=0.1 state=on mode=both threads=3 max_threads=1024 idle_secs=60 warn_secs=30 \
adopted=12 partial=0 passed=40
xenwatch pid=57 probe_ms=- domid=- callback=- path=- age_ms=- events=40 longest_ms=3 \
longest_callback=frontend_changed longest_path=/local/domain/1/device/vif/0/state
domain domid=1 pid=342 state=up by=node depth=6 max_depth=9 queued=51 done=44 merged=20 \
flushed=1 rescans=0 wait_ms=2 longest_ms=120 longest_callback=backend_changed \
longest_path=backend/vif/1/0 callback=frontend_changed \
path=/local/domain/1/device/vif/0/state age_ms=24800
domain domid=2 pid=- state=new by=auto depth=1 max_depth=1 queued=1 done=0 merged=0 flushed=0 \
rescans=0 wait_ms=- longest_ms=- longest_callback=- longest_path=- callback=- path=- age_ms=-
"""

MODULE = Module("0.1", "on", "both", 3, 1024, 60, 30, 12, 0, 40)
XENWATCH = Xenwatch(
    57,
    None,
    None,
    40,
    None,
    Longest("frontend_changed", "/local/domain/1/device/vif/0/state", 0.003),
)
BUSY = Share(
    domid=1,
    pid=342,
    phase="up",
    by="node",
    depth=6,
    max_depth=9,
    queued=51,
    done=44,
    merged=20,
    flushed=1,
    rescans=0,
    wait_s=0.002,
    doing=Doing("frontend_changed", "/local/domain/1/device/vif/0/state", 24.8, 6),
    longest=Longest("backend_changed", "backend/vif/1/0", 0.12),
)
NEW = Share(2, None, "new", "auto", 1, 1, 1, 0, 0, 0, 0)

words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=" \n"), max_size=8)
keys = st.sampled_from(["domid", "pid", "state", "depth", "age_ms", "callback", "probe_ms"]) | words
values = words | st.integers().map(str) | st.sampled_from(["-", "", "=", "²", "9" * 5000])
records = st.tuples(
    st.sampled_from(["module", "xenwatch", "domain", ""]) | words, st.lists(st.tuples(keys, values))
).map(lambda record: " ".join([record[0], *(f"{key}={value}" for key, value in record[1])]))


def test_everything_is_read() -> None:
    assert mtwatch.parse(STATUS) == Status(MODULE, XENWATCH, (BUSY, NEW))


def test_the_thread_of_programs_is_read_and_belongs_to_no_domid() -> None:
    told = mtwatch.parse("xen_mtwatch 1\nusers pid=9 state=up depth=3\ndomain domid=0 pid=8\n")
    assert told.domains == (Share(None, 9, "up", depth=3), Share(0, 8))


def test_a_domain_without_a_domid_is_passed_over() -> None:
    assert mtwatch.parse("xen_mtwatch 1\ndomain domid=x pid=9 state=up\n").domains == ()


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("xen-mtwatch-users", True),
        ("xen-mtwatch-use", True),
        ("xen-mtwatch-", False),
        ("xen-mtwatch-123", False),
    ],
)
def test_the_thread_of_programs_is_told_by_its_name(name: str, users: bool) -> None:
    assert mtwatch.is_users(name) is users


def test_a_callback_that_xenwatch_is_in_and_a_probe_that_it_owes_are_read() -> None:
    line = "xenwatch pid=- probe_ms=31000 domid=7 callback=frontend_changed path=p age_ms=31500"
    told = mtwatch.parse(f"xen_mtwatch 1\n{line}\n").xenwatch
    assert told == Xenwatch(None, 31.0, 7, None, Doing("frontend_changed", "p", 31.5))


def test_a_domid_that_drains_and_is_new_again_has_both_its_records() -> None:
    text = "xen_mtwatch 1\ndomain domid=1 state=draining\ndomain domid=1 state=new\n"
    assert [share.phase for share in mtwatch.parse(text).domains] == ["draining", "new"]


def test_what_is_unknown_is_passed_over() -> None:
    text = STATUS.replace("module ", "module colour=blue odd =x ")
    assert mtwatch.parse(f"{text}weather state=rain\n\n") == mtwatch.parse(STATUS)


def test_words_behind_the_format_are_passed_over() -> None:
    assert mtwatch.parse("xen_mtwatch 1 and more\n") == Status()


@pytest.mark.parametrize("text", ["xen_mtwatch 2\n", "xen_mtwatch 10\nmodule\n"])
def test_another_format_is_an_error_that_names_the_way_out(text: str) -> None:
    with pytest.raises(XlmtError, match=r"has format \d+, xlmt knows format 1: update xlmt"):
        mtwatch.parse(text)


@pytest.mark.parametrize("text", ["", "\n", "xen_mtwatch\n", "xen_mtwatch 1", "module state=on\n"])
def test_what_does_not_begin_as_a_status_does_is_an_error(text: str) -> None:
    with pytest.raises(XlmtError, match="does not begin with its format"):
        mtwatch.parse(text)


@given(st.integers(0, len(STATUS)))
def test_what_is_cut_off_gives_no_number_that_was_longer(length: int) -> None:
    try:
        status = mtwatch.parse(STATUS[:length])
    except XlmtError:
        assert length < len("xen_mtwatch 1\n")
        return
    assert status.module in {Module(), MODULE}
    assert status.xenwatch in {Xenwatch(), XENWATCH}
    assert status.domains in {(), (BUSY,), (BUSY, NEW)}


@given(st.lists(records).map("\n".join), st.text())
def test_odd_lines_are_no_reason_to_give_up(lines: str, end: str) -> None:
    mtwatch.parse(f"xen_mtwatch 1\n{lines}\n{end}")


@given(st.text())
def test_anything_else_is_a_status_or_an_error(text: str) -> None:
    with suppress(XlmtError):
        mtwatch.parse(text)


@pytest.mark.parametrize("number", ["-1", "+1", "1_0", "²", "0x10", "9" * 5000, "1.5"])
def test_what_is_no_number_is_none(number: str) -> None:
    assert mtwatch.parse(f"xen_mtwatch 1\nmodule threads={number}\n").module.threads is None


def test_a_record_without_a_domid_is_nobodys() -> None:
    assert mtwatch.parse("xen_mtwatch 1\ndomain domid=x pid=3\n").domains == ()


# --- with_doing ----------------------------------------------------------------------------


def test_a_thread_does_what_the_module_says_of_its_process() -> None:
    threads = {1: Thread("xen-mtwatch-1", 342, "D"), 2: Thread("xen-mtwatch-2", 343, "S")}
    found = mtwatch.with_doing(threads, mtwatch.parse(STATUS))
    assert found[1].doing == BUSY.doing
    assert found[2] == threads[2]


def test_a_thread_that_ended_lends_its_callback_to_nobody() -> None:
    thread = Thread("xen-mtwatch-1", 999, "S")
    assert mtwatch.with_doing({1: thread}, mtwatch.parse(STATUS)) == {1: thread}
