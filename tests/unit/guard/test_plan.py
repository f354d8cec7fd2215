# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sockets a look calls for."""

from hypothesis import given
from hypothesis import strategies as st

from xlmt.guard.netlink import Change
from xlmt.guard.plan import news, plan
from xlmt.guard.settings import Settings
from xlmt.model import Vif

ALL, NOBODY = Settings(True), Settings()
ONE, TWO = Vif(7, "vif1.0", 1, "vif-1-0"), Vif(8, "vif2.0", 2, "vif-2-0")


def planned(
    settings: Settings,
    vifs: list[Vif],
    held: list[Vif],
    *,
    names: dict[int, str | None] | None = None,
    dead: tuple[int, ...] = (),
) -> tuple[tuple[Vif, ...], tuple[int, ...]]:
    have = {vif.ifindex: vif for vif in held}
    return plan(settings, vifs, names or {}, have, have.keys() - set(dead))


def test_a_new_vif_gets_a_socket_and_one_that_is_gone_loses_it() -> None:
    assert planned(ALL, [ONE, TWO], [ONE]) == ((TWO,), ())
    assert planned(ALL, [TWO], [ONE, TWO]) == ((), (7,))
    assert planned(ALL, [], []) == ((), ())


def test_what_is_switched_off_loses_its_socket() -> None:
    assert planned(NOBODY, [ONE, TWO], [ONE, TWO]) == ((), (7, 8))
    only_two = NOBODY.switched(["db1"], on=True)
    assert planned(only_two, [ONE, TWO], [ONE], names={1: "web1", 2: "db1"}) == ((TWO,), (7,))


def test_a_socket_that_the_kernel_does_not_confirm_is_opened_anew() -> None:
    assert planned(ALL, [ONE], [ONE], dead=(7,)) == ((ONE,), (7,))


def test_the_index_of_another_device_is_another_vif() -> None:
    other = TWO._replace(ifindex=7)
    assert planned(ALL, [other], [ONE]) == ((other,), (7,))


def test_a_renamed_vif_keeps_its_socket() -> None:
    assert planned(ALL, [ONE._replace(interface="web")], [ONE]) == ((), ())


VIFS = st.lists(
    st.builds(Vif, st.integers(1, 20), st.text(), st.integers(1, 5), st.sampled_from("abc")),
    unique_by=lambda vif: vif.ifindex,
)
NAMES = st.dictionaries(st.integers(1, 5), st.sampled_from(["web1", "db1"]))


@given(
    VIFS,
    VIFS,
    NAMES,
    st.builds(Settings, st.booleans(), st.frozensets(st.sampled_from(["web1", "db1"]))),
    st.frozensets(st.integers(1, 20)),
)
def test_after_a_plan_exactly_the_wanted_are_held_and_nothing_is_left_to_plan(
    vifs: list[Vif],
    held: list[Vif],
    names: dict[int, str | None],
    settings: Settings,
    live: frozenset[int],
) -> None:
    have = {vif.ifindex: vif for vif in held}
    todo = plan(settings, vifs, names, have, live)
    after = {i: vif for i, vif in have.items() if i not in todo.close}
    assert not {vif.ifindex for vif in todo.open} & after.keys()
    after |= {vif.ifindex: vif for vif in todo.open}
    assert after.keys() == {v.ifindex for v in vifs if settings.wants(names.get(v.domid))}
    assert plan(settings, vifs, names, after, set(after)) == ((), ())


def test_an_interface_that_only_changes_is_no_news() -> None:
    seen: set[int] = set()
    assert news([Change(7, gone=False)], seen)
    assert not news([Change(7, gone=False)] * 100, seen)
    assert news([Change(7, gone=True)], seen)
    assert not news([Change(7, gone=True)], seen)
