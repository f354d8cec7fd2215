# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests/debug_kernel, which CI has not the time for, has of the tests here."""

import inspect
from collections.abc import Callable

import pytest

from tests.debug_kernel.test_module import OF_A_THOUSAND, STOCK_TESTS


@pytest.mark.parametrize("test", STOCK_TESTS, ids=lambda test: test.__name__)
def test_each_borrowed_test_is_given_its_parameters(test: Callable[..., None]) -> None:
    assert {*inspect.signature(test).parameters} <= {"lab", "watches", *OF_A_THOUSAND}
