# SPDX-License-Identifier: LGPL-2.1-or-later
"""xlmt's xenstore client against both real daemons."""

import errno
from collections.abc import Iterator

import pytest

from tests.stack.stack import Stack
from xlmt.errors import XenstoreError, XenstoreUnreachableError
from xlmt.xenstore import Store, WatchEvent

TOP = "/test"
MANY = 5000  # far beyond one reply of 4096 bytes


@pytest.fixture
def store(stack: Stack) -> Iterator[Store]:
    with Store(str(stack.socket), timeout=20) as store:
        yield store


def fill(store: Store, domids: range) -> list[str]:
    with store.transaction() as t:
        for domid in domids:
            t.mkdir(f"{TOP}/{domid}")
        assert t.commit()
    return [str(domid) for domid in domids]


def drain(store: Store) -> list[WatchEvent]:
    """Take what is there; the ping's answer comes after all events before it."""
    store.ping()
    events = []
    while event := store.next_event(0):
        events.append(event)
    return events


def test_nodes_are_made_read_listed_and_removed(store: Store) -> None:
    assert (store.read(TOP), store.list(TOP), store.permissions(TOP)) == (None, None, None)
    assert not store.exists(TOP)
    store.mkdir(f"{TOP}/a")
    assert store.read(f"{TOP}/a") == ""
    assert store.exists(f"{TOP}/a")
    assert store.list(f"{TOP}/a") == []
    store.write(f"{TOP}/b", "text")
    store.write(f"{TOP}/b/c", "")
    assert store.read(f"{TOP}/b") == "text"
    assert store.read(f"{TOP}/b/c") == ""
    assert sorted(store.list(TOP) or []) == ["a", "b"]
    store.remove(f"{TOP}/b")
    assert store.list(TOP) == ["a"]


def test_removing_what_is_not_there_is_no_error(store: Store) -> None:
    store.mkdir(TOP)
    store.remove(f"{TOP}/absent")
    store.remove(f"{TOP}/absent/below")


def test_permissions_are_set_and_read(store: Store) -> None:
    store.mkdir(TOP)
    store.set_permissions(TOP, ("n0", "r5"))
    assert store.permissions(TOP) == ("n0", "r5")
    store.set_permissions(TOP, ("n0",))
    assert store.permissions(TOP) == ("n0",)


@pytest.mark.parametrize("value", ["grüße", "\udcff\udc80", "tab\tand\nline"])
def test_values_come_back_as_they_went(store: Store, value: str) -> None:
    store.write(TOP, value)
    assert store.read(TOP) == value


def test_a_refusal_of_the_daemon_carries_its_errno(store: Store) -> None:
    with pytest.raises(XenstoreError) as caught:
        store.unwatch(TOP, "never set")
    assert caught.value.errno == errno.ENOENT
    store.ping()


def test_a_big_directory_is_listed_whole(store: Store) -> None:
    names = fill(store, range(10000, 10000 + MANY))
    before = store.requests
    assert sorted(store.list(TOP) or []) == names
    assert store.requests - before <= 12


def test_a_big_directory_is_listed_inside_a_transaction(store: Store) -> None:
    names = fill(store, range(10000, 10000 + MANY))
    with store.transaction() as t:
        t.remove(f"{TOP}/10000")
        assert sorted(t.list(TOP) or []) == names[1:]
    assert store.exists(f"{TOP}/10000")


def test_a_transaction_takes_effect_at_its_commit(store: Store) -> None:
    with store.transaction() as t:
        t.write(f"{TOP}/a", "1")
        assert t.read(f"{TOP}/a") == "1"
        assert store.read(f"{TOP}/a") is None
        assert t.commit() is True
    assert store.read(f"{TOP}/a") == "1"


def test_a_transaction_that_is_left_takes_no_effect(store: Store) -> None:
    with store.transaction() as t:
        t.write(f"{TOP}/a", "1")
    assert store.read(f"{TOP}/a") is None


def test_a_transaction_that_lost_the_race_says_so(store: Store) -> None:
    store.write(f"{TOP}/a", "1")
    with store.transaction() as t:
        assert t.read(f"{TOP}/a") == "1"
        t.write(f"{TOP}/b", "seen")
        store.write(f"{TOP}/a", "2")
        assert t.commit() is False
    assert store.read(f"{TOP}/b") is None


def test_watches_fire_at_once_then_at_changes_until_unwatched(store: Store) -> None:
    store.watch(TOP, "token")
    assert drain(store) == [WatchEvent(TOP, "token")]
    store.write(f"{TOP}/a", "1")
    assert WatchEvent(f"{TOP}/a", "token") in drain(store)
    assert store.next_event(0.05) is None
    store.unwatch(TOP, "token")
    store.write(f"{TOP}/a", "2")
    assert drain(store) == []


@pytest.mark.parametrize("path", ["@introduceDomain", "@releaseDomain"])
def test_special_paths_fire(stack: Stack, store: Store, path: str) -> None:
    store.watch(path, "token")
    assert drain(store) == [WatchEvent(path, "token")]
    stack.add_domain(5)
    if path == "@releaseDomain":
        stack.die(5)
    event = store.next_event(10)
    assert event
    assert (event.path.partition("/")[0], event.token) == (path, "token")


def test_a_frozen_daemon_hits_the_deadline_and_a_new_store_works_after_it(stack: Stack) -> None:
    with Store(str(stack.socket), timeout=0.3) as store:
        store.ping()
        stack.freeze_daemon()
        try:
            with pytest.raises(XenstoreUnreachableError, match="did not answer"):
                store.ping()
        finally:
            stack.thaw_daemon()
        with pytest.raises(XenstoreUnreachableError, match="did not answer"):
            store.ping()
    with Store(str(stack.socket), timeout=20) as store:
        store.ping()


def test_a_restarted_daemon_is_noticed_while_waiting_and_reached_anew(stack: Stack) -> None:
    with Store(str(stack.socket), timeout=20) as store:
        store.watch(TOP, "token")
        drain(store)
        stack.restart_daemon()
        with pytest.raises(XenstoreUnreachableError, match="closed the connection"):
            store.next_event(20)
        with store:
            assert store.read("/local/domain/0/name") == "Domain-0"
