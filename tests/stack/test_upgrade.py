# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the package does with a supervisor that runs while it is upgraded: debian/xlmt.renew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack.product import NODES, create, ok, supervisors
from tests.stack.stack import Stack, eventually
from tests.stack.supervision import look, supervising

RENEW = Path(__file__).parents[2] / "debian/xlmt.renew"


def renew(stack: Stack, path: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it with the xlmt of these tests, and programs in `path` before all others."""
    folders = [*([path] if path else []), Path(sys.executable).parent, stack.env()["PATH"]]
    done = stack.run("sh", RENEW, env={"PATH": ":".join(map(str, folders)), **env})
    assert done.returncode == 0, done.stderr
    return done


def test_one_that_a_creation_has_started_is_replaced_with_its_settings(stack: Stack) -> None:
    ok(stack.xlmt("create", "-q", stack.guest("g1"), env={"XLMT_RESTART_LIMIT": "7"}))
    (old,) = supervisors(stack)
    assert renew(stack).stderr == ""
    eventually(lambda: old not in supervisors(stack), what="the old one is gone")
    (new,) = supervisors(stack)
    eventually(lambda: look(stack), what="it answers")
    assert b"XLMT_RESTART_LIMIT=7\0" in Path(f"/proc/{new}/environ").read_bytes()
    assert os.getsid(new) != os.getsid(0)
    with stack.client() as client:
        assert client.ls(NODES) == ["1"]
    assert "g1" in stack.xlmt("list").stdout


def test_one_that_the_new_release_could_not_replace_goes_on(stack: Stack) -> None:
    """Xen was upgraded as well: only the old program has the libxl of the Xen that runs."""
    create(stack)
    before = supervisors(stack)
    said = renew(stack, FAKEHV_XEN_VERSION="4.9").stderr
    assert f"(pid {before[0]}) still runs the release from before: Xen 4.9 is running, but" in said
    assert supervisors(stack) == before
    assert look(stack)


def test_one_that_somebody_has_started_is_left_to_him(stack: Stack) -> None:
    with supervising(stack) as it:
        said = renew(stack).stderr
        assert said.endswith("to replace it: xlmt supervise --replace\n")
        assert supervisors(stack) == [it.pid]


@pytest.mark.parametrize("restarted", [True, False])
def test_the_service_is_restarted_by_systemd(
    stack: Stack, tmp_path: Path, *, restarted: bool
) -> None:
    (stack.path("/run") / "systemd/system").mkdir(parents=True)
    pid_file = "/run/xlmt/supervise.pid"
    invoke = tmp_path / "deb-systemd-invoke"
    does = f"echo 1 > {pid_file}" if restarted else ":"
    invoke.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n{does}\n')
    invoke.chmod(0o755)
    with supervising(stack) as it:
        said = renew(stack, tmp_path).stderr
        assert (tmp_path / "calls").read_text() == "try-restart xlmt-supervise.service\n"
        assert ("systemctl restart xlmt-supervise" in said) is not restarted
        assert supervisors(stack) == [it.pid]


def test_where_none_runs_there_is_nothing_to_say(stack: Stack, tmp_path: Path) -> None:
    assert renew(stack).stderr == ""
    create(stack)
    (old,) = supervisors(stack)
    os.kill(old, 9)
    eventually(lambda: not supervisors(stack))
    assert renew(stack).stderr == ""  # what it has left names a process that is gone
    assert supervisors(stack) == []
