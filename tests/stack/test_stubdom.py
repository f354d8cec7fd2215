# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device model in a domain of its own, which libxl makes inside the creation of its guest.

Nothing runs in it here, so these creations fail; but not before both domains are made.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stack.product import NODES, assert_node_came_first, assert_node_went_last, ok
from tests.stack.stack import Stack, eventually
from tests.stack.trace import creation

GUEST, STUBDOM = 1, 2
ANY_FILE = "/etc/hostname"


def guest_with_stubdom(stack: Stack, device_model: str) -> Path:
    return stack.guest(
        "g1",
        "hvm",
        device_model_version=device_model,
        device_model_stubdomain_override=1,
        stubdomain_kernel=ANY_FILE,
        stubdomain_ramdisk=ANY_FILE,
    )


@pytest.mark.parametrize("create", [["create"], ["xl", "create"]], ids=["xlmt", "xl"])
def test_guest_and_stubdom_each_have_a_node_from_first_to_last(
    stack: Stack, create: list[str]
) -> None:
    failed = stack.xlmt(*create, guest_with_stubdom(stack, "qemu-xen"))
    assert "device model did not start" in failed.stderr
    assert "Traceback" not in failed.stderr
    eventually(lambda: set(stack.domains()) == {0})
    trace = stack.trace()
    for domid in (GUEST, STUBDOM):
        assert_node_came_first(trace, domid)
        assert_node_went_last(trace, domid)
    of_guest, of_stubdom = (creation(trace, domid) for domid in (GUEST, STUBDOM))
    assert not {r.path for r in of_guest} & {r.path for r in of_stubdom if NODES in r.path}
    assert stack.nodes() == {}


def test_a_stubdom_that_libxl_forgets_has_its_node_until_somebody_destroys_it(
    stack: Stack,
) -> None:
    """When the device model's arguments are refused, libxl 4.17 leaves the stubdom behind."""
    failed = stack.xlmt("xl", "create", "-e", guest_with_stubdom(stack, "qemu-xen-traditional"))
    assert failed.returncode
    eventually(lambda: set(stack.domains()) == {0, STUBDOM})
    assert stack.nodes() == {str(STUBDOM): "n0"}
    listed = json.loads(ok(stack.xlmt("list", "-o", "json")).stdout)
    assert {row["domid"]: row["state"] for row in listed["domains"]} == {STUBDOM: "ok"}
    ok(stack.xlmt("destroy", str(STUBDOM)))
    assert_node_went_last(stack.trace(), STUBDOM)
    assert set(stack.domains()) == {0}


def test_a_stubdom_that_libxl_forgets_is_destroyed_by_a_creation_of_ours(stack: Stack) -> None:
    failed = stack.xlmt("create", guest_with_stubdom(stack, "qemu-xen-traditional"))
    assert failed.returncode == 1
    assert set(stack.domains()) == {0}
    assert stack.nodes() == {}
