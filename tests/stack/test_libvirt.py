# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real libvirt, with its hook and with ours; and that neither can hurt a guest of its."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.stack.libvirt import HOOKS, Libvirt
from tests.stack.product import assert_node_came_first, assert_node_went_last, ok
from tests.stack.stack import MTWATCH, Stack, eventually

XLMT = f'#!/bin/sh\nexec {Path(sys.executable).parent}/xlmt "$@"\n'
SCRIPT = "/etc/libvirt/hooks/libxl.d/50-xlmt"
UNDER_HOOK = "/usr/local/lib/xlmt/under-hook"


@pytest.fixture
def libvirt(stack: Stack) -> Libvirt:
    host = Libvirt(stack)
    host.install_xlmt(XLMT)
    return host


def settled(libvirt: Libvirt, *domids: int) -> bool:
    nodes = {str(domid): "n0" for domid in domids}
    return eventually(lambda: libvirt.stack.nodes() == nodes, what=f"the nodes are {domids}")


def test_under_the_hook_the_node_comes_first_and_goes_last(libvirt: Libvirt) -> None:
    libvirt.install(HOOKS / "xl/under-hook", UNDER_HOOK)
    with libvirt.running(UNDER_HOOK):
        domid = libvirt.create("web")
        assert libvirt.stack.nodes() == {str(domid): "n0"}
        assert_node_came_first(libvirt.stack.trace(), domid)
        ok(libvirt.virsh("destroy", "web"))
        assert libvirt.stack.nodes() == {}
        assert_node_went_last(libvirt.stack.trace(), domid)
    assert libvirt.logged() == []


def test_by_libvirts_own_hook_the_node_comes_and_goes(libvirt: Libvirt) -> None:
    libvirt.install(HOOKS / "libvirt/50-xlmt", SCRIPT)
    with libvirt.running():
        libvirt.stack.add_domain(40)  # nobody's business but its own
        domid = libvirt.create("web")
        assert settled(libvirt, domid)
        ok(libvirt.virsh("destroy", "web"))
        # "release" has no domid any more: a whole pass
        assert settled(libvirt, 40)
    said = f"xlmt: node {domid} added: web (domain {domid}) runs without a node"
    assert eventually(lambda: said in libvirt.logged())


def test_a_daemon_that_finds_its_guests_again_tells_of_them(libvirt: Libvirt) -> None:
    libvirt.install(HOOKS / "libvirt/50-xlmt", SCRIPT)
    with libvirt.running():
        domid = libvirt.create("web")
        assert settled(libvirt, domid)
    with libvirt.stack.client() as client:
        client.rm(f"{MTWATCH}/{domid}")
    with libvirt.running():
        ok(libvirt.virsh("list"))
        assert settled(libvirt, domid)


def test_a_guest_starts_while_xlmt_hangs(libvirt: Libvirt) -> None:
    libvirt.install(HOOKS / "libvirt/50-xlmt", SCRIPT)
    libvirt.install_xlmt("#!/bin/sh\ntouch /run/hangs\nsleep 50\n")
    with libvirt.running():
        domid = libvirt.create("web")
        assert domid in libvirt.stack.domains()
        assert eventually(libvirt.stack.path("/run/hangs").exists)
        assert libvirt.logged() == []  # what xlmt is in still has its end of the pipe


@pytest.mark.parametrize("xlmt", ["exit 1", "exec /nowhere"])
def test_a_guest_lives_though_xlmt_fails(libvirt: Libvirt, xlmt: str) -> None:
    libvirt.install(HOOKS / "libvirt/50-xlmt", SCRIPT)
    libvirt.install_xlmt(f"#!/bin/sh\n{xlmt}\n")
    with libvirt.running():
        domid = libvirt.create("web")
        assert domid in libvirt.stack.domains()


def test_a_hook_that_fails_does_cost_the_guest(libvirt: Libvirt) -> None:
    """What the other tests would see if ours did."""
    failing = libvirt.stack.workdir / "failing"
    failing.write_text('#!/bin/sh\ncat >/dev/null\n[ "$2" != started ]\n')
    libvirt.install(failing, SCRIPT)
    with libvirt.running(), pytest.raises(AssertionError, match="unexpected exit status"):
        libvirt.create("web")
    assert set(libvirt.stack.domains()) == {0}


def test_without_either_there_is_no_node(libvirt: Libvirt) -> None:
    with libvirt.running():
        libvirt.create("web")
        assert libvirt.stack.nodes() == {}
