# SPDX-License-Identifier: LGPL-2.1-or-later
"""Put nodes right.

Why no change of `apply` is ever wrong, in one trip. Everything that an action's reason rests on
is looked at again inside one xenstore transaction: the node and the domain's home are read in
it, then the hypervisor is asked and after it sysfs, then comes the commit. If that goes through,
node and home were for all that time as they had been read. So a domain that was made meanwhile
with the same domid has its own transaction, which writes both, still before it, and whatever was
removed here it makes anew. If xenstored says EAGAIN, all of this is asked again.

oxenstored needs a hand, twice. It merges a transaction with what others have changed unless that
touches what was *successfully* read, and a home that is not there cannot be: reading
/local/domain, too, keeps it from merging (transaction.ml, commit_partial). It then repeats each
request and compares the answers (process.ml, transaction_replay), and a home that a dead domain
has left behind answers as that of a new domain does: so we also read what differs from one
domain to the next.

The C daemon needs one, too: what a transaction has not touched yet it sees as it is now. If
somebody removes a node between our reading it and our removing it, the directory lacks what is
to be removed: the daemon takes that for a corrupt store, checks all of it and answers EIO
(xenstored_core.c, delete_child). Reading mtwatch before its nodes keeps it as it was.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xlmt import paths
from xlmt.errors import TimedOutError, XenstoreUnreachableError, XlmtError
from xlmt.kernel import proc
from xlmt.libxl import Context
from xlmt.model import Domain
from xlmt.nodes.model import Action, Contents, Outcome, Result, State, Verb
from xlmt.nodes.observe import contents_of
from xlmt.nodes.plan import CALLS_FOR, faults, judge
from xlmt.xenstore import Store, Transaction

#: Commits that may fail with EAGAIN before we say that xenstored is too busy. Each needs somebody
#: else's commit in between, so a handful is a lot.
_ATTEMPTS = 100
#: Changes in one transaction. The C daemon searches all that a transaction has touched on every
#: request, and the longer one takes the likelier is a conflict.
_BATCH = 64
_LONGEST_PAUSE_S = 0.02
#: So long without one commit that went through is too busy, too.
_BUSY_S = 10.0


# --- change --------------------------------------------------------------------------------


def prepare(store: Store) -> None:
    """Make mtwatch, if it is not there, so that no creation has to. Raises XenstoreError."""
    if not store.exists(paths.MTWATCH):
        with store.transaction() as t:
            _make_directory(t)
            t.commit()  # after EAGAIN it is there, or the first creation makes it


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
    raise TimedOutError(f"cannot write {node}: {_BUSY}")


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
    conflicts, in_a_row, until = 0, 0, time.monotonic() + _BUSY_S
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
            in_a_row, until = 0, time.monotonic() + _BUSY_S
            yield from outcomes
            continue
        conflicts, in_a_row = conflicts + 1, in_a_row + 1
        if conflicts > _ATTEMPTS + 4 * len(actions) or time.monotonic() > until:
            yield from (Outcome(action, Result.CONFLICT, _BUSY) for action in batch)
        else:
            batches.extendleft(_halves(batch))
            _pause(in_a_row)


_BUSY = "the transaction kept conflicting with other changes (EAGAIN)"


def _halves(batch: Sequence[Action]) -> list[Sequence[Action]]:
    """Return the batch in two, the second half first, as extendleft wants it."""
    middle = (len(batch) + 1) // 2
    return [half for half in (batch[middle:], batch[:middle]) if half]


def _pause(attempt: int) -> None:
    time.sleep(min(0.0005 * 2 ** min(attempt, 10), _LONGEST_PAUSE_S))  # no float is 2**1100


def _attempt(
    store: Store, libxl: Context, batch: Sequence[Action], *, dry_run: bool
) -> list[Outcome] | None:
    """Carry the batch out in one transaction; None when others were in its way."""
    with store.transaction() as t:
        for directory in (paths.DOMAINS, paths.MTWATCH):  # first: see the top of this file
            t.exists(directory)
        looks = [_look(t, action) for action in batch]
        domains = [libxl.domain(a.domid) if a.domid is not None else None for a in batch]
        # After the hypervisor: a domain that is gone gets no new devices.
        held = proc.backends() if any(a.verb is Verb.REMOVE for a in batch) else {}
        due = [
            action
            for action, look, domain in zip(batch, looks, domains, strict=True)
            if _is_due(action, look, domain, held)
        ]
        if due and not dry_run:
            _change(t, due)
            if not t.commit():
                return None
    if not dry_run:
        _give_back(store, libxl, due)
    result = Result.PLANNED if dry_run else Result.DONE
    needed = set(due)
    return [Outcome(a, result if a in needed else Result.UNNEEDED) for a in batch]


class _Look(NamedTuple):
    """What the transaction has read for an action; `contents` only for a repair."""

    node: bool
    home: bool
    contents: Contents | None = None


def _path(action: Action) -> str:
    return f"{paths.MTWATCH}/{action.node}"


def _look(t: Transaction, action: Action) -> _Look:
    if action.verb is Verb.REPAIR:
        contents = contents_of(t, _path(action))
        return _Look(contents is not None, home=False, contents=contents)
    node = t.exists(_path(action))
    if action.domid is None:
        return _Look(node, home=False)
    home = paths.domain(action.domid)
    there = t.exists(home)
    if there and action.verb is Verb.REMOVE and (vm := t.read(f"{home}/vm")):
        # One of the two is another one for a new domain; and both are gone in between.
        t.read(f"{vm}/start_time")
    return _Look(node, there)


def _is_due(
    action: Action, look: _Look, domain: Domain | None, held: dict[int, tuple[str, ...]]
) -> bool:
    """Whether the action's reason still holds."""
    if action.verb is Verb.REPAIR:
        return look.contents is not None and bool(faults(look.contents))
    state = judge(domain, home=look.home, node=look.node, held=action.domid in held)
    return state is not None and CALLS_FOR.get(state) is action.verb


def _give_back(store: Store, libxl: Context, done: Sequence[Action]) -> None:
    """Make the node of a domain again that has come to life while its domid's was removed.

    By all that is said at the top that cannot be. It costs a hypercall per removal to be sure.
    """
    for action in done:
        if action.verb is not Verb.REMOVE or action.domid is None:
            continue
        domain = libxl.domain(action.domid)
        if domain is None:
            continue
        home = store.exists(paths.domain(action.domid))
        if judge(domain, home=home, node=False) is State.MISSING:
            put_node(store, action.domid)


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
