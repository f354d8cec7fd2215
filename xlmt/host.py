# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host through all adapters at once: look at it, put one node right."""

from collections.abc import Callable
from typing import TypeVar

from xlmt import kernel, paths
from xlmt.errors import XlmtError
from xlmt.libxl import Context
from xlmt.model import Domain, Snapshot
from xlmt.xenstore import Store

T = TypeVar("T")

#: Commits that may fail with EAGAIN before we say that xenstored is too busy. Each needs somebody
#: else's commit in between, so a handful is a lot.
_ATTEMPTS = 100


def observe(store: Store, libxl: Context) -> Snapshot:
    """Take one look at the host; sources that cannot be read are named in `problems`.

    Nodes come before the hypervisor's list: a node is older than its domain, so one whose domid
    the later list lacks belongs to no domain that is being born.
    """
    problems: list[str] = []

    def read(what: str, source: Callable[[], T]) -> T | None:
        try:
            return source()
        except (XlmtError, OSError) as e:
            problems.append(f"{what}: {e}")
            return None

    nodes = read("mtwatch nodes", lambda: frozenset(store.list(paths.MTWATCH) or ()))
    domains = read("hypervisor", libxl.domains)
    homes = read("xenstore", lambda: _homes(store))
    return Snapshot(
        nodes=nodes,
        domains=domains,
        homes=homes,
        backends=read("kernel backends", kernel.backends),
        threads=read("kernel threads", kernel.mtwatch_threads),
        names=read("names", lambda: _names(store, domains or {})) or {},
        problems=tuple(problems),
    )


def _homes(store: Store) -> frozenset[int]:
    names = store.list(paths.DOMAINS) or []
    return frozenset(d for d in map(paths.parse_domid, names) if d is not None)


def _names(store: Store, domains: dict[int, Domain]) -> dict[int, str]:
    names = {d: store.read(f"{paths.domain(d)}/name") for d in domains if d}
    return {domid: name for domid, name in names.items() if name}


def node_is_right(store: Store, domid: int) -> bool:
    """Whether the domid has its node, empty and with the contract's permissions."""
    node = paths.node(domid)
    return store.permissions(node) == paths.NODE_PERMS and not store.read(node)


def put_node(store: Store, domid: int) -> None:
    """Write the domid's node as the contract wants it, in place of what may be there.

    Raises XenstoreError; XenstoreUnreachableError.
    """
    node = paths.node(domid)
    for _ in range(_ATTEMPTS):
        with store.transaction() as t:
            if not t.exists(paths.MTWATCH):
                t.mkdir(paths.MTWATCH)
                t.set_permissions(paths.MTWATCH, paths.NODE_PERMS)
            if t.read(node):
                t.write(node, "")
            t.mkdir(node)
            t.set_permissions(node, paths.NODE_PERMS)
            if t.commit():
                return
    raise XlmtError(f"cannot write {node}: xenstored is busy, {_ATTEMPTS} commits conflicted")


def held_by_kernel(domid: int) -> tuple[str, ...]:
    """Return the backend devices of the domid that this kernel holds. Raises OSError."""
    return kernel.backends().get(domid, ())
