# SPDX-License-Identifier: LGPL-2.1-or-later
"""The `lab` fixture: a Xen host on the debug kernel, which has been quiet after each test."""

from collections.abc import Iterator

import pytest

from tests.lab import dmesg, mtwatch
from tests.lab.debug_kernel import DEBUG
from tests.lab.mtwatch import NODES, Watches
from tests.lab.vm import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab("c", kernel=DEBUG, early=True) as host:
        host.run("dmesg -n 4", check=True)  # the console is slow
        yield host


@pytest.fixture(autouse=True)
def _quiet(lab: Lab) -> Iterator[None]:
    with dmesg.quiet(lab):
        yield
        lab.run(f"xenstore-rm {NODES}")


@pytest.fixture
def watches(lab: Lab) -> Iterator[Watches]:
    with mtwatch.watches(lab) as them:
        yield them


@pytest.fixture
def stalls_are_meant(lab: Lab) -> Iterator[None]:
    with dmesg.stalls_are_meant(lab):
        yield
