# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look at the host, through all adapters at once."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from xlmt import paths
from xlmt.errors import XenstoreError, XenstoreUnreachableError, XlmtError
from xlmt.kernel import module, proc, vifs
from xlmt.kernel import status as mtwatch
from xlmt.libxl import Context
from xlmt.model import Thread
from xlmt.nodes.model import Contents, Snapshot
from xlmt.nodes.plan import faults
from xlmt.xenstore import Store, Tree

T = TypeVar("T")


def observe(store: Store, libxl: Context, *, threads: bool = False) -> Snapshot:
    """Take one look at the host; sources that cannot be read are named in `problems`.

    Nodes come before the hypervisor's list: a node is older than its domain, so one whose domid
    the later list lacks belongs to no domain that is being born. The kernel's threads decide
    nothing, and looking for them takes a look at every process: only if asked for.

    Raises XenstoreUnreachableError: without xenstored there is nothing to be told.
    """
    problems: list[str] = []

    def read(what: str, source: Callable[[], T]) -> T | None:
        try:
            return source()
        except XenstoreUnreachableError:
            raise
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
        backends=read("kernel backends", proc.backends),
        threads=read("kernel threads", _threads) if threads else {},
        guarded=_guarded() if threads else {},
        problems=tuple(problems),
    )


def _threads() -> dict[int, Thread]:
    """Return the kernel half's threads, with what they do where the module tells us.

    It may not be loaded, or we not be root: what is missing then is no fault of the list.
    """
    threads = proc.mtwatch_threads()
    with suppress(XlmtError):
        return mtwatch.with_doing(threads, module.status()) if threads else {}
    return threads


def _guarded() -> dict[int, bool]:
    with suppress(OSError):
        return vifs.guests()
    return {}


def _homes(store: Store) -> frozenset[int]:
    names = store.list(paths.DOMAINS) or []
    return frozenset(d for d in map(paths.parse_domid, names) if d is not None)


def with_names(store: Store, snapshot: Snapshot, domids: Iterable[int]) -> Snapshot:
    """Return the snapshot with the names of these domids; a request for each.

    A name that cannot be read is none: nothing depends on it.
    """
    names = {}
    for domid in domids:
        with suppress(XenstoreError):
            names[domid] = store.read(f"{paths.domain(domid)}/name")
    return snapshot._replace(names={domid: name for domid, name in names.items() if name})


def with_contents(store: Store, snapshot: Snapshot, domids: Iterable[int]) -> Snapshot:
    """Return the snapshot with what the nodes of these domids hold; three requests for each."""
    contents, problems = {}, []
    for domid in domids:
        try:
            if held := contents_of(store, paths.node(domid)):
                contents[domid] = held
        except XenstoreError as e:
            problems.append(str(e))
    return snapshot._replace(contents=contents, problems=(*snapshot.problems, *problems))


def contents_of(tree: Tree, node: str) -> Contents | None:
    """Return what a node holds, None when there is none."""
    permissions = tree.permissions(node)
    if permissions is None:
        return None
    return Contents(permissions, tree.read(node) or "", tuple(tree.list(node) or ()))


def node_is_right(store: Store, domid: int) -> bool:
    """Whether the domid has its node, empty and with the contract's permissions."""
    contents = contents_of(store, paths.node(domid))
    return contents is not None and not faults(contents)


def held_by_kernel(domid: int) -> tuple[str, ...]:
    """Return the backend devices of the domid that this kernel holds. Raises OSError."""
    return proc.backends().get(domid, ())
