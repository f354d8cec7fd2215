# SPDX-License-Identifier: LGPL-2.1-or-later
"""The `lab` fixture: a running Xen host, shared by the whole session.

Usually it is of the release that $XLMT_LAB_RELEASE names, or the newest, and has the C xenstored; a
test for another daemon or release says so with a mark of hosts.py. The tests are ordered by host,
so that each boots once, one at a time. What leaves a host unfit for others says
@pytest.mark.ends_host.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab import mtwatch
from tests.lab.errors import LabUnavailable
from tests.lab.newest import NEWEST
from tests.lab.release import chosen, named
from tests.lab.repeat import pytest_runtest_makereport, pytest_runtest_protocol  # noqa: F401
from tests.lab.table import pytest_terminal_summary  # noqa: F401
from tests.lab.upstream_kernel import UPSTREAM
from tests.lab.vm import Lab


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lab-alone", action="store_true", help="boot the lab without building xlmt for it"
    )


KERNELS = {"newest": NEWEST, "upstream": UPSTREAM}
HERE = Path(__file__).parent
# For what hangs: a test that is only slow, on a machine with much else to do, is to pass.
DEADLINE_S = 2400


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # pytest itself orders by a parameter's place in its list, and each test has its own list.
    items.sort(key=lambda item: (_host(item), item.get_closest_marker("ends_host") is not None))
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(DEADLINE_S))


def _host(item: pytest.Item) -> str:
    parameters = (
        item.callspec.params
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else {}
    )
    return str(parameters.get("lab", ""))


@pytest.fixture(scope="session", params=["c"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    daemon, *kind = request.param.split("-")
    kernels = [KERNELS[word] for word in kind if word in KERNELS]
    release = [word for word in kind if word not in {"one", "pvh", "systemd", *KERNELS}]
    with ExitStack() as running:
        alone = bool(request.config.getoption("--lab-alone"))
        host = Lab(
            daemon,
            release=named(*release) if release else chosen(),
            kernel=kernels[0] if kernels else None,
            product=not alone,
            systemd="systemd" in kind,
            cpus=1 if {"one", "pvh"} & {*kind} else 2,
            pvh="pvh" in kind,
        )
        try:
            running.enter_context(host)
        except LabUnavailable as lack:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"the lab is unavailable: {lack}")
        yield host


@pytest.fixture
def watches(lab: Lab) -> Iterator[mtwatch.Watches]:
    with mtwatch.watches(lab) as them:
        yield them


@pytest.fixture
def nodes_by_hand(lab: Lab) -> Iterator[None]:
    """There are no guests, and no node is left."""
    lab.run("dmesg -n 4")  # the console is slow
    yield
    lab.run(f"xenstore-rm {mtwatch.NODES}")
