# SPDX-License-Identifier: LGPL-2.1-or-later
"""A test that the lab itself has decided is run again, and the output says so.

libxl gives a backend ten seconds and a hotplug script forty, which is compiled in. On a machine
that has much else to do that may not be enough for an emulated CPU. And in that CPU one HVM guest
in some falls over by a triple fault. Neither says anything about xlmt.
"""

import re
from collections.abc import Generator

import pytest
from _pytest.runner import runtestprotocol

from tests.lab.errors import CommandFailed, TripleFault

#: What libxl says then, on a command that was to succeed.
GAVE_UP = re.compile(r"unable to (add|remove) device with path|because of timeout")
#: Why a test is run again, and how often for that reason it may be.
DECIDED = pytest.StashKey[tuple[str, int]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, CommandFailed) and (said := GAVE_UP.search(str(error))):
        item.stash[DECIDED] = f"libxl's own deadline had passed: {said[0]!r}", 1
    elif isinstance(error, TripleFault):
        item.stash[DECIDED] = f"a guest fell over in this emulator: {error}", 3
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    again = 0
    while (decided := item.stash.get(DECIDED, None)) and again < decided[1]:
        again += 1
        _tell(item, f"run again, as {decided[0]}")
        del item.stash[DECIDED]
        item._initrequest()  # type: ignore[attr-defined]  # as for a test that has not run
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _tell(item: pytest.Item, text: str) -> None:
    terminal = item.config.pluginmanager.get_plugin("terminalreporter")
    if terminal:
        terminal.ensure_newline()
        terminal.write_line(f"{item.nodeid}: {text}")
