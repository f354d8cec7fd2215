# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demo says so when what it shows is not what it claims. No VM: the log is given."""

from typing import cast

import pytest

from tests.lab import demo
from tests.lab.vm import HypervisorDomain, Lab, Result

NODE = "/local/domain/0/mtwatch/1"
START, END = ("TRANSACTION_START", ""), ("TRANSACTION_END", "T")
MAKE_NODE = [("RM", NODE), ("MKDIR", NODE), ("SET_PERMS", f"{NODE} n0")]
MAKE_HOME = [("RM", "/local/domain/1"), ("WRITE", "/local/domain/1 ")]
GONE = ("RM", "/local/domain/1/hvmloader")


class Host:
    """What the demo asks a Lab, answered from a list of requests."""

    daemon = "c"

    def __init__(self, requests: list[tuple[str, str]], node: bool) -> None:
        self._requests = requests
        self._node = node

    def trace(self) -> str:
        stamp = "0x1 20261122 17:08:34"
        lines = ["CREATE connection 0x1"]
        for op, arguments in self._requests:
            lines += [f"IN {stamp} {op} ({arguments} )", f"OUT {stamp} {op} (OK )"]
        return "\n".join(lines) + "\n"

    def run(self, command: str) -> Result:
        assert command == f"xenstore-exists {NODE}"
        return Result(0 if self._node else 1, "", "")

    def xen_domains(self) -> list[HypervisorDomain]:
        return [HypervisorDomain(0, "r----")]


def host(requests: list[tuple[str, str]], *, node: bool) -> Lab:
    return cast(Lab, Host(requests, node))


def test_a_creation_with_the_node_first_passes() -> None:
    good = [START, *MAKE_NODE, *MAKE_HOME, END]
    demo.show_creation(host(good, node=True), 1, NODE)


@pytest.mark.parametrize(
    ("requests", "node"),
    [
        ([START, *MAKE_HOME, *MAKE_NODE, END], True),
        ([START, *MAKE_HOME, END], False),
        ([START, *MAKE_NODE, *MAKE_HOME, END], False),
        ([], True),
    ],
    ids=["node-later", "no-node", "node-gone-at-once", "nothing-logged"],
)
def test_a_creation_without_the_node_first_is_not_passed_off(
    requests: list[tuple[str, str]], node: bool
) -> None:
    with pytest.raises(demo.Differs):
        demo.show_creation(host(requests, node=node), 1, NODE)


def test_a_teardown_with_the_node_last_passes() -> None:
    demo.show_teardown(host([GONE, ("RM", NODE)], node=False), 1, NODE)


@pytest.mark.parametrize(
    ("requests", "node"),
    [([("RM", NODE), GONE], False), ([GONE], True), ([GONE, ("RM", NODE)], True), ([], False)],
    ids=["node-before", "node-kept", "node-came-back", "nothing-logged"],
)
def test_a_teardown_without_the_node_last_is_not_passed_off(
    requests: list[tuple[str, str]], node: bool
) -> None:
    with pytest.raises(demo.Differs):
        demo.show_teardown(host(requests, node=node), 1, NODE)
