# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every domid's node is to its domain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.errors import NoSuchDomainError, NoXenError
from xlmt.model import Domain, Thread
from xlmt.nodes.model import Life, Snapshot, State
from xlmt.nodes.plan import life_of, listing, state_of

ALIVE, DYING, ABSENT = Life.ALIVE, Life.DYING, Life.ABSENT
NO, YES = False, True

#: hypervisor, /local/domain/N, node, kernel backend -> state; None is "nothing of it is there"
TABLE = [
    (ALIVE, NO, NO, NO, State.TRANSITION),
    (ALIVE, NO, NO, YES, State.TRANSITION),
    (ALIVE, NO, YES, NO, State.TRANSITION),
    (ALIVE, NO, YES, YES, State.TRANSITION),
    (ALIVE, YES, NO, NO, State.MISSING),
    (ALIVE, YES, NO, YES, State.MISSING),
    (ALIVE, YES, YES, NO, State.OK),
    (ALIVE, YES, YES, YES, State.OK),
    *(
        (life, home, node, held, state)
        for life in (DYING, ABSENT)
        for home in (NO, YES)
        for node, held, state in (
            (NO, NO, None),
            (NO, YES, State.UNPROTECTED),
            (YES, NO, State.ORPHAN),
            (YES, YES, State.LINGERING),
        )
    ),
]

domids = st.integers(1, 32751)
domains = st.builds(
    Domain,
    domid=domids,
    uuid=st.just("u"),
    dying=st.booleans(),
    never_stop=st.booleans(),
)
node_names = st.one_of(
    domids.map(str), st.sampled_from(["0", "007", "abc", "32752", "+1", "1 ", ""])
)
snapshots = st.builds(
    Snapshot,
    nodes=st.frozensets(node_names, max_size=8),
    domains=st.lists(domains, max_size=8).map(lambda ds: {0: Domain(0)} | {d.domid: d for d in ds}),
    homes=st.frozensets(domids, max_size=8),
    backends=st.dictionaries(domids, st.just(("vif-x-0",)), max_size=8),
    names=st.dictionaries(domids, st.text(), max_size=4),
)


@pytest.mark.parametrize(("life", "home", "node", "held", "state"), TABLE)
def test_the_state_is_as_the_table_says(
    life: Life, home: bool, node: bool, held: bool, state: State | None
) -> None:
    assert state_of(life=life, home=home, node=node, held=held) is state


def test_the_table_has_every_combination_once() -> None:
    assert len({row[:4] for row in TABLE}) == len(TABLE) == 3 * 2 * 2 * 2


def test_what_the_hypervisor_does_not_list_is_absent() -> None:
    assert life_of(None) is ABSENT
    assert life_of(Domain(1)) is ALIVE
    assert life_of(Domain(1, dying=True)) is DYING


HOST = Snapshot(
    nodes=frozenset({"1", "9", "10", "abc", "007", "0", "40000"}),
    domains={0: Domain(0), 1: Domain(1, "u1"), 2: Domain(2, "u2")},
    homes=frozenset({1, 2}),
    backends={1: ("vbd-1-51712",), 10: ("vif-10-0",), 11: ("vif-11-0", "vif-11-1"), 0: ("x-0-0",)},
    threads={1: Thread("xen-mtwatch-1", 812, "S")},
    names={1: "web1"},
)


def test_a_host_is_listed_by_domid_with_each_state() -> None:
    assert [(row.domid, row.state) for row in listing(HOST).rows] == [
        (1, State.OK),
        (2, State.MISSING),
        (9, State.ORPHAN),
        (10, State.LINGERING),
        (11, State.UNPROTECTED),
    ]


def test_a_row_has_all_that_was_seen() -> None:
    row = listing(HOST).rows[0]
    assert (row.name, row.uuid, row.hypervisor) == ("web1", "u1", Life.ALIVE)
    assert (row.xenstore, row.node, row.backends) == (True, True, ("vbd-1-51712",))
    assert row.thread == Thread("xen-mtwatch-1", 812, "S")


def test_a_row_of_an_orphan_has_nothing_but_its_node() -> None:
    row = listing(HOST).rows[2]
    assert (row.name, row.uuid, row.hypervisor) == (None, None, Life.ABSENT)
    assert (row.xenstore, row.node, row.backends, row.thread) == (False, True, (), None)


def test_names_that_are_no_domids_are_foreign() -> None:
    assert listing(HOST).foreign == ("0", "007", "40000", "abc")


def test_the_domain_of_xenstored_needs_no_node_and_is_not_listed() -> None:
    host = HOST._replace(domains={1: Domain(1, never_stop=True)}, nodes=frozenset(), backends={})
    assert listing(host).rows == ()


def test_only_wanted_domains_are_listed_by_name_or_domid() -> None:
    found = listing(HOST, ["web1", "9"])
    assert [row.domid for row in found.rows] == [1, 9]
    assert found.foreign == ()


def test_a_wanted_domain_that_could_not_be_looked_for_is_another_error() -> None:
    unread = HOST._replace(domains=None, backends={}, problems=("hypervisor: no answer",))
    with pytest.raises(NoXenError, match="look up domain web1: hypervisor: no answer"):
        listing(unread._replace(names={}), ["web1"])


def test_a_domain_wanted_twice_is_listed_once() -> None:
    assert [row.domid for row in listing(HOST, ["1", "web1", "1"]).rows] == [1]


@pytest.mark.parametrize("wanted", ["3", "web", "", "0", "01", "None"])
def test_a_wanted_domain_that_nobody_knows_is_an_error(wanted: str) -> None:
    with pytest.raises(NoSuchDomainError, match=f"backend of {wanted};"):
        listing(HOST, ["1", wanted])


@pytest.mark.parametrize("source", ["nodes", "domains", "homes"])
def test_no_state_is_told_when_a_source_is_missing(source: str) -> None:
    unread: dict[str, None] = {source: None}
    found = listing(HOST._replace(problems=("it failed",), **unread))  # type: ignore[arg-type]  # mypy checks ** against every field
    assert found.rows
    assert {row.state for row in found.rows} == {None}
    assert found.problems == ("it failed",)


def test_without_sysfs_only_living_domains_have_a_state() -> None:
    found = listing(HOST._replace(backends=None))
    assert [(row.domid, row.state) for row in found.rows] == [
        (1, State.OK),
        (2, State.MISSING),
        (9, None),
        (10, None),
    ]


def test_what_could_not_be_read_is_unknown_and_not_no() -> None:
    unread = HOST._replace(nodes=None, homes=None, domains=None)
    row = listing(unread).rows[0]
    assert (row.domid, row.node, row.xenstore, row.hypervisor) == (1, None, None, None)


def test_threads_that_cannot_be_read_take_no_state_away() -> None:
    found = listing(HOST._replace(threads=None))
    assert (found.rows[0].state, found.rows[0].thread) == (State.OK, None)


@given(snapshots)
def test_every_node_is_listed_once_as_a_row_or_as_foreign(snapshot: Snapshot) -> None:
    found = listing(snapshot)
    assert snapshot.nodes is not None
    assert snapshot.domains is not None
    special = {str(d.domid) for d in snapshot.domains.values() if d.never_stop}
    listed = [str(row.domid) for row in found.rows if row.node] + list(found.foreign)
    assert sorted(listed) == sorted(snapshot.nodes - special)


@given(snapshots)
def test_rows_are_in_order_and_never_of_domain_0(snapshot: Snapshot) -> None:
    numbers = [row.domid for row in listing(snapshot).rows]
    assert numbers == sorted(set(numbers))
    assert 0 not in numbers


@given(snapshots)
def test_every_kernel_backend_and_every_living_domain_has_a_row(snapshot: Snapshot) -> None:
    assert snapshot.domains is not None
    assert snapshot.backends is not None
    special = {d.domid for d in snapshot.domains.values() if d.never_stop}
    wanted = (set(snapshot.backends) | set(snapshot.domains)) - special - {0}
    assert wanted <= {row.domid for row in listing(snapshot).rows}


@given(snapshots)
def test_only_what_is_gone_and_held_by_nothing_is_an_orphan(snapshot: Snapshot) -> None:
    for row in listing(snapshot).rows:
        gone = row.hypervisor is not Life.ALIVE
        assert (row.state is State.ORPHAN) == (gone and bool(row.node) and not row.backends)
