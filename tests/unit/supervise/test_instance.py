# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a supervisor is started, and what it is given."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from xlmt.supervise import instance, surroundings

Calls = list[Sequence[str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """What was run; systemctl(1) says yes."""
    made: Calls = []

    def call(command: Sequence[str], **_: Any) -> int:
        made.append(command)
        return 0

    (tmp_path / "systemctl").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: made.append(command))
    monkeypatch.setattr(instance, "_UNITS", (str(tmp_path / "units"),))
    monkeypatch.setattr(instance, "_SYSTEMD", str(tmp_path / "run"))
    return made


def install(tmp_path: Path, *, booted: bool = True) -> None:
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "xlmt-supervise.service").touch()
    if booted:
        (tmp_path / "run").mkdir()


def test_where_the_unit_is_installed_systemd_starts_it(calls: Calls, tmp_path: Path) -> None:
    install(tmp_path)
    assert instance.start("/dev/null") is None
    (command,) = calls
    assert command[0] == str(tmp_path / "systemctl")
    assert command[-2:] == ["start", "xlmt-supervise.service"]


@pytest.mark.parametrize("installed", [True, False])
def test_without_systemd_or_the_unit_it_is_a_process_of_ours(
    calls: Calls, tmp_path: Path, installed: bool
) -> None:
    if installed:
        install(tmp_path, booted=False)
    instance.start("/dev/null")
    (command,) = calls
    assert "xlmt.supervise.daemon" in command


def test_a_unit_that_does_not_start_leaves_no_host_without(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path)
    monkeypatch.setattr(subprocess, "call", lambda *_, **__: 1)
    instance.start("/dev/null")
    assert len(calls) == 1


def test_only_what_says_where_xen_is_and_our_settings_are_handed_on() -> None:
    environ = {"PATH": ":.", "SECRET": "x", "NOTIFY_SOCKET": "x", "XENSTORED_PATH": "/s"}
    assert surroundings.environment(environ | {"XLMT_RESTART_LIMIT": "3"}) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "XENSTORED_PATH": "/s",
        "XLMT_RESTART_LIMIT": "3",
    }
