# SPDX-License-Identifier: LGPL-2.1-or-later
"""The `lab` fixture: one running Xen host per xenstored daemon, shared by the whole session.

pytest orders the tests by the fixture's parameter, so each host boots once, one at a time. A test
for one daemon only says @pytest.mark.parametrize("lab", ["c"], indirect=True).
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.lab.errors import LabUnavailable
from tests.lab.vm import Lab


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lab-alone", action="store_true", help="boot the lab without building xlmt for it"
    )


@pytest.fixture(scope="session", params=["c", "ocaml"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with ExitStack() as running:
        alone = bool(request.config.getoption("--lab-alone"))
        try:
            host = running.enter_context(Lab(request.param, product=not alone))
        except LabUnavailable as lack:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"the lab is unavailable: {lack}")
        yield host
