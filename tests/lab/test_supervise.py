# SPDX-License-Identifier: LGPL-2.1-or-later
"""The supervisor on a real Xen. Witnesses: xenstored's own log, the hypervisor's own list."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.test_xlmt import NO_VIF, PV
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, domids, leave_nothing, nodes, states, trace, wait_gone
from tests.stack.product import assert_node_came_first, assert_node_went_last
from tests.stack.storm import nodes_lost
from tests.stack.trace import Request, writes

#: A creation takes some seconds in the emulator, a reboot a quarter of a minute.
ROUNDS = int(os.environ.get("XLMT_LAB_ROUNDS", "1"))
LOG = "/run/lab/supervise.log"
MTWATCH = "/local/domain/0/mtwatch"


@pytest.fixture(autouse=True)
def _no_guests_left(lab: Lab) -> Iterator[None]:
    yield
    leave_nothing(lab)


@contextmanager
def supervising(lab: Lab, options: str = "") -> Iterator[None]:
    """A supervisor that is up for the block."""
    lab.run(f"rm -f {LOG}")  # or the last one's would say that this one is
    it = lab.spawn(f"exec xlmt supervise --replace {options} > {LOG} 2>&1")
    lab.wait_for(f"grep -q 'supervising this host' {LOG}", 60)
    try:
        yield
    finally:
        lab.run("kill $(cat /run/xlmt/supervise.pid)")
        assert it.wait(30).rc == 0, lab.read(LOG)
        assert "Traceback" not in lab.read(LOG)


def first(log: list[Request], op: str, path: str) -> int:
    return next(
        i for i, r in enumerate(log) if r.op == op and re.fullmatch(path, r.path) and not r.error
    )


def test_a_guest_of_plain_xl_has_its_node_before_its_first_backend(lab: Lab) -> None:
    with supervising(lab):
        for _ in range(ROUNDS):
            lab.run(f"xl create -pe {PV}", 120, check=True)
            domid = domid_of(lab, "demo-pv")
            log = writes(trace(lab))
            made = first(log, "MKDIR", f"{MTWATCH}/{domid}")
            backend = rf"/local/domain/0/backend/\w+/{domid}(/.*)?"
            assert made < min(first(log, op, backend) for op in ("MKDIR", "WRITE"))
            assert states(lab) == {domid: "ok"}
            lab.run("xl destroy demo-pv", 120, check=True)
            lab.wait_for(f"! xenstore-list {MTWATCH} | grep .", 30)
            its_own = re.compile(rf"(/local/domain|/libxl|/local/domain/0/mtwatch)/{domid}(/|$)")
            last = [r for r in writes(trace(lab)) if its_own.match(r.path) and not r.error][-1]
            assert (last.op, last.path) == ("RM", f"{MTWATCH}/{domid}")
            wait_gone(lab)


@pytest.mark.long
def test_a_guest_that_reboots_again_and_again_has_one_node_and_leaves_no_process(lab: Lab) -> None:
    extra = "'extra=\"console=hvc0 quiet xlmt.do=reboot xlmt.after=1\"'"
    with supervising(lab, "--restart-limit 0"):
        lab.run(f"xlmt create {NO_VIF} {extra}", 120, check=True)
        first_domid = domid_of(lab, "demo-pv")
        lab.wait_for(f"[ $(grep -c 'is restarted as' {LOG}) -ge {ROUNDS} ]", 60 * ROUNDS)
        # It may be between two lives just now, and then there is nothing to destroy.
        nothing_left = '[ $(xendoms | wc -l) = 1 ] && [ -z "$(ls /run/xlmt/jobs)" ]'
        lab.wait_for(f"xlmt destroy demo-pv; {nothing_left}", 180)
        lab.wait_for("[ $(pgrep -fc 'bin/xlmt[ ]supervise') = 1 ]", 30)
        assert lab.run("pgrep -x xl").rc == 1
        log = trace(lab)
        for domid in range(first_domid, first_domid + ROUNDS + 1):
            assert_node_came_first(log, domid)
            assert_node_went_last(log, domid)
        assert nodes_lost(log) == []
        assert nodes(lab) == set()
        assert lab.run("ls /run/xlmt/jobs").out == ""


@pytest.mark.long
def test_a_supervisor_that_is_killed_in_a_reboot_brings_the_guest_back_once(lab: Lab) -> None:
    extra = "'extra=\"console=hvc0 quiet xlmt.do=reboot xlmt.after=1\"'"
    start = f"exec xlmt supervise --restart-limit 0 >> {LOG} 2>&1"
    lab.run(f"rm -f {LOG}")
    lab.spawn(start)
    lab.run(f"xlmt create {NO_VIF} {extra}", 120, check=True)
    domid = domid_of(lab, "demo-pv")
    lab.wait_for(f"grep -q '(domain {domid}) has shut down' {LOG}", 120)
    lab.run("pkill -KILL -f 'bin/xlmt[ ]supervise'", check=True)  # and what it has forked
    with supervising(lab, "--restart-limit 1"):
        lab.wait_for("xl domid demo-pv", 120)
        back = domid_of(lab, "demo-pv")
        assert back > domid
        lab.wait_for(f"xenstore-exists {MTWATCH}/{back}", 60)
        assert domids(lab) <= {back}
        assert_node_came_first(trace(lab), back)
    assert "another process" not in lab.read(LOG)
