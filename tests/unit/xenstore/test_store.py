# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the xenstore client sends, and what it makes of the answers."""

import errno
from collections.abc import Callable

import pytest

from tests.unit.xenstore.xsserver import (
    DIRECTORY,
    GET_DOMAIN_PATH,
    GET_PERMS,
    LONG,
    MKDIR,
    READ,
    RM,
    SET_PERMS,
    UNWATCH,
    WATCH,
    WRITE,
    Serve,
    Server,
    answers,
    refuses,
    silent,
    then_silent,
)
from xlmt.errors import XenstoreError
from xlmt.xenstore import Store

pytestmark = pytest.mark.timeout(60)


def test_each_operation_sends_its_request_and_returns_plain_values(serve: Serve) -> None:
    ok = b"OK\0"
    server = serve(
        answers(b"value", b"a\0b\0", b"", b"n0\0r5\0", ok, ok, ok, ok, b"/local/domain/0\0", ok, ok)
    )
    with Store(server.path, timeout=LONG) as store:
        assert store.read("/r") == "value"
        assert store.list("/l") == ["a", "b"]
        assert store.list("/empty") == []
        assert store.permissions("/p") == ("n0", "r5")
        store.write("/w", "text")
        store.mkdir("/m")
        store.remove("/d")
        store.set_permissions("/p", ("n0", "r5"))
        store.ping()
        store.watch("/x", "token")
        store.unwatch("/x", "token")
        assert store.requests == 11
    server.stop()
    assert [(request.op, request.payload) for request in server.seen] == [
        (READ, b"/r\0"),
        (DIRECTORY, b"/l\0"),
        (DIRECTORY, b"/empty\0"),
        (GET_PERMS, b"/p\0"),
        (WRITE, b"/w\0text"),
        (MKDIR, b"/m\0"),
        (RM, b"/d\0"),
        (SET_PERMS, b"/p\0n0\0r5\0"),
        (GET_DOMAIN_PATH, b"0\0"),
        (WATCH, b"/x\0token\0"),
        (UNWATCH, b"/x\0token\0"),
    ]
    assert len({request.rq_id for request in server.seen}) == 11


def test_a_node_that_does_not_exist_is_none_not_an_error(serve: Serve) -> None:
    server = serve(then_silent(*[lambda peer: peer.refuse(b"ENOENT")] * 5))
    with Store(server.path, timeout=LONG) as store:
        assert store.read("/a") is None
        assert store.list("/a") is None
        assert store.permissions("/a") is None
        assert store.exists("/a") is False
        store.remove("/a")


def test_exists_is_true_for_an_empty_node(serve: Serve) -> None:
    with Store(serve(answers(b"")).path, timeout=LONG) as store:
        assert store.exists("/a") is True


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.write("/a/b", "x"),
        lambda store: store.mkdir("/a/b"),
        lambda store: store.set_permissions("/a/b", ("n0",)),
        lambda store: store.watch("/a/b", "t"),
        lambda store: store.unwatch("/a/b", "t"),
    ],
)
def test_enoent_is_an_error_where_the_node_is_needed(
    serve: Serve, call: Callable[[Store], None]
) -> None:
    with (
        Store(serve(refuses(b"ENOENT")).path, timeout=LONG) as store,
        pytest.raises(XenstoreError, match=r"/a/b: No such file.*\(ENOENT\)") as caught,
    ):
        call(store)
    assert caught.value.errno == errno.ENOENT


#: All that xs_wire.h lists, apart from ENOENT and E2BIG, which have tests of their own.
NAMES = [
    "EINVAL",
    "EACCES",
    "EEXIST",
    "EISDIR",
    "ENOMEM",
    "ENOSPC",
    "EIO",
    "ENOTEMPTY",
    "ENOSYS",
    "EROFS",
    "EBUSY",
    "EAGAIN",
    "EISCONN",
    "EPERM",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_carries_its_errno_and_leaves_the_connection_usable(
    serve: Serve, name: str
) -> None:
    server = serve(
        then_silent(
            *[lambda peer: peer.refuse(name.encode())] * 3, lambda peer: peer.answer(b"value")
        )
    )
    with Store(server.path, timeout=LONG) as store:
        for call in (store.read, store.mkdir, store.remove):
            with pytest.raises(XenstoreError) as caught:
                call("/a")
            assert caught.value.errno == getattr(errno, name)
            assert name in str(caught.value)
            assert "/a" in str(caught.value)
        assert store.read("/a") == "value"


@pytest.mark.parametrize("name", [b"EWHATEVER", b"", b"\xff\xfe", b"errorcode", b"two\nlines"])
def test_a_refusal_with_an_unknown_name_is_still_one_line(serve: Serve, name: bytes) -> None:
    with (
        Store(serve(refuses(name)).path, timeout=LONG) as store,
        pytest.raises(XenstoreError, match="xenstored says") as caught,
    ):
        store.read("/a")
    assert caught.value.errno == 0
    assert len(str(caught.value).splitlines()) == 1


def test_an_acknowledgement_that_is_none_is_an_error(serve: Serve) -> None:
    with (
        Store(serve(answers(b"KO\0")).path, timeout=LONG) as store,
        pytest.raises(XenstoreError, match="KO") as caught,
    ):
        store.mkdir("/a")
    assert caught.value.errno == errno.EPROTO


def nothing_sent(server: Server) -> bool:
    server.stop()
    return server.seen == []


BAD_PATHS = [
    "",
    "/a/",
    "/a//b",
    "/a b",
    "/a\n",
    "/a\0",
    "/a\0b",
    "/ä",
    "/\udcff",
    "/\ud800",
    "/a:b",
    "/..",
    "/" + "x" * 3072,
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_xenstore_cannot_have_is_refused_before_it_is_sent(
    serve: Serve, path: str
) -> None:
    server = serve(silent)
    with Store(server.path, timeout=LONG) as store:
        for call in (
            lambda: store.read(path),
            lambda: store.exists(path),
            lambda: store.list(path),
            lambda: store.permissions(path),
            lambda: store.write(path, "x"),
            lambda: store.mkdir(path),
            lambda: store.remove(path),
            lambda: store.set_permissions(path, ("n0",)),
            lambda: store.watch(path, "t"),
            lambda: store.unwatch(path, "t"),
        ):
            with pytest.raises(XenstoreError) as caught:
                call()
            assert caught.value.errno == errno.EINVAL
            assert len(str(caught.value).splitlines()) == 1
    assert nothing_sent(server)


def test_fields_that_cannot_be_sent_are_refused_before_they_are(serve: Serve) -> None:
    server = serve(silent)
    with Store(server.path, timeout=LONG) as store:
        calls: list[Callable[[], None]] = [
            lambda: store.watch("/a", "to\0ken"),
            lambda: store.watch("@releaseDomain/x", "token"),
            lambda: store.watch("@introduceDomain\n", "token"),
            lambda: store.set_permissions("/a", ("z0",)),
            lambda: store.set_permissions("/a", ("n0\n",)),
            lambda: store.write("/a", "\ud800"),
        ]
        for call in calls:
            with pytest.raises(XenstoreError) as caught:
                call()
            assert caught.value.errno == errno.EINVAL
        with pytest.raises(XenstoreError) as caught:
            store.write("/a", "x" * 4096)
        assert caught.value.errno == errno.E2BIG
    assert nothing_sent(server)


@pytest.mark.parametrize("path", ["@introduceDomain", "@releaseDomain", "@releaseDomain/32751"])
def test_special_paths_can_be_watched(serve: Serve, path: str) -> None:
    server = serve(answers(b"OK\0", b"OK\0"))
    with Store(server.path, timeout=LONG) as store:
        store.watch(path, "t")
        store.unwatch(path, "t")
    server.stop()
    assert [request.payload for request in server.seen] == [path.encode() + b"\0t\0"] * 2


@pytest.mark.parametrize(
    "raw", [b"", b"gr\xc3\xbc\xc3\x9fe", b"\xff\x80 not UTF-8", b"\x01\n\t", b"ends\0\0", b"\0"]
)
def test_any_bytes_survive_the_way_in_and_back(serve: Serve, raw: bytes) -> None:
    server = serve(answers(raw, b"OK\0"))
    with Store(server.path, timeout=LONG) as store:
        value = store.read("/a")
        assert value is not None
        store.write("/b", value)
    server.stop()
    assert server.seen[1].payload == b"/b\0" + raw


def test_odd_names_are_returned_and_only_refused_when_followed(serve: Serve) -> None:
    server = serve(answers(b"007\0..\0a/b\0\xff\0"))
    with Store(server.path, timeout=LONG) as store:
        names = store.list("/a")
        assert names == ["007", "..", "a/b", "\udcff"]
        with pytest.raises(XenstoreError):
            store.read(f"/a/{names[-1]}")
