# SPDX-License-Identifier: LGPL-2.1-or-later
"""`make demo`: what xlmt does, shown with real commands on a real Xen host, and checked."""

import re
from itertools import takewhile

from tests.lab.vm import Lab
from tests.stack.trace import PARSERS, Request, creation, writes

CONFIG = "/etc/xen/demo-pv.cfg"
NAME = "demo-pv"
SHOWN = 5  # requests of the witness, at each end

WELCOME = (
    "This is a Xen host in an emulator: {release}'s Xen, kernel and tools. Commands run in dom0.\n"
)
CREATED = """\
What xenstored itself logged of the transaction that made guest {domid}. Before all else comes
{node}, at which a kernel with xenwatch multithreading starts a
thread for this guest alone (an old node, if any, is removed first):"""
LISTED = "The guest as xlmt sees it:"
DESTROYED = (
    "The last changes that xenstored logged for guest {domid}: its node goes after all else."
)
CLOSING = (
    "All as it should be. Next: `make lab` gives you a shell on such a host, to set it up yourself."
)


class Differs(Exception):  # noqa: N818
    """What happened is not what the demo says."""


def demo(lab: Lab) -> None:
    """Create, list and destroy a guest; raises Differs when what is shown is not as claimed."""
    tell(WELCOME.format(release=lab.release))
    command(lab, f"xlmt create {CONFIG}")
    domid = int(lab.run(f"xl domid {NAME}", check=True).out)
    node = f"/local/domain/0/mtwatch/{domid}"
    show_creation(lab, domid, node)
    tell(LISTED)
    listed = command(lab, "xlmt list").split()
    require({NAME, "ok"} <= set(listed), f"xlmt list does not show {NAME} as ok")
    command(lab, f"xlmt destroy {NAME}")
    show_teardown(lab, domid, node)
    tell(CLOSING)


def show_creation(lab: Lab, domid: int, node: str) -> None:
    tell(CREATED.format(domid=domid, node=node))
    try:
        requests = creation(PARSERS[lab.daemon](lab.trace()), domid)
    except LookupError as missing:
        raise Differs(str(missing)) from None
    show(requests[:SHOWN], node)
    first = {request.op for request in takewhile(lambda r: r.path == node, requests)}
    require("MKDIR" in first, f"{node} is not made before the rest of the guest's nodes")
    require(lab.run(f"xenstore-exists {node}").rc == 0, f"{node} is not there")


def show_teardown(lab: Lab, domid: int, node: str) -> None:
    tell(DESTROYED.format(domid=domid))
    its = re.compile(rf"/local/domain/(0/mtwatch/{domid}|{domid}|0/backend/\w+/{domid})(/|$)")
    changes = writes(PARSERS[lab.daemon](lab.trace()))
    requests = [request for request in changes if its.match(request.path)][-SHOWN:]
    show(requests, node)
    last = {(request.op, request.path) for request in requests[-1:]}
    require(last == {("RM", node)}, f"{node} is not removed last")
    require(lab.run(f"xenstore-exists {node}").rc == 1, f"{node} is still there")
    domids = [domain.domid for domain in lab.xen_domains()]
    require(domids == [0], f"the hypervisor lists domains {domids}, not just domain 0")


def command(lab: Lab, line: str) -> str:
    """Run a command for the reader to see; returns its stdout."""
    tell(f"dom0# {line}")
    result = lab.run(line, 120)
    tell(result.out + result.err)
    require(result.rc == 0, f"`{line}` ended with exit status {result.rc}")
    return result.out


def show(requests: list[Request], node: str) -> None:
    for request in requests:
        mark = "->" if request.path == node else "  "
        tell(f"  {mark} {request.op:9} {request.path} {' '.join(request.args)}".rstrip())
    tell("")


def tell(text: str) -> None:
    print(text, flush=True)


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Differs(otherwise)
