# SPDX-License-Identifier: LGPL-2.1-or-later
"""Judge one look at the host: what every domid's node is to its domain. Pure."""

from collections.abc import Sequence

from xlmt import paths
from xlmt.errors import NoSuchDomainError
from xlmt.model import Domain, Life, Listing, Row, Snapshot, State


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


def listing(snapshot: Snapshot, wanted: Sequence[str] | None = None) -> Listing:
    """Return the rows of the host's domids in ascending order, or those of `wanted` ones.

    A wanted domain is given by domid or name; raises NoSuchDomainError for one without a row.
    """
    nodes = snapshot.nodes or frozenset()
    domids = {d for d in map(paths.parse_domid, nodes) if d is not None}
    domids |= set(snapshot.domains or ()) | set(snapshot.backends or ())
    domids -= {0} | {d.domid for d in (snapshot.domains or {}).values() if d.never_stop}
    rows = [row for domid in sorted(domids) if (row := _row(snapshot, domid))]
    foreign = sorted(name for name in nodes if paths.parse_domid(name) is None)
    if wanted:
        return Listing(_chosen(rows, wanted), (), snapshot.problems)
    return Listing(tuple(rows), tuple(foreign), snapshot.problems)


def _chosen(rows: Sequence[Row], wanted: Sequence[str]) -> tuple[Row, ...]:
    for text in wanted:
        if not any(text in (str(row.domid), row.name) for row in rows):
            raise NoSuchDomainError(f"nothing is known of a domain {text}; see: xlmt list")
    return tuple(row for row in rows if {str(row.domid), row.name} & set(wanted))


def _row(snapshot: Snapshot, domid: int) -> Row | None:
    domain = snapshot.domains.get(domid) if snapshot.domains is not None else None
    life = life_of(domain) if snapshot.domains is not None else None
    home = domid in snapshot.homes if snapshot.homes is not None else None
    node = str(domid) in snapshot.nodes if snapshot.nodes is not None else None
    backends = snapshot.backends.get(domid, ()) if snapshot.backends is not None else None
    state = None
    if life is not None and home is not None and node is not None and backends is not None:
        state = state_of(life=life, home=home, node=node, held=bool(backends))
        if state is None and life is Life.ABSENT:
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
    )
