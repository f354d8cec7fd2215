# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rarer ways to a domain than `create`, on a real Xen: migration, and a domid of one's own."""

from collections.abc import Iterator

import pytest

from tests.lab.hosts import ONE_CPU
from tests.lab.vm import Lab
from tests.lab.witness import (
    domid_of,
    domids,
    leave_nothing,
    nodes,
    states,
    trace,
    wait_gone,
    wait_up,
)
from tests.stack.product import NODES, assert_node_came_first, assert_node_went_last
from tests.stack.trace import writes

PVH = "demo-pvh"
MIGRATE = f"xlmt xl migrate %s -s '' {PVH} 'exec xlmt xl migrate-receive'"

PRESET = """\
import sys
from xlmt.domains import lifecycle as domain, xl
from xlmt.errors import XlmtError
from xlmt.libxl import Context
from xlmt.xenstore import Store

name, domid = sys.argv[1:]
config = xl.parse("/etc/xen/demo-pv.cfg", ["vif=[]", f'name="{name}"'])
config["c_info"]["domid"] = int(domid)
try:
    with Store() as store, Context() as ctx:
        print(domain.create(ctx, store, config))
except XlmtError as error:
    sys.exit(str(error))
"""


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    yield
    leave_nothing(lab)


@pytest.mark.long
@ONE_CPU
def test_a_migration_makes_the_new_node_first_and_takes_the_old_one_last(lab: Lab) -> None:
    """And one that fails leaves the guest and its node.

    A PVH guest: Debian's Xen is built without what a live migration of a PV guest needs.
    """
    lab.run(f"xlmt xl create /etc/xen/{PVH}.cfg 'vif=[]'", 120, check=True)
    old = domid_of(lab, PVH)
    wait_up(lab, PVH)
    before = len(trace(lab))
    failed = lab.run(MIGRATE % "-D", 120)  # to keep the domid, which is in use here
    assert failed.rc != 0
    assert "File exists" in failed.err
    assert nodes(lab) == {old} == domids(lab)
    assert domid_of(lab, PVH) == old
    assert changes_of_nodes(lab, before) == []
    lab.run(MIGRATE % "", 120, check=True)
    new = domid_of(lab, PVH)
    assert new != old
    log = trace(lab)
    assert_node_came_first(log, new)
    assert_node_went_last(log, old)
    assert nodes(lab) == {new} == domids(lab)
    assert states(lab) == {new: "ok"}
    lab.run(f"xl shutdown -w {PVH}", 240, check=True)  # by its own hand: it runs there


def changes_of_nodes(lab: Lab, since: int) -> list[str]:
    return [r.path for r in writes(trace(lab)[since:]) if r.path.startswith(NODES)]


@pytest.mark.long
def test_a_domid_of_ones_own_has_its_node_first_and_is_refused_to_others(lab: Lab) -> None:
    create = f"/opt/xlmt/bin/python {lab.push('/tmp/preset.py', PRESET)}"
    assert lab.run(f"{create} mine 77", 120, check=True).out == "77\n"
    assert_node_came_first(trace(lab), 77)
    assert states(lab) == {77: "ok"}
    before = len(trace(lab))
    refused(lab, f"{create} yours 77", "File exists")
    assert domids(lab) == {77} == nodes(lab)
    assert changes_of_nodes(lab, before) == []
    lab.run("xlmt destroy mine", 120, check=True)
    refused(lab, f"{create} yours 77", "recently used")
    assert_node_went_last(trace(lab), 77)
    assert nodes(lab) == set()
    wait_gone(lab)


def refused(lab: Lab, command: str, why: str) -> None:
    failed = lab.run(command, 120)
    assert (failed.rc, failed.out) == (1, "")
    assert why in failed.err
