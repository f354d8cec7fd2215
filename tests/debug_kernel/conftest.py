# SPDX-License-Identifier: LGPL-2.1-or-later
"""The `lab` fixture: a Xen host on the debug kernel, which has been quiet after each test."""

from collections.abc import Iterator

import pytest

from tests.debug_kernel.module import unload
from tests.lab.dmesg import quiet
from tests.lab.kernels import DEBUG
from tests.lab.vm import Lab
from tests.lab.witness import leave_nothing


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab("c", kernel=DEBUG) as host:
        # A stall is made on purpose here, and nothing is fast.
        host.run("sysctl -w kernel.hung_task_timeout_secs=0", check=True)
        yield host


@pytest.fixture(autouse=True)
def _quiet(lab: Lab) -> Iterator[None]:
    with quiet(lab):
        yield
        leave_nothing(lab)
        unload(lab)
