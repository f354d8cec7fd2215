# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nothing is ever taken from a living domain, and one pass afterwards puts all right."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.stack.conftest import require
from tests.stack.daemon import Daemon
from tests.stack.product import ok
from tests.stack.stack import MTWATCH, Stack
from tests.stack.storm import Observer, Storm, nodes_lost
from tests.stack.trace import Request

STEPS = int(os.environ.get("XLMT_STORM_STEPS", "300"))
SEED = int(os.environ.get("XLMT_STORM_SEED", str(random.randrange(1 << 32))))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("daemon", "test_eagain"),
    [("c", False), ("ocaml", False), ("ocaml", True)],
    ids=["c", "ocaml", "ocaml-eagain"],
)
def test_a_storm(daemon: Daemon, test_eagain: bool, tmp_path: Path) -> None:
    require(daemon)
    print(f"XLMT_STORM_SEED={SEED} XLMT_STORM_STEPS={STEPS}")
    with Stack(daemon, workdir=tmp_path / "stack", test_eagain=test_eagain) as stack:
        observer, storm = Observer(stack), Storm(stack, SEED, STEPS)
        observer.start()
        storm.run()
        observer.stop()
        print(storm.done, storm.reconciled, f"{storm.passes} passes, {observer.looks} looks")
        assert observer.violations == []
        assert storm.reconciled["add done"] > STEPS / 50
        assert storm.reconciled["remove done"] > STEPS / 50
        assert observer.looks > 50
        storm.calm()
        ok(stack.xlmt("reconcile", "--force"))
        assert_all_is_right(stack)
        assert nodes_lost(stack.trace()) == []


def assert_all_is_right(stack: Stack) -> None:
    """By the hypervisor's files and an own socket; and xlmt says the same."""
    alive = {str(d.domid) for d in stack.domains().values() if d.domid and not d.dying}
    with stack.client() as client:
        homes = set(client.ls("/local/domain"))
    nodes = stack.nodes()
    assert alive & homes <= set(nodes)
    assert set(nodes) <= alive
    assert set(nodes.values()) <= {"n0"}
    states = {
        row["state"] for row in json.loads(ok(stack.xlmt("list", "-o", "json")).stdout)["domains"]
    }
    assert states <= {"ok", "transition"}


# --- the witness itself --------------------------------------------------------------------


def request(op: str, path: str = "", tx: int | None = None, error: str | None = None) -> Request:
    return Request("A1", op, path, ("T",) if op == "TRANSACTION_END" else (), tx, error)


NODE, HOME = f"{MTWATCH}/7", "/local/domain/7"
BORN = [
    request("TRANSACTION_START", tx=1),
    request("RM", NODE, 1),
    request("MKDIR", NODE, 1),
    request("RM", HOME, 1),
    request("WRITE", HOME, 1),
    request("TRANSACTION_END", tx=1),
]


def test_the_witness_sees_a_node_taken_from_a_domain() -> None:
    taken = request("RM", NODE)
    assert nodes_lost([*BORN, taken]) == [(7, taken)]
    in_transaction = [
        request("TRANSACTION_START", tx=2),
        request("RM", NODE, 2),
        request("TRANSACTION_END", tx=2),
    ]
    assert nodes_lost([*BORN, *in_transaction]) == [(7, in_transaction[1])]


def test_the_witness_sees_a_node_taken_with_others_and_in_a_later_life() -> None:
    ended = [request("RM", HOME), request("RM", NODE)]
    taken = [
        request("TRANSACTION_START", tx=2),
        request("RM", NODE, 2),
        request("RM", f"{MTWATCH}/8", 2),
        request("TRANSACTION_END", tx=2),
    ]
    tty = request("WRITE", f"{HOME}/console/tty")
    assert nodes_lost([*BORN, *ended, *BORN, tty, *taken]) == [(7, taken[2])]


def test_the_witness_lets_everything_pass_that_is_right() -> None:
    failed = [
        request("TRANSACTION_START", tx=2),
        request("RM", NODE, 2),
        request("TRANSACTION_END", tx=2, error="EAGAIN"),
    ]
    teardown = [request("RM", HOME), request("RM", NODE)]
    assert nodes_lost([*BORN, *failed, *teardown, *BORN]) == []


def test_to_the_witness_what_is_written_late_below_a_home_is_no_domain() -> None:
    late = [request("RM", HOME), request("WRITE", f"{HOME}/console/tty"), request("RM", NODE)]
    assert nodes_lost([*BORN, *late]) == []
