# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names and places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt import paths


@given(st.integers(1, 32751))
def test_a_domid_is_read_back(domid: int) -> None:
    assert paths.parse_domid(str(domid)) == domid


def test_the_range_ends_where_xen_reserves_domids() -> None:
    assert [paths.parse_domid(text) for text in ("1", "32751", "32752")] == [1, 32751, None]


@given(st.integers().filter(lambda n: not 1 <= n <= 32751))
def test_a_number_that_no_guest_can_have_is_no_domid(number: int) -> None:
    assert paths.parse_domid(str(number)) is None


@pytest.mark.parametrize(
    "text",
    ["", "0", "00", "007", "01", "+1", "-1", " 1", "1 ", "1\n", "1.0", "1e3", "0x1", "1_0", "abc"],
)
def test_what_is_not_spelt_as_a_domid_is_none(text: str) -> None:
    assert paths.parse_domid(text) is None


@pytest.mark.parametrize("text", ["١", "1²", "１", "9" * 5000])
def test_other_digits_and_very_many_digits_are_no_domid(text: str) -> None:
    assert paths.parse_domid(text) is None


@given(st.text(st.sampled_from("0123456789+-_ \nx٣")))
def test_there_is_one_spelling_of_each_domid(text: str) -> None:
    domid = paths.parse_domid(text)
    assert domid is None or str(domid) == text


def test_the_contract_s_paths() -> None:
    assert paths.node(7) == "/local/domain/0/mtwatch/7"
    assert paths.domain(7) == "/local/domain/7"
    assert paths.NODE_PERMS == ("n0",)
