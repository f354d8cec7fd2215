# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host through all adapters at once: look at it, and put nodes right.

Why no change of `apply` is ever wrong, in one trip. Everything that an action's reason rests on
is looked at again inside one xenstore transaction: the node and the domain's home are read in
it, and the hypervisor and sysfs are asked after that and before the commit. If the commit goes
through, node and home were for all that time as they had been read. So a domain that was made
meanwhile with the same domid has its own transaction, which writes both, still before it, and
whatever was removed here it makes anew. If xenstored says EAGAIN, all of this is asked again.

oxenstored needs a hand: it merges a transaction with what others have changed unless that
touches what was *successfully* read, and a home that is not there cannot be. Reading
/local/domain, too, keeps it from merging; it then repeats each request of the transaction and
compares the answers (transaction.ml, commit_partial; process.ml, transaction_replay).

The C daemon needs one, too: what a transaction has not touched yet it sees as it is now. If
somebody removes a node between our reading it and our removing it, the directory lacks what is
to be removed: the daemon takes that for a corrupt store, checks all of it and answers EIO
(xenstored_core.c, delete_child). Reading mtwatch before its nodes keeps it as it was.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from xlmt import kernel, paths, reconcile
from xlmt.errors import XenstoreUnreachableError, XlmtError
from xlmt.libxl import Context
from xlmt.model import Action, Contents, Life, Outcome, Result, Snapshot, Verb
from xlmt.xenstore import Store, Transaction, Tree

T = TypeVar("T")

#: Commits that may fail with EAGAIN before we say that xenstored is too busy. Each needs somebody
#: else's commit in between, so a handful is a lot.
_ATTEMPTS = 100
#: Changes in one transaction. The C daemon searches all that a transaction has touched on every
#: request, and the longer one takes the likelier is a conflict.
_BATCH = 64
_LONGEST_PAUSE_S = 0.02


# --- look ----------------------------------------------------------------------------------


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
        backends=read("kernel backends", kernel.backends),
        threads=read("kernel threads", kernel.mtwatch_threads) if threads else {},
        problems=tuple(problems),
    )


def _homes(store: Store) -> frozenset[int]:
    names = store.list(paths.DOMAINS) or []
    return frozenset(d for d in map(paths.parse_domid, names) if d is not None)


def with_names(store: Store, snapshot: Snapshot, domids: Iterable[int]) -> Snapshot:
    """Return the snapshot with the names of these domids; a request for each."""
    names = {domid: store.read(f"{paths.domain(domid)}/name") for domid in domids}
    return replace(snapshot, names={domid: name for domid, name in names.items() if name})


def with_contents(store: Store, snapshot: Snapshot, domids: Iterable[int]) -> Snapshot:
    """Return the snapshot with what the nodes of these domids hold; three requests for each."""
    contents = {domid: _contents(store, paths.node(domid)) for domid in domids}
    return replace(snapshot, contents={domid: held for domid, held in contents.items() if held})


def _contents(tree: Tree, node: str) -> Contents | None:
    permissions = tree.permissions(node)
    if permissions is None:
        return None
    return Contents(permissions, tree.read(node) or "", tuple(tree.list(node) or ()))


def node_is_right(store: Store, domid: int) -> bool:
    """Whether the domid has its node, empty and with the contract's permissions."""
    contents = _contents(store, paths.node(domid))
    return contents is not None and not reconcile.faults(contents)


def held_by_kernel(domid: int) -> tuple[str, ...]:
    """Return the backend devices of the domid that this kernel holds. Raises OSError."""
    return kernel.backends().get(domid, ())


# --- change --------------------------------------------------------------------------------


def put_node(store: Store, domid: int) -> None:
    """Write the domid's node as the contract wants it, in place of what may be there.

    Raises XenstoreError; XenstoreUnreachableError.
    """
    node = paths.node(domid)
    for attempt in range(_ATTEMPTS):
        with store.transaction() as t:
            _make_directory(t)
            _empty(t, node)
            _make(t, node)
            if t.commit():
                return
        _pause(attempt)
    raise XlmtError(f"cannot write {node}: {_BUSY}")


def apply(
    store: Store, libxl: Context, actions: Sequence[Action], *, dry_run: bool = False
) -> Iterator[Outcome]:
    """Do what a plan asks for, each action only if its reason still holds; yield what became of it.

    Several actions share a transaction; one that conflicts or fails is halved, so that no action
    stops another. Conflicts are bounded over all of them. `dry_run` looks at everything again
    and changes nothing.

    Raises XenstoreUnreachableError; the actions without an outcome were then not done, but for
    those of the very last transaction, of which nobody knows.
    """
    batches = deque(actions[i : i + _BATCH] for i in range(0, len(actions), _BATCH))
    conflicts, in_a_row = 0, 0
    while batches:
        batch = batches.popleft()
        try:
            outcomes = _attempt(store, libxl, batch, dry_run=dry_run)
        except XenstoreUnreachableError:
            raise
        except (XlmtError, OSError) as e:
            if len(batch) == 1:
                yield Outcome(batch[0], Result.FAILED, str(e))
            else:
                batches.extendleft(_halves(batch))
            continue
        if outcomes is not None:
            in_a_row = 0
            yield from outcomes
            continue
        conflicts, in_a_row = conflicts + 1, in_a_row + 1
        if conflicts > _ATTEMPTS + 4 * len(actions):
            yield from (Outcome(action, Result.CONFLICT, _BUSY) for action in batch)
        else:
            batches.extendleft(_halves(batch))
            _pause(in_a_row)


_BUSY = "xenstored is too busy: whatever we commit, somebody else was faster"


def _halves(batch: Sequence[Action]) -> list[Sequence[Action]]:
    """Return the batch in two, the second half first, as extendleft wants it."""
    middle = (len(batch) + 1) // 2
    return [half for half in (batch[middle:], batch[:middle]) if half]


def _pause(attempt: int) -> None:
    time.sleep(min(0.0005 * 2**attempt, _LONGEST_PAUSE_S))


def _attempt(
    store: Store, libxl: Context, batch: Sequence[Action], *, dry_run: bool
) -> list[Outcome] | None:
    """Carry the batch out in one transaction; None when others were in its way."""
    with store.transaction() as t:
        for directory in (paths.DOMAINS, paths.MTWATCH):  # first: see the top of this file
            t.exists(directory)
        seen = [_seen(t, action) for action in batch]
        held = kernel.backends() if any(a.verb is Verb.REMOVE for a in batch) else {}
        due = [
            _is_due(action, node, home, libxl, held)
            for action, (node, home) in zip(batch, seen, strict=True)
        ]
        todo = [action for action, needed in zip(batch, due, strict=True) if needed]
        if todo and not dry_run:
            _change(t, todo)
            if not t.commit():
                return None
    result = Result.PLANNED if dry_run else Result.DONE
    return [
        Outcome(action, result if needed else Result.UNNEEDED)
        for action, needed in zip(batch, due, strict=True)
    ]


def _path(action: Action) -> str:
    return f"{paths.MTWATCH}/{action.node}"


def _seen(t: Transaction, action: Action) -> tuple[Contents | bool, bool]:
    """Read the node and the domain's home, whether or not they are there."""
    node = _path(action)
    contents = _contents(t, node) if action.verb is Verb.REPAIR else None
    home = action.domid is not None and t.exists(paths.domain(action.domid))
    return contents or t.exists(node), home


def _is_due(
    action: Action,
    node: Contents | bool,
    home: bool,
    libxl: Context,
    held: dict[int, tuple[str, ...]],
) -> bool:
    """Whether the action's reason still holds. Raises LibxlError."""
    match action.verb:
        case Verb.ADD:
            assert action.domid is not None
            return not node and reconcile.wants_node(libxl.domain(action.domid), home=home)
        case Verb.REPAIR:
            return isinstance(node, Contents) and bool(reconcile.faults(node))
        case Verb.REMOVE if action.domid is not None:
            gone = reconcile.life_of(libxl.domain(action.domid)) is not Life.ALIVE
            return bool(node) and gone and action.domid not in held
        case Verb.REMOVE:
            return bool(node)


def _change(t: Transaction, actions: Sequence[Action]) -> None:
    if any(action.verb is Verb.ADD for action in actions):
        _make_directory(t)
    for action in actions:
        node = _path(action)
        match action.verb:
            case Verb.ADD:
                _make(t, node)
            case Verb.REPAIR:
                # Never by removing it: the kernel would end the domain's thread.
                _empty(t, node)
                _make(t, node)
            case Verb.REMOVE:
                t.remove(node)


def _make_directory(t: Transaction) -> None:
    if not t.exists(paths.MTWATCH):
        _make(t, paths.MTWATCH)


def _make(t: Transaction, node: str) -> None:
    t.mkdir(node)
    t.set_permissions(node, paths.NODE_PERMS)


def _empty(t: Transaction, node: str) -> None:
    for child in t.list(node) or ():
        t.remove(f"{node}/{child}")
    if t.read(node):
        t.write(node, "")
