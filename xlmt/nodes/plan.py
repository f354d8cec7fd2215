# SPDX-License-Identifier: LGPL-2.1-or-later
"""Judge one look at the host: what every node is to its domain, and what is to be done. Pure.

The words are those of xlmt-mtwatch(7). A snapshot becomes a listing, one row with a state per
domid, and a listing becomes a plan. A plan is only as good as its snapshot is fresh:
`apply.apply` looks at each action's reason again before it changes anything.
"""

from collections.abc import Collection, Iterable, Sequence

from xlmt import paths
from xlmt.errors import NoSuchDomainError, NoXenError, XlmtError
from xlmt.model import Domain
from xlmt.nodes.model import Action, Contents, Kept, Life, Listing, Plan, Row, Snapshot, State, Verb
from xlmt.text import guest

#: Up to so many removals are everyday business, whatever their share of the nodes.
GATE_REMOVALS = 8
#: More than one node in so many at once looks like something that we misread.
GATE_SHARE = 4
#: Names cost a request each: of more domains than this, only those out of order are named.
_NAMES = 1000

#: What becomes of these is told by no event: one has to look again.
_UNSETTLED = {State.TRANSITION, State.LINGERING}

#: What a state calls for, whoever sees it; for anything else somebody has to look, or to wait.
CALLS_FOR = {State.MISSING: Verb.ADD, State.ORPHAN: Verb.REMOVE}

_ORDER = (Verb.ADD, Verb.REPAIR, Verb.REMOVE)


# --- states --------------------------------------------------------------------------------


def state_of(*, life: Life, home: bool, node: bool, held: bool) -> State | None:
    """Return the state of a domid, or None when nothing of it is there.

    `home`: /local/domain/<domid> exists; `node`: its mtwatch node exists; `held`: this kernel
    holds a backend device of it.

    An alive domain without a home is being born or torn down: libxl makes the home after the
    hypervisor has made the domain, and removes it before the hypervisor removes the domain. The
    hypervisor goes on listing a killed domain as alive while it gives its memory back.
    """
    if life is Life.ALIVE:
        if not home:
            return State.TRANSITION
        return State.OK if node else State.MISSING
    if node:
        return State.LINGERING if held else State.ORPHAN
    if held:
        return State.UNPROTECTED
    return None


def life_of(domain: Domain | None) -> Life:
    """Return what the hypervisor's row, or its absence, says."""
    if domain is None:
        return Life.ABSENT
    return Life.DYING if domain.dying else Life.ALIVE


def judge(domain: Domain | None, *, home: bool, node: bool, held: bool = False) -> State | None:
    """Return the state of a domid by the hypervisor's row of it, None where it has none.

    That is the rule for all that looks at one domid. None also for domain 0 and for the domain
    that xenstored runs in: the contract is not about them.
    """
    if domain is not None and (domain.domid == 0 or domain.never_stop):
        return None
    return state_of(life=life_of(domain), home=home, node=node, held=held)


def faults(contents: Contents) -> tuple[str, ...]:
    """Return what is wrong with a node, in words; nothing for one that is as it should be."""
    found = []
    if contents.permissions != paths.NODE_PERMS:
        wrong, right = " ".join(contents.permissions), " ".join(paths.NODE_PERMS)
        found.append(f"its permissions are {wrong} and not {right}")
    if contents.value:
        found.append("it has a value")
    if contents.children:
        found.append(f"it has child nodes ({len(contents.children)})")
    return tuple(found)


# --- listing -------------------------------------------------------------------------------


def listing(snapshot: Snapshot, wanted: Sequence[str] | None = None) -> Listing:
    """Return the rows of the host's domids in ascending order, or those of `wanted` ones.

    A wanted domain is given by domid or name; raises NoSuchDomainError for one without a row, or
    XlmtError when that may be because something could not be read.
    """
    nodes = snapshot.nodes or frozenset()
    domids = {d for d in map(paths.parse_domid, nodes) if d is not None}
    domids |= set(snapshot.domains or ()) | set(snapshot.backends or ())
    domids -= {0} | {d.domid for d in (snapshot.domains or {}).values() if d.never_stop}
    rows = [row for domid in sorted(domids) if (row := _row(snapshot, domid))]
    foreign = sorted(name for name in nodes if paths.parse_domid(name) is None)
    if wanted:
        return Listing(_chosen(rows, wanted, snapshot), (), snapshot.problems)
    return Listing(tuple(rows), tuple(foreign), snapshot.problems)


def _chosen(rows: Sequence[Row], wanted: Sequence[str], snapshot: Snapshot) -> tuple[Row, ...]:
    known = {str(row.domid) for row in rows} | {row.name for row in rows}
    for text in wanted:
        if text not in known and snapshot.problems:
            kind = NoXenError if snapshot.domains is None else XlmtError
            raise kind(f"cannot look up domain {text}: {'; '.join(snapshot.problems)}")
        if text not in known:
            raise NoSuchDomainError(f"no domain, node or backend of {text}; see: xlmt list")
    chosen = set(wanted)
    return tuple(row for row in rows if str(row.domid) in chosen or row.name in chosen)


def is_settled(told: Listing) -> bool:
    """Whether no node seems to be missing, or left over.

    One may be for a moment, while its guest comes or goes: the sources are read one after the
    other, and the node is the last thing that goes.
    """
    return not any(row.state in CALLS_FOR for row in told.rows)


def settled(before: Listing, now: Listing) -> Listing:
    """Return the rows of `before`; those that are not settled as a later look has them.

    What is missing, or left over, in one of the two looks only is in transition.
    """
    later = {row.domid: row for row in now.rows}
    rows = [
        _settled(row, later.get(row.domid)) if row.state in CALLS_FOR else row
        for row in before.rows
    ]
    problems = dict.fromkeys((*before.problems, *now.problems))
    return Listing(tuple(filter(None, rows)), before.foreign, tuple(problems))


def _settled(row: Row, later: Row | None) -> Row | None:
    if later and later.state in CALLS_FOR and later.state is not row.state:
        return later._replace(state=State.TRANSITION)
    return later


def _row(snapshot: Snapshot, domid: int) -> Row | None:
    domain = snapshot.domains.get(domid) if snapshot.domains is not None else None
    life = life_of(domain) if snapshot.domains is not None else None
    home = domid in snapshot.homes if snapshot.homes is not None else None
    node = str(domid) in snapshot.nodes if snapshot.nodes is not None else None
    backends = snapshot.backends.get(domid, ()) if snapshot.backends is not None else None
    state = None
    if life is not None and home is not None and node is not None:
        # What the kernel holds makes no difference to a domain that lives.
        if life is Life.ALIVE or backends is not None:
            state = state_of(life=life, home=home, node=node, held=bool(backends))
        if state is None and life is Life.ABSENT and backends is not None:
            return None
    return Row(
        domid=domid,
        name=snapshot.names.get(domid),
        uuid=domain.uuid if domain else None,
        hypervisor=life,
        xenstore=home,
        node=node,
        state=state,
        backends=backends,
        thread=snapshot.threads.get(domid) if snapshot.threads is not None else None,
        shutdown=domain.shutdown if domain else None,
        half_made=domain is not None and domain.is_half_made,
        guarded=snapshot.guarded.get(domid),
    )


def to_be_named(snapshot: Snapshot, wanted: Sequence[str] | None = None) -> tuple[int, ...]:
    """Return the domids whose names a list of `wanted` domains needs.

    All of them, to find one by its name; and if there are not too many.
    """
    by_domid = [domid for text in wanted or () if (domid := paths.parse_domid(text))]
    if wanted and len(by_domid) == len(wanted):
        return tuple(sorted(set(by_domid) & set(snapshot.domains or ())))
    domids = tuple(sorted(set(snapshot.domains or ()) - {0}))
    if wanted or len(domids) <= _NAMES:
        return domids
    return out_of_order(snapshot)


def out_of_order(snapshot: Snapshot) -> tuple[int, ...]:
    """Return the living domids that something is wrong with, if there are few enough to name."""
    nodes, homes = snapshot.nodes, snapshot.homes
    if nodes is None or homes is None:
        return ()
    domids = tuple(
        domid
        for domid, domain in sorted((snapshot.domains or {}).items())
        if judge(domain, home=domid in homes, node=str(domid) in nodes) is State.MISSING
    )
    return domids if len(domids) <= _NAMES else ()


# --- plan ----------------------------------------------------------------------------------


def plan(
    snapshot: Snapshot,
    wanted: Sequence[str] | None = None,
    *,
    force: bool = False,
    prune_foreign: bool = False,
) -> Plan:
    """Return what is to be done about the host's nodes, or about those of `wanted` domains.

    `force` opens the safety gate; `prune_foreign` removes what is no domid. A snapshot that is
    not complete leads to no removal. Raises what `listing` does.
    """
    seen = listing(snapshot, wanted)
    actions = [action for row in seen.rows if (action := _action(row, snapshot))]
    if prune_foreign:
        actions += [_prune(name) for name in seen.foreign]
    if not snapshot.complete:
        actions = [action for action in actions if action.verb is not Verb.REMOVE]
    removals = sum(action.verb is Verb.REMOVE for action in actions)
    return Plan(
        actions=_in_order(actions),
        kept=tuple(
            Kept(row.domid, row.state, _why_kept(row))
            for row in seen.rows
            if row.state is State.LINGERING
        ),
        foreign=() if prune_foreign and snapshot.complete else seen.foreign,
        refusal=None if force else gate(removals, len(snapshot.nodes or ())),
        complete=snapshot.complete,
        blind=snapshot.domains is None,
        problems=snapshot.problems,
        unsettled=any(row.state in _UNSETTLED for row in seen.rows),
    )


def narrowed(what: Plan, actions: Collection[Action], snapshot: Snapshot) -> Plan:
    """Return the plan with these of its actions, the gate being asked again."""
    removals = sum(action.verb is Verb.REMOVE for action in actions)
    refusal = gate(removals, len(snapshot.nodes or ())) if what.refusal else None
    return what._replace(actions=tuple(actions), refusal=refusal)


def gate(removals: int, nodes: int) -> str | None:
    """Return why so many removals, of so many nodes in all, are refused; None if they are not."""
    if removals <= GATE_REMOVALS or removals * GATE_SHARE <= nodes:
        return None
    return (
        f"{removals} of {nodes} nodes would be removed at once, more than {GATE_REMOVALS} and "
        f"more than one in {GATE_SHARE}; nothing is removed. Check with xlmt list that these "
        "domains are gone; then: xlmt reconcile --force"
    )


def _action(row: Row, snapshot: Snapshot) -> Action | None:
    who = guest(row.name, row.domid)
    match row.state:
        case State.MISSING:
            return _to(CALLS_FOR[row.state], row, f"{who} runs without a node")
        case State.ORPHAN:
            how = "dead" if row.hypervisor is Life.DYING else "gone"
            why = f"{who} is {how} and the kernel holds none of its devices"
            return _to(CALLS_FOR[row.state], row, why)
        case State.OK | State.LINGERING if row.domid in snapshot.contents:
            wrong = faults(snapshot.contents[row.domid])
            return _to(Verb.REPAIR, row, " and ".join(wrong)) if wrong else None
        case _:
            return None


def _to(verb: Verb, row: Row, reason: str) -> Action:
    assert row.state is not None
    return Action(verb, str(row.domid), row.domid, row.state, reason)


def _prune(name: str) -> Action:
    return Action(Verb.REMOVE, name, None, State.FOREIGN, "it is no domid of a guest")


def _why_kept(row: Row) -> str:
    who, held = guest(row.name, row.domid), ", ".join(row.backends or ())
    return f"{who} is gone, but the kernel still holds {held}"


def _in_order(actions: Iterable[Action]) -> tuple[Action, ...]:
    return tuple(sorted(actions, key=lambda a: (_ORDER.index(a.verb), a.domid or 0, a.node)))
