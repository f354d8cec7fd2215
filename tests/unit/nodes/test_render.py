# SPDX-License-Identifier: LGPL-2.1-or-later
"""What people and programs get to read."""

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.model import Doing, ShutdownReason, Thread
from xlmt.nodes.model import Action, Kept, Life, Listing, Outcome, Plan, Result, Row, State, Verb
from xlmt.nodes.render import list_json, list_table, outcome_line, plan_json, untouched_line
from xlmt.text import duration, printable

ROW = Row(
    domid=1,
    name="web1",
    uuid="e2302703-acfa-4802-ad30-276005142263",
    hypervisor=Life.ALIVE,
    xenstore=True,
    node=True,
    state=State.OK,
    backends=("vbd-1-51712",),
    thread=Thread("xen-mtwatch-1", 812, "S"),
)
#: As xenstore may have it: any characters, lone surrogates for what was no UTF-8.
texts = st.text(st.characters())
maybe = st.sampled_from([True, False, None])
doings = st.builds(Doing, texts, st.none() | texts, st.floats(0, 1e9), st.none() | st.integers(0))
rows = st.builds(
    Row,
    domid=st.integers(1, 32751),
    name=st.none() | texts,
    uuid=st.none() | texts,
    hypervisor=st.none() | st.sampled_from(Life),
    xenstore=maybe,
    node=maybe,
    state=st.none() | st.sampled_from([s for s in State if s is not State.FOREIGN]),
    backends=st.lists(texts, max_size=3).map(tuple),
    thread=st.none()
    | st.builds(
        Thread, texts, st.integers(1), st.sampled_from("SDR"), st.just(0.0), st.none() | doings
    ),
)
listings = st.builds(
    Listing,
    rows=st.lists(rows, max_size=5).map(tuple),
    foreign=st.lists(texts, max_size=3).map(tuple),
    problems=st.lists(texts, max_size=3).map(tuple),
)


def table(*wanted: Row, foreign: tuple[str, ...] = ()) -> list[str]:
    return list_table(Listing(wanted, foreign, ())).split("\n")


def harmless(text: str) -> bool:
    """No control, format, surrogate, private or separator character but the plain space."""
    return all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in text)


# --- printable -----------------------------------------------------------------------------


@given(texts)
def test_no_name_can_command_a_terminal(name: str) -> None:
    assert harmless(printable(name))


@given(texts, st.integers(1, 80))
def test_a_name_is_never_too_long(name: str, longest: int) -> None:
    assert len(printable(name, longest)) <= longest


@given(st.text("abcäß -_.:/é漢", max_size=60))
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc\0", "a\\x0ab\\x09c\\x00"),
        ("\x9b31m", "\\x9b31m"),  # CSI in one character
        ("\u202eevil", "\\x202eevil"),  # turns the direction of the text round
        ("caf\udce9", "caf\\xe9"),  # a byte that was no UTF-8
    ],
)
def test_a_bad_character_is_shown_by_its_number(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_a_name_that_was_cut_shows_it() -> None:
    assert printable("x" * 60) == "x" * 60
    assert printable("x" * 61) == "x" * 59 + "…"


# --- the table -----------------------------------------------------------------------------


def test_a_table_of_nothing_is_its_head() -> None:
    assert table() == ["DOMID  NAME  STATE  NODE  THREAD"]


def test_what_a_thread_does_stands_behind_it() -> None:
    doing = Doing("frontend_changed", "/local/domain/1/device/vif/0/state", 24.8, 6)
    row = ROW._replace(thread=Thread("xen-mtwatch-1", 812, "D", 24.8, doing))
    assert table(row)[1].endswith("yes   D 812 frontend_changed 24.8 s")


def test_the_columns_are_aligned() -> None:
    gone = ROW._replace(domid=12345, name=None, node=False, state=State.MISSING, thread=None)
    assert table(ROW, gone) == [
        "DOMID  NAME  STATE    NODE  THREAD",
        "1      web1  ok       yes   S 812",
        "12345  -     missing  no    -       has no node: xlmt repair 12345",
    ]


def columns_from(line: str, start: int) -> str:
    """The line from that column of a terminal on: wide characters take two, combining ones none."""
    while start > 0 or unicodedata.category(line[0]) in {"Mn", "Me"}:
        if unicodedata.category(line[0]) not in {"Mn", "Me"}:
            start -= 2 if unicodedata.east_asian_width(line[0]) in {"W", "F"} else 1
        line = line[1:]
    return line


@given(listings)
def test_every_column_starts_where_its_title_does(listing: Listing) -> None:
    head, *lines = list_table(listing).split("\n")
    for line, row in zip(lines, listing.rows, strict=False):
        assert line.startswith(f"{row.domid} ")
        assert columns_from(line, head.index("STATE")).split()[0] in (row.state or "unknown dying")
        assert columns_from(line, head.index("NODE")).split()[0] in ("yes", "no", "?")


@given(listings)
def test_nothing_in_a_table_can_command_a_terminal(listing: Listing) -> None:
    lines = list_table(listing).split("\n")
    assert len(lines) == 1 + len(listing.rows) + len(listing.foreign)
    assert all(harmless(line) for line in lines)


@pytest.mark.parametrize("state", [State.LINGERING, State.UNPROTECTED])
def test_what_the_kernel_holds_is_named(state: State) -> None:
    held = ROW._replace(state=state, backends=("vbd-1-51712", "vif-1-0"))
    assert table(held)[1].endswith("the kernel still holds vbd-1-51712 vif-1-0")


def test_only_a_domain_that_has_never_run_is_to_be_destroyed() -> None:
    stuck = ROW._replace(state=State.TRANSITION)
    assert "destroy 1" in table(stuck._replace(half_made=True))[1]
    assert "destroy 1" not in table(stuck)[1]


def test_an_orphan_says_what_removes_it() -> None:
    assert table(ROW._replace(state=State.ORPHAN))[1].endswith("xlmt reconcile")


@pytest.mark.parametrize(("node", "shown"), [(True, "yes"), (False, "no"), (None, "?")])
def test_a_node_that_could_not_be_looked_for_is_a_question_mark(
    node: bool | None, shown: str
) -> None:
    assert table(ROW._replace(node=node))[1].split()[3] == shown


def test_a_state_that_cannot_be_told_says_so() -> None:
    unread = ROW._replace(state=None, backends=None)
    assert table(unread)[1].endswith("not everything could be read")
    assert table(unread)[1].split()[2] == "unknown"


def test_a_dying_domain_that_is_nobodys_concern_says_just_that() -> None:
    dying = ROW._replace(state=None, hypervisor=Life.DYING, node=False, backends=())
    assert table(dying)[1].split() == ["1", "web1", "dying", "no", "S", "812"]


def test_foreign_names_come_last_and_harmless() -> None:
    assert table(ROW, foreign=("a\x1bb",))[2] == "foreign  a\\x1bb  no domid; left alone"


# --- the table on a terminal ---------------------------------------------------------------


def on_screen(*wanted: Row, columns: int = 80, lines: int = 24) -> list[str]:
    return list_table(Listing(wanted, (), ()), screen=(columns, lines)).split("\n")


def shown_width(line: str) -> int:
    wide = sum(unicodedata.east_asian_width(c) in {"W", "F"} for c in line)
    return len(line) + wide - sum(unicodedata.category(c) in {"Mn", "Me"} for c in line)


@given(listings, st.integers(20, 200), st.integers(1, 30))
def test_no_line_is_wider_than_the_terminal(listing: Listing, columns: int, lines: int) -> None:
    for line in list_table(listing, screen=(columns, lines)).split("\n"):
        assert shown_width(line) <= columns


def test_long_names_give_way_to_what_is_wrong() -> None:
    bad = ROW._replace(name="n" * 60, state=State.MISSING, node=False)
    _, line = on_screen(bad, columns=80)
    assert line.endswith("has no node: xlmt repair 1")
    assert "nnnnnnn…" in line


def test_wide_characters_take_two_columns() -> None:
    _, *lines = on_screen(ROW._replace(name="漢字"), ROW)
    assert [line.index("ok") for line in lines] == [13 - 2, 13]


def test_what_is_wrong_comes_first_where_not_all_fits_the_screen() -> None:
    rows = [ROW._replace(domid=d) for d in range(1, 31)]
    rows[28] = rows[28]._replace(state=State.ORPHAN)
    table = on_screen(*rows, lines=24)
    assert [line.split()[0] for line in table[1:4]] == ["29", "1", "2"]
    assert table[-1] == "30 domids: 1 orphan, 29 ok"
    assert len(table) == 32


def test_what_fits_the_screen_is_by_domid_and_has_no_summary() -> None:
    rows = (ROW, ROW._replace(domid=2, state=State.ORPHAN))
    assert [line.split()[0] for line in on_screen(*rows)] == ["DOMID", "1", "2"]


def test_states_are_coloured_and_nothing_else() -> None:
    rows = (ROW, ROW._replace(domid=2, name="ok", state=State.ORPHAN))
    table = list_table(Listing(rows, ("ok",), ()), colour=True)
    assert table.split("\n")[1:] == [
        "1      web1  \x1b[32mok\x1b[0m      yes   S 812",
        "2      ok    \x1b[33morphan\x1b[0m  yes   S 812   "
        "gone, its node is left over: xlmt reconcile",
        "foreign  ok  no domid; left alone",
    ]


@given(listings, st.none() | st.tuples(st.integers(20, 200), st.integers(1, 30)))
def test_colour_changes_no_character(listing: Listing, screen: tuple[int, int] | None) -> None:
    painted = list_table(listing, screen=screen, colour=True)
    assert re.sub(r"\x1b\[[0-9]*m", "", painted) == list_table(listing, screen=screen)


@given(listings)
def test_every_state_has_its_colour(listing: Listing) -> None:
    painted = list_table(listing, colour=True)
    assert painted.count("\x1b[0m") == len(listing.rows)
    assert painted.count("\x1b") == 2 * len(listing.rows)


# --- repair, reconcile ---------------------------------------------------------------------

ADD = Action(Verb.ADD, "7", 7, State.MISSING, "a\x1b (domain 7) runs without a node")
REMOVE = Action(Verb.REMOVE, "9", 9, State.ORPHAN, "domain 9 is gone")
PRUNE = Action(Verb.REMOVE, "a\nb", None, State.FOREIGN, "it is no domid of a guest")


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome(ADD, Result.DONE), "node 7 added: a\\x1b (domain 7) runs without a node"),
        (Outcome(ADD, Result.PLANNED), "node 7 to be added: a\\x1b (domain 7) runs without a node"),
        (Outcome(REMOVE, Result.DONE), "node 9 removed: domain 9 is gone"),
        (Outcome(REMOVE, Result.FAILED, "no\nway"), "node 9 not removed: no\\x0away"),
        (Outcome(REMOVE, Result.CONFLICT, "too busy"), "node 9 not removed: too busy"),
        (Outcome(PRUNE, Result.DONE), "node a\\x0ab removed: it is no domid of a guest"),
    ],
)
def test_an_outcome_is_one_harmless_line(outcome: Outcome, line: str) -> None:
    assert outcome_line(outcome) == line


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (ROW, "node 1 in order"),
        (
            ROW._replace(state=State.TRANSITION),
            "node 1 unchanged: the domain is being created or destroyed; try again",
        ),
        (
            ROW._replace(state=State.LINGERING, backends=("vif-1-0", "vbd-1-51712")),
            "node 1 kept: the domain is gone, but the kernel still holds vif-1-0, vbd-1-51712",
        ),
        (
            ROW._replace(state=None, node=False, hypervisor=Life.DYING, backends=()),
            "node 1 not added: the domain is dying",
        ),
        (
            ROW._replace(state=State.UNPROTECTED, node=False, backends=("vif-1-0",)),
            "node 1 not added: the domain is gone; the kernel still holds vif-1-0",
        ),
        (
            ROW._replace(state=None, backends=None),
            "node 1 unchanged: not everything could be read",
        ),
    ],
)
def test_repair_says_why_it_leaves_a_node_as_it_is(row: Row, line: str) -> None:
    assert untouched_line(row) == line


def test_the_document_of_a_pass_has_the_promised_fields() -> None:
    outcomes = [
        Outcome(ADD, Result.DONE),
        Outcome(PRUNE, Result.UNNEEDED),
        Outcome(REMOVE, Result.FAILED, "no way"),
    ]
    plan = Plan(
        actions=(ADD, REMOVE, PRUNE),
        kept=(Kept(10, State.LINGERING, "the kernel"),),
        foreign=("abc",),
        refusal="too many",
        complete=False,
        problems=("it failed",),
    )
    assert json.loads(plan_json(plan, outcomes, dry_run=True)) == {
        "schema": 1,
        "actions": [
            {
                "domid": 7,
                "node": "7",
                "action": "add",
                "state": "missing",
                "reason": "a\x1b (domain 7) runs without a node",
                "result": "done",
                "error": None,
            },
            {
                "domid": 9,
                "node": "9",
                "action": "remove",
                "state": "orphan",
                "reason": "domain 9 is gone",
                "result": "failed",
                "error": "no way",
            },
        ],
        "kept": [{"domid": 10, "state": "lingering", "reason": "the kernel"}],
        "foreign": ["abc"],
        "refused": True,
        "complete": False,
        "problems": ["it failed"],
        "dry_run": True,
    }


# --- JSON ----------------------------------------------------------------------------------


def test_a_program_reads_what_a_thread_does() -> None:
    doing = Doing("frontend_changed", "backend/vif/1/0", 24.8, 6)
    row = ROW._replace(thread=Thread("xen-mtwatch-1", 812, "D", 24.8, doing))
    document = json.loads(list_json(Listing((row,), (), ())))
    assert document["domains"][0]["thread"]["doing"] == {
        "callback": "frontend_changed",
        "path": "backend/vif/1/0",
        "age_s": 24.8,
        "depth": 6,
    }


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (119.94, "119.9 s"),
        (120, "2 min 0 s"),
        (725.9, "12 min 5 s"),
        (7199, "119 min 59 s"),
        (7200, "2 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_a_duration_is_told_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_document_has_the_promised_fields() -> None:
    assert json.loads(list_json(Listing((ROW,), ("abc",), ("it failed",)))) == {
        "schema": 1,
        "domains": [
            {
                "domid": 1,
                "name": "web1",
                "uuid": "e2302703-acfa-4802-ad30-276005142263",
                "hypervisor": "alive",
                "xenstore": True,
                "node": True,
                "state": "ok",
                "backends": ["vbd-1-51712"],
                "thread": {
                    "name": "xen-mtwatch-1",
                    "pid": 812,
                    "state": "S",
                    "stalled_s": 0.0,
                    "doing": None,
                },
                "shutdown": None,
                "guarded": None,
            }
        ],
        "foreign": ["abc"],
        "problems": ["it failed"],
    }


def as_document(value: Any) -> Any:
    """The value as JSON has it: objects for what has named fields, arrays for other tuples."""
    if hasattr(value, "_asdict"):
        return {key: as_document(held) for key, held in value._asdict().items()}
    return list(map(as_document, value)) if isinstance(value, tuple) else value


@given(listings)
def test_a_document_has_all_of_the_listing_and_only_ascii(listing: Listing) -> None:
    text = list_json(listing)
    assert text.isascii()
    read = json.loads(text)
    rows = as_document(listing.rows)
    assert read["domains"] == [{k: v for k, v in row.items() if k != "half_made"} for row in rows]
    assert read["foreign"] == list(listing.foreign)
    assert read["problems"] == list(listing.problems)


def test_a_guarded_guest_is_said_to_be_in_a_word() -> None:
    rows = [ROW._replace(thread=None, guarded=guarded) for guarded in (True, False, None)]
    shown = list_table(Listing(tuple(rows), (), ())).splitlines()[1:]
    assert [line.split()[5:] for line in shown] == [["guarded"], [], []]
    down = rows[0]._replace(shutdown=ShutdownReason.POWEROFF)
    assert list_table(Listing((down,), (), ())).endswith("has shut down: poweroff")
