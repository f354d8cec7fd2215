# SPDX-License-Identifier: LGPL-2.1-or-later
"""What people and programs get to read."""

import json
import unicodedata
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.model import Life, Listing, Row, State, Thread
from xlmt.output import list_json, list_table, printable

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
rows = st.builds(
    Row,
    domid=st.integers(1, 32751),
    name=st.none() | texts,
    uuid=st.none() | texts,
    hypervisor=st.none() | st.sampled_from(Life),
    xenstore=maybe,
    node=maybe,
    state=st.none() | st.sampled_from(State),
    backends=st.lists(texts, max_size=3).map(tuple),
    thread=st.none() | st.builds(Thread, texts, st.integers(1), st.sampled_from("SDR")),
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
        ("caf\udce9", "caf\\xdce9"),  # a byte that was no UTF-8
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


def test_the_columns_are_aligned() -> None:
    gone = replace(ROW, domid=12345, name=None, node=False, state=State.MISSING, thread=None)
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
    held = replace(ROW, state=state, backends=("vbd-1-51712", "vif-1-0"))
    assert table(held)[1].endswith("the kernel still holds vbd-1-51712 vif-1-0")


def test_an_orphan_says_what_removes_it() -> None:
    assert table(replace(ROW, state=State.ORPHAN))[1].endswith("xlmt reconcile")


@pytest.mark.parametrize(("node", "shown"), [(True, "yes"), (False, "no"), (None, "?")])
def test_a_node_that_could_not_be_looked_for_is_a_question_mark(
    node: bool | None, shown: str
) -> None:
    assert table(replace(ROW, node=node))[1].split()[3] == shown


def test_a_state_that_cannot_be_told_says_so() -> None:
    unread = replace(ROW, state=None, backends=None)
    assert table(unread)[1].endswith("not everything could be read")
    assert table(unread)[1].split()[2] == "unknown"


def test_a_dying_domain_that_is_nobodys_concern_says_just_that() -> None:
    dying = replace(ROW, state=None, hypervisor=Life.DYING, node=False, backends=())
    assert table(dying)[1].split() == ["1", "web1", "dying", "no", "S", "812"]


def test_foreign_names_come_last_and_harmless() -> None:
    assert table(ROW, foreign=("a\x1bb",))[2] == "foreign  a\\x1bb  no domid; left alone"


# --- JSON ----------------------------------------------------------------------------------


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
                "thread": {"name": "xen-mtwatch-1", "pid": 812, "state": "S", "stalled_s": 0.0},
            }
        ],
        "foreign": ["abc"],
        "problems": ["it failed"],
    }


@given(listings)
def test_a_document_has_all_of_the_listing_and_only_ascii(listing: Listing) -> None:
    text = list_json(listing)
    assert text.isascii()
    read = json.loads(text)
    assert read["domains"] == [
        {**asdict(r), "backends": list(r.backends or ())} for r in listing.rows
    ]
    assert read["foreign"] == list(listing.foreign)
    assert read["problems"] == list(listing.problems)
