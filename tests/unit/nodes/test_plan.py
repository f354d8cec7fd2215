# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be done about the nodes: the plan, and the gate before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.model import Domain
from xlmt.nodes.model import Contents, Kept, Life, Plan, Snapshot, State, Verb
from xlmt.nodes.plan import (
    faults,
    gate,
    is_settled,
    judge,
    life_of,
    listing,
    narrowed,
    out_of_order,
    plan,
    settled,
    to_be_named,
)
from xlmt.paths import NODE_PERMS

RIGHT = Contents(NODE_PERMS)
SOURCES = ("nodes", "domains", "homes", "backends")

#: Few domids, so that the sources speak of the same ones.
domids = st.integers(1, 12) | st.just(32751)
domains = st.builds(Domain, domid=domids, dying=st.booleans(), never_stop=st.booleans())
foreign_names = st.sampled_from(["0", "007", "abc", "32752", "+1", "1 ", "\x1b[2J", "x" * 3000])
contents = st.builds(
    Contents,
    permissions=st.sampled_from([NODE_PERMS, ("b0",), ("n0", "r5"), ("n3",), ()]),
    value=st.sampled_from(["", "1"]),
    children=st.lists(st.text("ab", min_size=1), max_size=2).map(tuple),
)
snapshots = st.builds(
    Snapshot,
    nodes=st.frozensets(domids.map(str) | foreign_names, max_size=16),
    domains=st.lists(domains, max_size=12).map(
        lambda ds: {0: Domain(0)} | {d.domid: d for d in ds}
    ),
    homes=st.frozensets(domids | st.just(0), max_size=12),
    backends=st.dictionaries(domids, st.just(("vif-x-0",)), max_size=6),
    names=st.dictionaries(domids, st.text(min_size=1), max_size=4),
    contents=st.dictionaries(domids, contents, max_size=6),
)


def applied(snapshot: Snapshot, what: Plan) -> Snapshot:
    """The host after all of the plan was done and nothing else happened."""
    nodes, held = set(snapshot.nodes or ()), dict(snapshot.contents)
    for action in what.allowed:
        match action.verb:
            case Verb.ADD:
                nodes.add(action.node)
            case Verb.REMOVE:
                nodes.remove(action.node)  # fails when it was not there
        if action.domid is not None:
            held[action.domid] = RIGHT
    return snapshot._replace(nodes=frozenset(nodes), contents=held)


def removed(what: Plan) -> set[str]:
    return {action.node for action in what.actions if action.verb is Verb.REMOVE}


def without(snapshot: Snapshot, *sources: str) -> Snapshot:
    unread: dict[str, None] = dict.fromkeys(sources)
    return snapshot._replace(**unread)  # type: ignore[arg-type]  # mypy checks ** against every field


# --- properties ----------------------------------------------------------------------------


@given(snapshots, st.booleans())
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(snapshot: Snapshot, prune: bool) -> None:
    done = applied(snapshot, plan(snapshot, force=True, prune_foreign=prune))
    assert plan(done, force=True, prune_foreign=prune).actions == ()


@given(snapshots)
def test_a_plan_that_was_carried_out_leaves_every_living_guest_its_node(s: Snapshot) -> None:
    done = applied(s, plan(s, force=True))
    for row in listing(done).rows:
        assert row.state not in {State.MISSING, State.ORPHAN}


@given(snapshots, st.sets(st.sampled_from(SOURCES), min_size=1))
def test_a_source_that_could_not_be_read_never_leads_to_a_removal(
    snapshot: Snapshot, unread: set[str]
) -> None:
    what = plan(without(snapshot, *unread), force=True, prune_foreign=True)
    assert removed(what) == set()
    assert not what.complete
    assert what.blind == ("domains" in unread)


@given(snapshots, st.sets(st.sampled_from(["nodes", "domains", "homes"]), min_size=1))
def test_nothing_is_added_unless_the_guest_is_known_to_need_it(
    snapshot: Snapshot, unread: set[str]
) -> None:
    assert plan(without(snapshot, *unread)).actions == ()


@given(snapshots)
def test_what_is_added_does_not_depend_on_sysfs(snapshot: Snapshot) -> None:
    with_it, without_it = plan(snapshot), plan(without(snapshot, "backends"))
    assert without_it.actions == tuple(
        a for a in with_it.actions if a.state is not State.LINGERING and a.verb is not Verb.REMOVE
    )


@given(snapshots, st.booleans(), st.randoms())
def test_the_order_of_what_was_read_does_not_matter(
    s: Snapshot, prune: bool, random: object
) -> None:
    def shuffled(mapping: object) -> dict[int, object]:
        items = list(dict(mapping).items())  # type: ignore[call-overload]
        random.shuffle(items)  # type: ignore[attr-defined]
        return dict(items)

    other = s._replace(
        domains=shuffled(s.domains),  # type: ignore[arg-type]
        backends=shuffled(s.backends),  # type: ignore[arg-type]
        names=shuffled(s.names),  # type: ignore[arg-type]
        contents=shuffled(s.contents),  # type: ignore[arg-type]
    )
    assert plan(other, prune_foreign=prune) == plan(s, prune_foreign=prune)


@given(snapshots, st.booleans())
def test_what_a_guest_or_the_kernel_needs_is_never_removed(s: Snapshot, prune: bool) -> None:
    assert s.domains is not None
    assert s.backends is not None
    alive = {str(d.domid) for d in s.domains.values() if life_of(d) is Life.ALIVE and d.domid}
    gone = removed(plan(s, force=True, prune_foreign=prune))
    assert not gone & alive
    assert not gone & {str(domid) for domid in s.backends}


@given(snapshots)
def test_foreign_children_are_named_and_touched_only_if_asked(snapshot: Snapshot) -> None:
    assert snapshot.nodes is not None
    foreign = {
        name for name in snapshot.nodes if not name.isdigit() or name in {"0", "007", "32752"}
    }
    assert set(plan(snapshot).foreign) == foreign
    assert not removed(plan(snapshot, force=True)) & foreign
    pruned = plan(snapshot, force=True, prune_foreign=True)
    assert removed(pruned) >= foreign
    assert pruned.foreign == ()  # not said to be left alone as well


@given(snapshots)
def test_adds_come_before_repairs_before_removals_each_by_domid(snapshot: Snapshot) -> None:
    actions = plan(snapshot, prune_foreign=True).actions
    order = [Verb.ADD, Verb.REPAIR, Verb.REMOVE]
    keys = [(order.index(a.verb), a.domid or 0, a.node) for a in actions]
    assert keys == sorted(keys)
    assert len({a.node for a in actions}) == len(actions)


@given(snapshots)
def test_a_plan_for_some_domains_is_that_part_of_the_plan_for_all(snapshot: Snapshot) -> None:
    rows = listing(snapshot).rows[::2]
    if rows:
        wanted = [str(row.domid) for row in rows]
        # one domain's name may be another one's domid
        meant = {row.domid for row in listing(snapshot, wanted).rows}
        part = plan(snapshot, wanted, force=True)
        whole = plan(snapshot, force=True)
        assert part.actions == tuple(a for a in whole.actions if a.domid in meant)


# --- the gate ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("removals", "nodes", "refused"),
    [
        (0, 0, False),
        (8, 8, False),  # everyday business, whatever the share
        (9, 9, True),
        (9, 35, True),
        (9, 36, False),  # exactly a quarter
        (200, 200, True),
        (200, 800, False),
    ],
)
def test_the_gate_is_where_the_manual_says(removals: int, nodes: int, refused: bool) -> None:
    assert (gate(removals, nodes) is not None) == refused


@given(st.integers(0, 40000), st.integers(0, 40000), st.integers(0, 100), st.integers(0, 100))
def test_the_gate_is_monotone(removals: int, nodes: int, more: int, fewer: int) -> None:
    if gate(removals, nodes):
        assert gate(removals + more, nodes)
        assert gate(removals, max(nodes - fewer, 0))


@given(snapshots)
def test_a_refused_plan_still_adds(snapshot: Snapshot) -> None:
    what = plan(snapshot, prune_foreign=True)
    adds = [a for a in what.actions if a.verb is not Verb.REMOVE]
    assert list(what.allowed) == (adds if what.refusal else list(what.actions))


def test_the_refusal_has_the_numbers_and_the_way_out() -> None:
    nodes = frozenset(map(str, range(1, 31)))
    what = plan(Snapshot(nodes=nodes, domains={0: Domain(0)}))
    assert len(what.actions) == 30
    assert what.allowed == ()
    for words in ("30 of 30", "xlmt list", "xlmt reconcile --force"):
        assert words in (what.refusal or "")
    assert plan(Snapshot(nodes=nodes, domains={0: Domain(0)}), force=True).refusal is None


# --- reasons -------------------------------------------------------------------------------

HOST = Snapshot(
    nodes=frozenset({"1", "7", "8", "9", "abc"}),
    domains={0: Domain(0), 1: Domain(1), 2: Domain(2), 3: Domain(3), 8: Domain(8, dying=True)},
    homes=frozenset({0, 1, 2}),
    backends={9: ("vif-9-0", "vbd-9-51712")},
    names={2: "web2"},
)


def test_the_reasons_are_words_that_an_administrator_understands() -> None:
    what = plan(HOST, prune_foreign=True)
    assert [(a.verb, a.node, a.state, a.reason) for a in what.actions] == [
        (Verb.ADD, "2", State.MISSING, "web2 (domain 2) runs without a node"),
        (Verb.REMOVE, "abc", State.FOREIGN, "it is no domid of a guest"),
        (
            Verb.REMOVE,
            "7",
            State.ORPHAN,
            "domain 7 is gone and the kernel holds none of its devices",
        ),
        (
            Verb.REMOVE,
            "8",
            State.ORPHAN,
            "domain 8 is dead and the kernel holds none of its devices",
        ),
    ]
    reason = "domain 9 is gone, but the kernel still holds vif-9-0, vbd-9-51712"
    assert what.kept == (Kept(9, State.LINGERING, reason),)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (Contents(("n0",)), ()),
        (Contents(("b0", "r5")), ("its permissions are b0 r5 and not n0",)),
        (Contents(("n0",), "1"), ("it has a value",)),
        (Contents(("n0",), "", ("a", "b")), ("it has child nodes (2)",)),
    ],
)
def test_what_is_wrong_with_a_node_is_said(held: Contents, words: tuple[str, ...]) -> None:
    assert faults(held) == words


def test_only_nodes_that_stay_are_repaired() -> None:
    wrong = Contents(("b0",), "x")
    what = plan(HOST._replace(contents=dict.fromkeys((1, 7, 9), wrong)))
    reason = "its permissions are b0 and not n0 and it has a value"
    assert [(a.domid, a.reason) for a in what.actions if a.verb is Verb.REPAIR] == [
        (1, reason),
        (9, reason),
    ]


# --- which domains -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "home", "wanted"),
    [
        (Domain(1), True, True),
        (Domain(1), False, False),
        (Domain(1, dying=True), True, False),
        (Domain(1, never_stop=True), True, False),
        (Domain(0), True, False),
        (None, True, False),
    ],
)
def test_only_a_guest_that_is_up_misses_its_node(
    domain: Domain | None, home: bool, wanted: bool
) -> None:
    assert (judge(domain, home=home, node=False) is State.MISSING) is wanted


def test_names_are_asked_for_as_few_domains_as_will_do() -> None:
    assert to_be_named(HOST) == (1, 2, 3, 8)
    assert to_be_named(HOST, ["2", "9"]) == (2,)
    assert to_be_named(HOST, ["2", "web2"]) == (1, 2, 3, 8)
    many = HOST._replace(
        domains={d: Domain(d) for d in range(2000)},
        homes=frozenset(range(2000)),
        nodes=frozenset(map(str, range(1, 1999))),
    )
    assert to_be_named(many) == (1999,)
    assert len(to_be_named(many, ["web2"])) == 1999


def test_only_the_names_of_guests_that_miss_their_node_are_in_a_reason() -> None:
    assert out_of_order(HOST) == (2,)
    everybody = HOST._replace(
        domains={d: Domain(d) for d in range(2000)}, homes=frozenset(range(2000))
    )
    assert out_of_order(everybody) == ()


# --- two looks -----------------------------------------------------------------------------

MISSING = Snapshot(domains={0: Domain(0), 5: Domain(5)}, homes=frozenset([5]))
RUNNING = MISSING._replace(nodes=frozenset("5"))
ORPHAN = Snapshot(nodes=frozenset("5"), domains={0: Domain(0)})
GONE = Snapshot(domains={0: Domain(0)})
UNREAD = Snapshot(domains=None, problems=("hypervisor: gone",))


@pytest.mark.parametrize(
    ("before", "now", "states"),
    [
        (MISSING, MISSING, [State.MISSING]),
        (MISSING, RUNNING, [State.OK]),  # was created between two sources of the first look
        (MISSING, ORPHAN, [State.TRANSITION]),
        (ORPHAN, ORPHAN, [State.ORPHAN]),
        (ORPHAN, GONE, []),
        (RUNNING, MISSING, [State.OK]),  # is not looked at again
    ],
)
def test_what_is_wrong_in_one_look_only_is_not_said(
    before: Snapshot, now: Snapshot, states: list[State]
) -> None:
    told = settled(listing(before), listing(now))
    assert [row.state for row in told.rows] == states
    assert is_settled(told) == (states in ([], [State.OK], [State.TRANSITION]))


def test_what_a_later_look_could_not_read_is_told() -> None:
    told = settled(listing(ORPHAN), listing(UNREAD._replace(nodes=ORPHAN.nodes)))
    assert told.problems == UNREAD.problems
    assert [row.state for row in told.rows] == [None]


@given(snapshots, snapshots)
def test_nothing_is_said_to_be_wrong_that_was_not_so_twice(before: Snapshot, now: Snapshot) -> None:
    wrong = {State.MISSING, State.ORPHAN}
    looks = [
        {(row.domid, row.state) for row in listing(each).rows if row.state in wrong}
        for each in (before, now)
    ]
    told = settled(listing(before), listing(now)).rows
    assert {(r.domid, r.state) for r in told if r.state in wrong} == looks[0] & looks[1]


@pytest.mark.parametrize("left", [8, 9])
def test_the_gate_counts_what_is_still_to_be_removed(left: int) -> None:
    snapshot = Snapshot(nodes=frozenset(map(str, range(1, 21))), domains={0: Domain(0)})
    refused = plan(snapshot)
    assert refused.refusal
    now = narrowed(refused, refused.actions[:left], snapshot)
    assert len(now.actions) == left
    assert (now.refusal is None) == (left == 8)
    forced = plan(snapshot, force=True)
    assert narrowed(forced, forced.actions[:left], snapshot).refusal is None
