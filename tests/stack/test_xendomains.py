# SPDX-License-Identifier: LGPL-2.1-or-later
"""xendomains, Debian's script itself, in the two ways that hooks/xl brings the hook in."""

from __future__ import annotations

import re
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
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: /usr/local as docs/install.md has it; Debian's wrapper asks the kernel for Xen's version.
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


def start(
    stack: Stack, *command: str | Path, path: str = USUAL_PATH
) -> subprocess.CompletedProcess[str]:
    return ok(stack.run(*command, env={"PATH": path}))


def put(stack: Stack, script: Path, place: str) -> None:
    """Have the script where a distribution has it. Only Debian's place is there on Debian."""
    if place != "/etc/init.d":
        ok(stack.run("sh", "-c", f"mkdir -p {place}; cp {script} {place}/xendomains"))
        script = Path("/dev/null")
    ok(stack.run("mount", "--bind", script, SCRIPT))


def assert_kept_the_contract(stack: Stack) -> None:
    (domid,) = set(stack.domains()) - {0}
    assert stack.nodes() == {str(domid): "n0"}
    assert_node_came_first(stack.trace(), domid)
    stack.die(domid)  # xl's process in the background has the hook as well
    eventually(lambda: not stack.nodes(), what="the node is removed")


@pytest.mark.parametrize("place", ["/etc/init.d", "/usr/local/lib/xen/bin"])
def test_by_the_drop_in_of_its_unit(stack: Stack, script: Path, place: str) -> None:
    install(stack, shim=False)
    put(stack, script, place)
    start(stack, *said("ExecStart").split(), path=said("Environment").removeprefix("PATH="))
    assert_kept_the_contract(stack)


def said(key: str) -> str:
    """What the drop-in says last of a key."""
    return str(re.findall(rf"^{key}=(.+)$", DROP_IN, re.MULTILINE)[-1])


def test_by_an_xl_that_is_found_before_xl(stack: Stack, script: Path) -> None:
    install(stack, shim=True)
    start(stack, script, "start")
    assert_kept_the_contract(stack)


def test_without_either_there_is_no_node(stack: Stack, script: Path) -> None:
    install(stack, shim=False)
    start(stack, script, "start")
    assert len(stack.domains()) == 2
    assert stack.nodes() == {}
