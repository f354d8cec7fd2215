# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that is stuck loads the module by itself, if its administrator wants that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.dmesg import quiet, stalls_are_meant
from tests.lab.hosts import BOTH_RELEASES
from tests.lab.mtwatch import unload, wait_status
from tests.lab.stall import DiskStall
from tests.lab.test_supervise import LOG, supervising
from tests.lab.vm import Lab
from tests.lab.witness import leave_nothing

PV = "/etc/xen/demo-pv.cfg"
RECORD = "/run/xlmt/rescue.json"


@pytest.fixture(autouse=True)
def _nothing_left(lab: Lab) -> Iterator[None]:
    lab.run(f"rm -f {RECORD}", check=True)
    with quiet(lab), stalls_are_meant(lab):
        yield
        leave_nothing(lab)
        lab.run(f"rm -f {RECORD}", check=True)


@pytest.mark.long
@BOTH_RELEASES
def test_a_stuck_host_rescues_itself_once(lab: Lab) -> None:
    with supervising(lab, "--rescue"), DiskStall(lab) as stall:
        destroying = lab.spawn(f"xl destroy {stall.name}")
        stall.wait_begun()
        lab.wait_for(f"grep 'xenwatch is stuck: new guests work now' {LOG}", 120)
        assert re.search(r"xenwatch has been stuck for [67]\d\.\d s: loading", lab.read(LOG))
        record = json.loads(lab.read(RECORD))
        assert (record["result"], record["reason"]) == ("loaded", None)
        assert record["stalled_s"] >= 60
        lab.run(f"xlmt create {PV}", 180, check=True)
        lab.run("xlmt destroy demo-pv", 120, check=True)
        stall.release()
        destroying.wait(120)
        wait_status(lab, "^module .* partial=0 ", 60)
        unload(lab)
        assert lab.read(LOG).count("loading xen_mtwatch") == 1
