# SPDX-License-Identifier: LGPL-2.1-or-later
"""Queues that have packets: as tc(8) prints them, and on this machine."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt import files
from xlmt.doctor import holders, render
from xlmt.doctor.causes import Cause, Kind, Verdict
from xlmt.doctor.findings import Finding, Queue
from xlmt.doctor.traces import Trace
from xlmt.kernel import places

EMPTY = {"kind": "noqueue", "handle": "0:", "dev": "lo", "root": True, "backlog": 0, "qlen": 0}
NETEM = {"kind": "netem", "handle": "8001:", "dev": "sink0", "root": True, "qlen": 37}
OUTER = {"kind": "mq", "handle": "0:", "dev": "eth0", "root": True, "qlen": 5}
INNER = {"kind": "fq", "handle": "0:", "parent": "0:1", "dev": "eth0", "qlen": 5}
CLASSY = {"kind": "htb", "handle": "1:", "dev": "br0", "root": True, "qlen": 9}
LEAF = {"kind": "pfifo", "handle": "10:", "parent": "1:10", "dev": "br0", "qlen": 9}


def parsed(*rows: object) -> list[Queue]:
    return holders.parse(json.dumps(rows).encode())


def test_only_queues_that_have_packets_hold_any() -> None:
    assert parsed(EMPTY, NETEM) == [Queue("sink0", "netem", 37)]


def test_a_queue_in_another_is_the_one_that_is_named() -> None:
    assert parsed(CLASSY, LEAF) == [Queue("br0", "pfifo", 9)]


@pytest.mark.parametrize("output", [b"", b"{}", b"null", b"[", b"\xff"])
def test_what_is_no_list_is_an_error(output: bytes) -> None:
    with pytest.raises(ValueError, match=r"list|Expecting|decode"):
        holders.parse(output)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(st.sampled_from(["dev", "kind", "qlen", "handle", "parent"]), v)
        ),
    )
)
def test_no_row_is_too_odd(row: object) -> None:
    for queue in parsed(row):
        assert queue.packets


@pytest.fixture
def tc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tc that the test writes."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/net").symlink_to("net:[1]")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    return tmp_path / "tc"


def becomes(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_tc_that_waits_for_a_lock_is_left_behind(
    tc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "_DEADLINE_S", 0.2)
    becomes(tc, "exec sleep 60")
    assert holders.queues() == (
        (),
        ("queues: tc does not answer: the lock of all interfaces may be taken",),
    )


def test_one_tc_that_waits_is_enough(tc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is one for all network namespaces."""
    for pid in (7, 8, 9):
        (tc.parent / f"proc/{pid}/ns").mkdir(parents=True)
        (tc.parent / f"proc/{pid}/ns/net").symlink_to(f"net:[{pid}]")
    monkeypatch.setattr(holders, "_DEADLINE_S", 0.2)
    becomes(tc, "exec sleep 60")
    assert len(holders.queues()[1]) == 1


def test_without_tc_that_is_said(tc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tc.parent))
    monkeypatch.setattr(files, "_SBIN", ())
    found, (problem,) = holders.queues()
    assert found == ()
    assert "tc" in problem


def test_a_queue_is_told_with_the_command_that_empties_it() -> None:
    stall = Finding(
        Trace("xenwatch", ("xenvif_free",)),
        Cause(Kind.NETBACK_INFLIGHT, Verdict.STALL),
        holders=(Queue("sink0", "netem", 37), Queue("$(x)", "fq", 1, 812)),
    )
    said = render.stack_text([stall]).splitlines()
    assert "holder  37 packets are in the queue (netem) of sink0" in said
    assert "action  ip link set sink0 down; ip link set sink0 up" in said
    assert (
        "holder  a packet is in the queue (fq) of $(x) in the network namespace of process 812"
        in said
    )
    enter = "nsenter -n -t 812 ip link set '$(x)'"
    assert f"action  {enter} down; {enter} up" in said
