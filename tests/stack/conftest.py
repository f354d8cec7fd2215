# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the stack tier."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.stack.daemon import Daemon, missing
from tests.stack.stack import Stack


def lacking(what: str) -> NoReturn:
    """Skip for want of something; on CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def require(daemon: Daemon) -> None:
    """Skip, naming what this machine lacks; on CI that is a failure."""
    if lack := missing(daemon):
        lacking(f"no stack: missing {lack}")


@pytest.fixture(params=["c", "ocaml"])
def daemon(request: pytest.FixtureRequest) -> Daemon:
    """Every test that uses a stack runs on both daemons."""
    chosen: Daemon = request.param
    require(chosen)
    return chosen


@pytest.fixture
def stack(daemon: Daemon, tmp_path: Path) -> Iterator[Stack]:
    """A fresh host: it starts in well under 0.3 s."""
    with Stack(daemon, workdir=tmp_path / "stack") as host:
        yield host
