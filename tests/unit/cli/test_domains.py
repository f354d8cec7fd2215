# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of create's arguments is the configuration, and which are settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.cli.domains import _sort_out
from xlmt.errors import UsageError

settings = st.lists(st.tuples(st.text("abc_"), st.text()).map("=".join), max_size=4)
names = st.text(min_size=1).filter(lambda text: "=" not in text)


@given(names, settings, settings)
def test_the_one_without_an_equals_sign_is_the_configuration_wherever_it_stands(
    config: str, before: list[str], after: list[str]
) -> None:
    assert _sort_out([*before, config, *after], None) == (config, before + after)


@given(st.text(min_size=1), settings)
def test_the_option_s_file_may_have_an_equals_sign(file: str, overrides: list[str]) -> None:
    assert _sort_out(overrides, file) == (file, overrides)


def test_settings_keep_their_order_and_their_equals_signs() -> None:
    arguments = ["b=1", "web1.cfg", "a=x=y", "b=2"]
    assert _sort_out(arguments, None) == ("web1.cfg", ["b=1", "a=x=y", "b=2"])


@pytest.mark.parametrize("arguments", [[], ["memory=16"]])
def test_no_configuration_is_an_error(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="one configuration file, none given"):
        _sort_out(arguments, None)


def test_two_configurations_are_an_error_that_names_both() -> None:
    with pytest.raises(UsageError, match=r"more than one: a\.cfg, b\.cfg"):
        _sort_out(["a.cfg", "b.cfg"], None)
    with pytest.raises(UsageError, match=r"more than one: a\.cfg, b\.cfg"):
        _sort_out(["b.cfg"], "a.cfg")
