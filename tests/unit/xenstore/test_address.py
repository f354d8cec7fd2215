# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the xenstore client looks for xenstored, and what it says when it is not there."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.unit.xenstore.xsserver import (
    LONG,
    SOON,
    Serve,
    answers,
    silent,
)
from xlmt.errors import XenstoreUnreachableError, XlmtError
from xlmt.xenstore import Store, address, socket_path

pytestmark = pytest.mark.timeout(60)


def test_no_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        XenstoreUnreachableError,
        match=r"is not there; is it running\? is this host booted with Xen\?",
    ) as caught:
        Store(str(tmp_path / "none")).__enter__()
    assert str(tmp_path / "none") in str(caught.value)
    assert caught.value.exit_status == 5


def test_a_socket_that_nobody_listens_on_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "dead"))
    with pytest.raises(XenstoreUnreachableError, match="is not listening"):
        Store(str(tmp_path / "dead")).__enter__()


def test_a_path_that_is_too_long_for_a_socket_says_so() -> None:
    with pytest.raises(XenstoreUnreachableError, match="too long"):
        Store("/" + "x" * 200).__enter__()


def test_a_full_backlog_hits_the_deadline(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        with suppress(BlockingIOError):
            for one in crowd:
                one.setblocking(False)
                one.connect(path)
        with pytest.raises(XenstoreUnreachableError, match="did not accept a connection"):
            Store(path, timeout=SOON).__enter__()
        for one in crowd:
            one.close()


def test_room_in_the_backlog_is_taken_when_it_comes(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)

            def accept_one() -> None:
                listener.accept()[0].close()

            accept = threading.Timer(0.1, accept_one)
            accept.start()
            with Store(path, timeout=LONG) as store:
                assert store.requests == 0
            accept.join()


@contextmanager
def nobody() -> Iterator[None]:
    """Be another user than root, for whom modes count."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_without_permission_the_way_out_is_named(tmp_path: Path) -> None:
    path = tmp_path / "forbidden"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        with nobody(), pytest.raises(XlmtError) as caught:
            Store(str(path)).__enter__()
    assert str(caught.value) == f"permission denied on {path}: run as root"
    assert caught.value.exit_status == 1


def test_a_place_that_we_may_not_look_into_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the message would be about another place, and not name the missing permission."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setattr(address, "SOCKETS", (f"{closed}/socket", "/dev/null"))
    with nobody():
        assert socket_path({}) == f"{closed}/socket"


def test_a_store_that_was_never_opened_says_so() -> None:
    store = Store("/nowhere")
    for call in (store.ping, store.fileno, lambda: store.read("/a"), lambda: store.next_event(0)):
        with pytest.raises(XenstoreUnreachableError, match="with statement"):
            call()
    store.close()
    assert store.requests == 0


def test_close_is_idempotent_and_ends_the_store(serve: Serve) -> None:
    server = serve(silent)
    with Store(server.path, timeout=LONG) as store:
        store.close()
        store.close()
        with pytest.raises(XenstoreUnreachableError, match="is closed"):
            store.read("/a")


def test_a_store_can_be_opened_again(serve: Serve) -> None:
    store = Store(serve(answers(b"value")).path, timeout=LONG)
    for _ in range(2):
        with store:
            assert store.read("/a") == "value"


# Where xenstored is


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move the usual places below tmp_path."""
    usual = (str(tmp_path / "run"), str(tmp_path / "var"))
    monkeypatch.setattr(address, "SOCKETS", usual)
    monkeypatch.setattr(address, "XENBUS", (str(tmp_path / "xenbus"),))
    for name in ("XENSTORED_PATH", "XENSTORED_RUNDIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_socket_is_the_first_that_exists(places: Path) -> None:
    environ = {"XENSTORED_RUNDIR": str(places / "rundir")}
    assert socket_path({}) == str(places / "run")
    assert socket_path(environ) == str(places / "rundir/socket")
    (places / "var").touch()
    assert socket_path({}) == str(places / "var")
    assert socket_path(environ) == str(places / "var")
    (places / "run").touch()
    assert socket_path({}) == str(places / "run")
    (places / "rundir").mkdir()
    (places / "rundir/socket").touch()
    assert socket_path(environ) == str(places / "rundir/socket")


def test_xenstored_path_wins_even_when_nothing_is_there(places: Path) -> None:
    (places / "run").touch()
    assert socket_path({"XENSTORED_PATH": "/gone", "XENSTORED_RUNDIR": "/r"}) == "/gone"


@pytest.fixture
def device() -> Iterator[str]:
    """A character device, as xenbus is one."""
    master, slave = os.openpty()
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_xenbus_alone_is_refused_with_the_reason(
    places: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "XENBUS", (device,))
    with pytest.raises(XenstoreUnreachableError, match="xenwatch") as caught:
        Store().__enter__()
    assert "not reachable by socket" in str(caught.value)
    assert str(places / "run") in str(caught.value)
    with pytest.raises(XenstoreUnreachableError, match="xenwatch"):
        Store(device).__enter__()


def test_the_socket_is_preferred_to_xenbus(
    places: Path, device: str, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    monkeypatch.setattr(address, "XENBUS", (device,))
    monkeypatch.setattr(address, "SOCKETS", (serve(answers(b"by socket")).path,))
    with Store(timeout=LONG) as store:
        assert store.read("/a") == "by socket"
