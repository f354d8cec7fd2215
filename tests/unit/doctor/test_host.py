# SPDX-License-Identifier: LGPL-2.1-or-later
"""One look at a host: what of it goes on side by side."""

import time
from pathlib import Path

import pytest

from xlmt.doctor import checks, host
from xlmt.doctor.model import Check, Domains, State
from xlmt.kernel import manage, proc
from xlmt.kernel.diagnose import View
from xlmt.model import Thread

LONG_S = 30.0


def test_what_holds_something_is_looked_for_while_the_checks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check waits for the other, which in turn has nothing until the check has begun."""
    begun, asked = tmp_path / "begun", tmp_path / "asked"

    def check() -> Check:
        begun.touch()
        wait_for(asked)
        return checks.ok("drivers", "the backends are loaded")

    def backends() -> dict[int, tuple[str, ...]]:
        wait_for(begun)
        asked.touch()
        return {}

    monkeypatch.setattr(host, "_DEADLINE_S", LONG_S)
    monkeypatch.setattr(host, "_CHECKS", {"drivers": check})
    monkeypatch.setattr(checks, "domains", lambda: Domains((), ()))
    monkeypatch.setattr(host, "_blocked", lambda: [])
    monkeypatch.setattr(proc, "backends", backends)
    monkeypatch.setattr(manage, "names", lambda domids: {})
    stuck = Thread("xenwatch", 57, "D", stalled_s=60.0)
    monkeypatch.setattr(manage, "look", lambda: View(threads=(stuck,)))
    seen = host.look()
    assert [(told.name, told.state) for told in seen.checks] == [("drivers", State.OK)]
    assert not seen.view.problems


def wait_for(file: Path) -> None:
    until = time.monotonic() + LONG_S / 3
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{file.name}: waited for in vain")
        time.sleep(0.01)
