# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real xl, where Xen's own build, a distribution and Debian have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xlmt import files
from xlmt.domains import xl
from xlmt.errors import XlmtError

PROGRAM = b"\x7fELF..."
SCRIPT = b"#!/bin/sh\n"
DEBIANS = "usr/lib/xen-4.20/bin/xl"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host in whose PATH there is no xl, and whose hypervisor does not tell its version."""
    monkeypatch.setattr(xl, "_ROOT", tmp_path)
    monkeypatch.setattr(xl, "_VERSION", tmp_path / "version")
    monkeypatch.setattr(files, "program", lambda _name: None)
    return tmp_path


def put(root: Path, name: str, content: bytes) -> str:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return str(file)


@pytest.mark.parametrize("place", ["usr/local/sbin/xl", "usr/sbin/xl", DEBIANS])
def test_it_is_found_though_path_lacks_it(root: Path, place: str) -> None:
    there = put(root, place, PROGRAM)
    assert xl.find() == there


def test_a_shim_and_a_wrapper_before_it_are_not_it(root: Path) -> None:
    put(root, "usr/local/sbin/xl", SCRIPT)
    put(root, "usr/sbin/xl", SCRIPT)
    there = put(root, DEBIANS, PROGRAM)
    assert xl.find() == there


def test_a_shim_in_path_leads_to_the_one_that_it_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = put(root, "usr/local/sbin/xl", SCRIPT)
    monkeypatch.setattr(files, "program", lambda _name: shim)
    there = put(root, "usr/sbin/xl", PROGRAM)
    assert xl.find() == there


def test_where_there_is_none_it_says_so(root: Path) -> None:
    put(root, "usr/sbin/xl", SCRIPT)
    with pytest.raises(XlmtError, match="there is no xl here"):
        xl.find()


def test_of_two_releases_the_running_one_is_meant(root: Path) -> None:
    put(root, "usr/lib/xen-4.17/bin/xl", PROGRAM)
    there = put(root, DEBIANS, PROGRAM)
    with pytest.raises(XlmtError, match="more than one xl"):
        xl.find()
    put(root, "version/major", b"4\n")
    put(root, "version/minor", b"20\n")
    assert xl.find() == there
