# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is guarded, as the kernel's own list of sockets has it: the supervisor's, and nobody else's.

That a guarded guest lends no packets is a matter for the lab: there is no netback here.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.conftest import lacking
from tests.stack.net import Net
from tests.stack.product import complaint, ok
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import log, look, start, supervising

#: What of this is xenstored's is the name of a guest.
pytestmark = pytest.mark.parametrize("daemon", ["c"])

FILE = "/var/lib/xlmt/guard.json"


@pytest.fixture
def net(stack: Stack) -> Iterator[Net]:
    if not shutil.which("ip"):
        lacking("ip (of iproute2)")
    with Net(stack) as net:
        yield net


def vifs(net: Net) -> dict[str, tuple[bool, bool]]:
    """Of each interface, whether it is to be guarded and whether it is, in xlmt's words."""
    rows = json.loads(net.xlmt("guard", "-o", "json").stdout)["vifs"]
    return {row["interface"]: (row["wanted"], row["guarded"]) for row in rows}


def test_a_vif_that_comes_is_guarded_at_once_and_one_that_goes_leaves_nothing(
    stack: Stack, net: Net
) -> None:
    first = net.add_vif(1)
    ok(net.xlmt("guard", "on", "-h"))
    with supervising(stack, within=net.within) as it:
        assert net.heard(it.pid) == set()
        assert ok(net.xlmt("guard", "on")).stdout == "guard: on for all guests\n"
        assert net.heard(it.pid) == {first}
        second = net.add_vif(2, "db")
        eventually(lambda: net.heard(it.pid) == {first, second}, timeout=5)
        net.rename_vif("db", "db1")
        net.remove_vif("vif1.0")
        eventually(lambda: net.heard(it.pid) == {second}, timeout=5)
        assert vifs(net) == {"db1": (True, True)}
        ok(net.xlmt("guard", "off"))
        assert net.heard(it.pid) == set()
    said = [line.partition("xlmt: ")[2] for line in log(stack).splitlines() if "guarding" in line]
    assert said == [
        "guarding vif1.0 of domain 1",
        "guarding db of domain 2",
        "no longer guarding db of domain 2",
    ]


def test_named_guests_are_guarded_by_whatever_domid_they_have(stack: Stack, net: Net) -> None:
    stack.add_domains([1, 2])
    one, two = net.add_vif(1), net.add_vif(2)
    with supervising(stack, within=net.within) as it:
        done = net.xlmt("guard", "on", "d3", "2")
        assert done.stdout == "guard: on for d2, d3 only\n"
        assert "no guest d3 is running: this is for when it starts" in complaint(done)
        assert net.heard(it.pid) == {two}
        stack.add_domains([3])
        three = net.add_vif(3)
        eventually(lambda: net.heard(it.pid) == {two, three}, timeout=5)
        ok(net.xlmt("guard", "off", "3"))
        assert net.heard(it.pid) == {two}
        ok(net.xlmt("guard", "on"))
        assert net.heard(it.pid) == {one, two, three}
        unknown = net.xlmt("guard", "on", "77")
        assert unknown.returncode == 1
        assert "domain 77 has no name" in complaint(unknown)


def test_without_a_supervisor_it_says_what_to_type_and_the_next_one_guards(
    stack: Stack, net: Net
) -> None:
    index = net.add_vif(1)
    alone = net.xlmt("guard", "on")
    assert alone.returncode == 3
    assert complaint(alone).endswith("systemctl start xlmt-supervise, or: xlmt supervise")
    assert vifs(net) == {"vif1.0": (True, False)}
    assert net.xlmt("guard").returncode == 3
    process = start(stack, within=net.within)
    eventually(lambda: net.heard(process.pid) == {index})
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert vifs(net) == {"vif1.0": (True, False)}
    with supervising(stack, within=net.within) as it:
        eventually(lambda: net.heard(it.pid) == {index})
        shown = ok(net.xlmt("guard")).stdout.splitlines()
        assert shown[0] == "guard: on for all guests"
        assert shown[2].split() == ["1", "-", "yes", "vif1.0"]


def test_a_bad_file_is_named_once_and_all_guests_are_guarded(stack: Stack, net: Net) -> None:
    index = net.add_vif(1)
    file = stack.path(FILE)
    file.write_bytes(b"\0on")
    with supervising(stack, within=net.within) as it:
        eventually(lambda: net.heard(it.pid) == {index})
        assert look(stack)
        assert log(stack).count(f"all guests are guarded: {FILE} is not valid") == 1
        refused = net.xlmt("guard", "on", "web1")
        assert refused.returncode == 1
        assert f"{FILE} is not valid" in complaint(refused)
        ok(net.xlmt("guard", "off"))
        assert net.heard(it.pid) == set()
        file.write_bytes(b"")
        assert look(stack)
        assert net.heard(it.pid) == set()  # what was in effect last
        assert f"the guard stays as is: {FILE} is not valid" in log(stack)


def test_a_list_shows_who_is_guarded_and_who_has_no_vif(stack: Stack, net: Net) -> None:
    stack.add_domains([1, 2, 3])
    net.add_vif(1)
    net.add_vif(2)
    ok_with_one_wrong = net.xlmt("guard", "on", "d1")
    assert ok_with_one_wrong.returncode == 3
    with supervising(stack, within=net.within):
        look(stack)
        rows = json.loads(ok(net.xlmt("list", "-o", "json")).stdout)["domains"]
        assert {row["domid"]: row["guarded"] for row in rows} == {1: True, 2: False, 3: None}
        table = ok(net.xlmt("list")).stdout.splitlines()
        assert [line.endswith("guarded") for line in table] == [False, True, False, False]


def test_a_worker_has_none_of_the_sockets(stack: Stack, net: Net) -> None:
    net.add_vif(7)
    net.xlmt("guard", "on")
    with supervising(stack, within=net.within) as it, stack.backends() as backends:
        config = stack.guest("g1", vif=["script=/bin/true"], on_poweroff="destroy")
        ok(stack.xlmt("create", "-q", config))
        backends.stall(1)
        stack.die(1)
        children = Path(f"/proc/{it.pid}/task/{it.pid}/children")
        worker = int(eventually(lambda: children.read_text().split())[0])
        eventually(lambda: b"supervise" in Path(f"/proc/{worker}/cmdline").read_bytes())
        eventually(lambda: net.heard(worker) == set())
        assert net.heard(it.pid)
        backends.release(1)


def test_many_that_come_while_the_supervisor_is_stopped_are_all_guarded(
    stack: Stack, net: Net
) -> None:
    """More than the kernel keeps events for, if it could be made to be so few."""
    net.xlmt("guard", "on")
    with supervising(stack, within=net.within) as it:
        it.send_signal(signal.SIGSTOP)
        indexes = {net.add_vif(domid) for domid in range(1, 30)}
        it.send_signal(signal.SIGCONT)
        eventually(lambda: net.heard(it.pid) == indexes, timeout=10)
