# SPDX-License-Identifier: LGPL-2.1-or-later
"""A test that Xen's own deadlines have decided is run once more, and the output says so.

libxl gives a backend ten seconds and a hotplug script forty, which is compiled in. On a machine
that has much else to do that may not be enough for an emulated CPU. It says nothing about xlmt.
"""

import re
from collections.abc import Generator

import pytest
from _pytest.runner import runtestprotocol

from tests.lab.errors import CommandFailed

#: What libxl says then, on a command that was to succeed.
GAVE_UP = re.compile(r"unable to (add|remove) device with path|because of timeout")
LATE = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, CommandFailed) and (said := GAVE_UP.search(str(error))):
        item.stash[LATE] = said[0]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if said := item.stash.get(LATE, None):
        _tell(item, f"run once more, as libxl's own deadline had passed: {said!r}")
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
