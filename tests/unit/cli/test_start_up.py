# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the start of a command does not wait for: bench/startup.py has the times."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """\
import sys
import typer  # what it imports itself is not ours to change
before = set(sys.modules)
from xlmt.cli.main import app
try:
    app(sys.argv[1:], standalone_mode=False)
except BaseException:
    pass
sys.stderr.write(" ".join(set(sys.modules) - before))
"""
#: Values and decisions that take longer to import than all of the command line.
HEAVY = {"xlmt.model", "xlmt.nodes.model", "xlmt.libxl", "xlmt.xenstore", "pyxs", "json"}
#: What is known of deaths.
DEATHS = {"xlmt.supervise.policy", "xlmt.supervise.handler", "xlmt.supervise.daemon"}


def imported_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("command", ["--help", "--version", "list --help", "create --help"])
def test_help_waits_for_none_of_it(command: str) -> None:
    assert imported_by(*command.split()).isdisjoint(HEAVY | DEATHS)


@pytest.mark.parametrize("command", ["list", "reconcile", "repair --all"])
def test_who_looks_at_nodes_does_not_wait_for_what_is_known_of_deaths(command: str) -> None:
    modules = imported_by(*command.split())
    assert "xlmt.nodes.model" in modules
    assert modules.isdisjoint(DEATHS)


@pytest.mark.parametrize("module", sorted(HEAVY | DEATHS))
def test_there_is_such_a_module(module: str) -> None:
    assert find_spec(module)
