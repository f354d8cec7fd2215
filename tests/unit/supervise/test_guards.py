# SPDX-License-Identifier: LGPL-2.1-or-later
"""The supervisor's sockets, real ones, when something is in the way.

In a network namespace; what sysfs says of its interfaces is written beside them.
"""

import ctypes
import errno
import itertools
import logging
import os
import resource
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.stack.conftest import lacking
from tests.unit.guard.test_netlink import NEW, message
from xlmt import paths
from xlmt.errors import XenstoreUnreachableError
from xlmt.guard import kept, sockets
from xlmt.kernel import places, vifs
from xlmt.supervise import guards, surroundings
from xlmt.supervise.guards import Guards

CLONE_NEWNET = 0x40000000
NAMES = {domid: f"g{domid}" for domid in range(1, 100)}


@pytest.fixture(autouse=True)
def _namespace() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    if not shutil.which("ip"):
        lacking("ip (of iproute2)")
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            lacking("permission to make network namespaces")
        yield
        libc.setns(before, 0)
    finally:
        os.close(before)


class Host:
    """Interfaces that look like vifs."""

    def __init__(self) -> None:
        self._numbers = itertools.count(100)

    def add(self, domid: int, *, up: bool = True) -> int:
        name, index = f"vif{domid}.0", next(self._numbers)
        folder = places.interfaces() / name
        folder.mkdir()
        (folder / "ifindex").write_text(f"{index}\n")
        (folder / "device").symlink_to(f"vif-{domid}-0")
        ip("link", "add", "name", name, "index", str(index), "type", "veth", "peer", f"p{domid}")
        ip("link", "set", f"p{domid}", "up")
        if up:
            ip("link", "set", name, "up")
        return index

    def remove(self, domid: int, *, shown: bool = False) -> None:
        ip("link", "del", f"vif{domid}.0")
        if not shown:
            shutil.rmtree(places.interfaces() / f"vif{domid}.0")


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, timeout=30)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "GUARD", str(tmp_path / "guard.json"))
    places.interfaces().mkdir(parents=True)
    places.processes().symlink_to("/proc")
    kept.switch([], on=True)
    return Host()


@pytest.fixture
def team(host: Host, caplog: pytest.LogCaptureFixture) -> Iterator[Guards]:
    """With everybody to be guarded."""
    caplog.set_level(logging.INFO, "xlmt.supervise")
    with Guards(NAMES.get, lambda: None) as team:
        yield team


def told(team: Guards) -> None:
    """What the supervisor does when something is told of interfaces."""
    assert select.select(team.fds(), [], [], 10)[0]
    team.take()


def copied() -> set[int]:
    """The domids that the kernel copies packets of."""
    return {domid for domid, guarded in vifs.guests().items() if guarded}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def failing(number: int, *indexes: int) -> Callable[[int], socket.socket]:
    """What opens a socket, but not for these interfaces."""

    def guard(ifindex: int, real: Callable[[int], socket.socket] = sockets.guard) -> socket.socket:
        if ifindex in indexes:
            raise OSError(number, os.strerror(number))
        return real(ifindex)

    return guard


def came_in(plain: socket.socket, frame: bytes, name: str) -> bool:
    """Whether it comes in by that interface, within half a second after all else."""
    plain.settimeout(0.5)
    with suppress(TimeoutError):
        while True:
            data, (where, _, kind, *_) = plain.recvfrom(4096)
            if frame in data and where == name and kind != socket.PACKET_OUTGOING:
                return True
    return False


def test_a_socket_takes_nothing_from_the_first_packet_on(host: Host) -> None:
    """The kernel drops what is sent before it has taken note, a little later, of a link's start."""
    index = host.add(1)
    frame = b"\xff" * 6 + b"\x02" + b"\0" * 5 + b"\x08\x00" + b"x" * 100
    plain = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(vifs.ETH_P_ALL))
    other = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    other.bind(("p1", 0))
    with plain, other, sockets.guard(index) as guard:
        until = time.monotonic() + 30
        other.send(frame)
        while not came_in(plain, frame, "vif1.0"):
            assert time.monotonic() < until
            other.send(frame)
        with pytest.raises(BlockingIOError):
            guard.recv(4096, socket.MSG_DONTWAIT)


def test_an_interface_that_is_down_is_heard_once_it_is_up(host: Host, team: Guards) -> None:
    host.add(1, up=False)
    told(team)

    def running() -> bool:
        text = Path("/proc/self/net/packet").read_text()
        return any(line.split()[3:6] == ["0003", "100", "1"] for line in text.splitlines())

    assert copied() == {1}  # as soon as there is something to copy
    assert not running()
    ip("link", "set", "vif1.0", "up")
    assert running()


def test_no_descriptors_for_one_is_said_once_and_the_rest_is_guarded(
    host: Host, team: Guards, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    indexes = [host.add(domid) for domid in (1, 2, 3)]
    monkeypatch.setattr(sockets, "guard", failing(errno.EMFILE, *indexes[:2]))
    for _ in range(3):
        team.look()
    assert copied() == {3}
    assert warnings(caplog) == ["cannot guard vif1.0 of g1 (domain 1): Too many open files"]
    assert team.unsettled
    monkeypatch.undo()


def test_a_vif_that_is_gone_before_it_is_bound_is_no_failure(
    host: Host, team: Guards, caplog: pytest.LogCaptureFixture
) -> None:
    host.add(1)
    host.add(2)
    host.remove(1, shown=True)
    team.look()
    assert copied() == {2}
    assert warnings(caplog) == []
    assert not team.unsettled


def test_who_may_not_have_packet_sockets_is_told_so_once(
    host: Host, team: Guards, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets, "guard", failing(errno.EPERM, host.add(1), host.add(2)))
    team.look()
    team.look()
    assert warnings(caplog) == ["cannot guard vif1.0 of g1 (domain 1): Operation not permitted"]
    assert not team.unsettled


def test_lost_events_are_made_up_for_by_a_look(host: Host, team: Guards) -> None:
    host.add(1)
    told(team)
    (fd,) = team.fds()
    with socket.socket(fileno=os.dup(fd)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for state in ("down", "up") * 5:  # what is kept of it is of an interface that is known
        ip("link", "set", "vif1.0", state)
    host.add(2)
    told(team)
    assert copied() == {1, 2}


def test_what_others_write_to_the_listener_is_not_believed(host: Host, team: Guards) -> None:
    (fd,) = team.fds()
    mine = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with mine, socket.socket(fileno=os.dup(fd)) as listener:
        mine.sendto(message(NEW, 7), (listener.getsockname()[0], 0))
        assert select.select([listener], [], [], 10)[0]
        assert list(sockets.told(listener)) == []


def test_a_socket_whose_interface_came_back_with_its_index_is_opened_anew(
    host: Host, team: Guards
) -> None:
    host.add(1)
    team.look()
    ip("link", "del", "vif1.0")
    ip("link", "add", "name", "vif1.0", "index", "100", "up", "type", "veth", "peer", "p1")
    assert copied() == set()
    team.look()  # as if both events had been lost
    assert copied() == {1}


def test_a_child_that_lets_go_takes_nothing_from_the_supervisor(host: Host, team: Guards) -> None:
    host.add(1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    team.look()
    pid = os.fork()
    if pid == 0:
        team.let_go()
        os._exit(0 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert copied() == {1}
    team.let_go()
    assert copied() == set()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_where_xenstored_is_silent_whoever_may_be_meant_is_guarded(host: Host) -> None:
    def silent(_domid: int) -> str:
        raise XenstoreUnreachableError("no answer")

    host.add(1)
    kept.switch(["g7"], on=True)
    kept.switch([], on=False)
    with Guards(silent, lambda: None) as team:
        team.look()
        assert copied() == set()
        kept.switch(["g7"], on=True)
        team.look()
        assert copied() == {1}


def test_a_renamed_guest_counts_under_its_new_name_after_a_minute(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {1: "web1"}
    host.add(1)
    kept.switch([], on=False)
    kept.switch(["web2"], on=True)
    with Guards(names.get, lambda: None) as team:
        team.look()
        names[1] = "web2"
        team.look()
        assert copied() == set()
        monkeypatch.setattr(guards, "_NAMES_S", 0.0)
        team.look()
        assert copied() == {1}


def test_without_rtnetlink_it_goes_on_by_looks(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> socket.socket:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(sockets, "listener", refused)
    with Guards(NAMES.get, lambda: None) as team:
        assert warnings(caplog) == [
            "new vifs are guarded late: cannot listen for them: Operation not permitted"
        ]
        host.add(1)
        assert team.fds() == []
        team.take()
        team.look()
        assert copied() == {1}


def test_a_listener_that_fails_is_given_up_rather_than_asked_for_ever(
    host: Host, team: Guards, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failed(_sock: socket.socket) -> Iterator[None]:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(sockets, "told", failed)
    team.take()
    assert team.fds() == []
    assert warnings(caplog) == [
        "new vifs are guarded late: cannot listen for them: Cannot allocate memory"
    ]


def test_descriptors_that_select_can_take_are_left_to_others(host: Host, team: Guards) -> None:
    host.add(1)
    team.look()
    mine = {int(fd) for fd in os.listdir("/proc/self/fd")}  # noqa: PTH208
    assert len([fd for fd in mine if fd >= 1024]) == 1


def test_where_there_are_no_more_half_of_the_descriptors_are_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    aside: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                aside.append(surroundings.set_aside(os.open("/dev/null", os.O_RDONLY)))
        assert 20 < len(aside) <= 100
        assert max(aside) < 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in aside:
            os.close(fd)
