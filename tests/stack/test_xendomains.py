# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's xendomains, the init script itself, in the two ways that hooks/xl brings the hook in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack.conftest import lacking
from tests.stack.product import assert_node_came_first, ok
from tests.stack.stack import Stack, eventually

HOOKS = Path(__file__).parents[2] / "hooks/xl"
SCRIPT = Path("/etc/init.d/xendomains")
DROP_IN = (HOOKS / "xendomains.conf").read_text()

#: /usr/local as the README has it installed; Debian's wrapper asks the kernel for Xen's version.
_INSTALL = """\
set -e
mount -t tmpfs none /usr/local
mkdir -p /usr/local/bin /usr/local/sbin /usr/local/lib/xlmt
ln -s "$1" /usr/local/bin/xlmt
install "$2/under-hook" /usr/local/lib/xlmt/under-hook
[ "$4" != shim ] || install "$2/xl" /usr/local/sbin/xl
mount --bind "$3" /usr/sbin/xl
"""


@pytest.fixture
def script(stack: Stack) -> Path:
    """The init script, for a host without /proc/xen and with one domain to be started."""
    if not SCRIPT.exists() or not Path("/usr/sbin/xl").exists():
        lacking("this machine lacks Debian's xen-utils-common")
    auto = stack.workdir / "auto"
    auto.mkdir()
    (auto / "g1").write_text(stack.guest("g1").read_text())
    settings = stack.workdir / "xendomains"
    settings.write_text(f"XENDOMAINS_AUTO={auto}\n")
    text = SCRIPT.read_text().replace("/etc/default/xendomains", str(settings))
    copy = stack.workdir / "xendomains.sh"
    copy.write_text(text.replace("/proc/xen/privcmd", "/dev/null"))
    copy.chmod(0o755)
    return copy


def install(stack: Stack, *, shim: bool) -> None:
    wrapper = stack.workdir / "xl"
    wrapper.write_text(f'#!/bin/sh\nexec {stack.xen_bin}/xl "$@"\n')
    wrapper.chmod(0o755)
    xlmt = Path(sys.executable).parent / "xlmt"
    way = "shim" if shim else "drop-in"
    ok(stack.run("sh", "-c", _INSTALL, "install", xlmt, HOOKS, wrapper, way))


def start(stack: Stack, *command: str | Path) -> subprocess.CompletedProcess[str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return ok(stack.run(*command, "start", env={"PATH": path}))


def assert_kept_the_contract(stack: Stack) -> None:
    (domid,) = set(stack.domains()) - {0}
    assert stack.nodes() == {str(domid): "n0"}
    assert_node_came_first(stack.trace(), domid)
    stack.die(domid)  # xl's process in the background has the hook as well
    eventually(lambda: not stack.nodes(), what="the node is removed")


def test_by_the_drop_in_of_its_unit(stack: Stack, script: Path) -> None:
    install(stack, shim=False)
    assert "ExecStart=/usr/local/lib/xlmt/under-hook /etc/init.d/xendomains start\n" in DROP_IN
    start(stack, "/usr/local/lib/xlmt/under-hook", script)
    assert_kept_the_contract(stack)


def test_by_an_xl_that_is_found_before_xl(stack: Stack, script: Path) -> None:
    install(stack, shim=True)
    start(stack, script)
    assert_kept_the_contract(stack)


def test_without_either_there_is_no_node(stack: Stack, script: Path) -> None:
    install(stack, shim=False)
    start(stack, script)
    assert len(stack.domains()) == 2
    assert stack.nodes() == {}
