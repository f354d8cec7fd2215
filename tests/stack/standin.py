# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads that play who is missing: xenconsoled, and the dom0 kernel's backend drivers.

Both are driven by watches, connect again when the daemon went away, and end at once on stop().
"""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from pathlib import Path

from tests.stack.wire import Client

BACKENDS = "/local/domain/0/backend"
#: In sysfs: the devices that the kernel holds, and those of them that are on the backends' bus.
DEVICES, BUS = "devices", "bus/xen-backend/devices"
INITIALISING, INIT_WAIT, CONNECTED, CLOSING, CLOSED = "1", "2", "4", "5", "6"


class StandIn(threading.Thread):
    """Subclasses set watches in `connected` and act in `event`."""

    def __init__(self, socket: Path) -> None:
        super().__init__(daemon=True, name=type(self).__name__)
        self._socket = socket
        self._stop_asked = threading.Event()
        self._client: Client | None = None

    def connected(self, client: Client) -> None:
        raise NotImplementedError

    def event(self, client: Client, path: str) -> None:
        raise NotImplementedError

    def run(self) -> None:
        pause = 0.005
        while not self._stop_asked.is_set():
            with suppress(OSError), Client(self._socket) as client:
                self._client = client
                pause = 0.005
                self._serve(client)
            self._stop_asked.wait(pause)
            pause = min(pause * 2, 0.5)

    def _serve(self, client: Client) -> None:
        self.connected(client)
        while not self._stop_asked.is_set():
            event = client.next_event(60)
            if event:
                with suppress(FileNotFoundError):  # it went away while we looked at it
                    self.event(client, event[0])

    def stop(self) -> None:
        self._stop_asked.set()
        if self._client:
            self._client.abort()
        if self.is_alive():
            self.join(15)


class Console(StandIn):
    """Gives every domain's console a tty, which `xl create` waits for."""

    def connected(self, client: Client) -> None:
        self._watched: set[str] = set()
        client.watch("@introduceDomain")
        client.watch("@releaseDomain")

    def event(self, client: Client, path: str) -> None:
        if path.startswith("@"):
            self._rescan(client)
            return
        tty = path.removesuffix("/tty") + "/tty"
        if path.endswith(("/console", "/tty")) and client.read(tty) == "":
            client.write(tty, "/dev/pts/99")

    def _rescan(self, client: Client) -> None:
        here = set(client.ls("/local/domain")) - {"0"}
        for domid in here - self._watched:
            client.watch(f"/local/domain/{domid}/console")
        for domid in self._watched - here:
            client.unwatch(f"/local/domain/{domid}/console")
        self._watched = here


class Backends(StandIn):
    """The kernel's side of vif and vbd: answers state changes, and shows devices in `sysfs`.

    A stalled domid's devices are not let go of: their state and their folders stay, as when a
    driver waits inside its disconnect. `release` ends that.
    """

    TYPES = ("vif", "vbd")

    def __init__(self, socket: Path, sysfs: Path) -> None:
        super().__init__(socket)
        self._sysfs = sysfs
        self._stalled: set[int] = set()
        self._lock = threading.Lock()

    def stall(self, domid: int) -> None:
        self._stalled.add(domid)

    def release(self, domid: int) -> None:
        self._stalled.discard(domid)
        with Client(self._socket) as client:
            for folder in (self._sysfs / DEVICES).glob(f"*-{domid}-*"):
                kind, _, devid = folder.name.split("-")
                self._look(client, kind, domid, devid)

    def connected(self, client: Client) -> None:
        client.watch(BACKENDS)

    def event(self, client: Client, path: str) -> None:
        parts = path.removeprefix(BACKENDS).strip("/").split("/")
        if len(parts) >= 3 and parts[0] in self.TYPES:
            if len(parts) == 3 or parts[3] in {"state", "hotplug-status"}:
                self._look(client, parts[0], int(parts[1]), parts[2])
        elif len(parts) <= 2:
            self._rescan(client)

    def _rescan(self, client: Client) -> None:
        """After the first event, and when a whole branch came or went."""
        for kind in self.TYPES:
            folders = (self._sysfs / DEVICES).glob(f"{kind}-*")
            known = {tuple(folder.name.split("-")[1:]) for folder in folders}
            with suppress(FileNotFoundError):
                for domid in client.ls(f"{BACKENDS}/{kind}"):
                    known |= {(domid, d) for d in client.ls(f"{BACKENDS}/{kind}/{domid}")}
            for domid, devid in known:
                self._look(client, kind, int(domid), devid)

    def _look(self, client: Client, kind: str, domid: int, devid: str) -> None:
        name = f"{kind}-{domid}-{devid}"
        with self._lock:
            state = self._step(client, f"{BACKENDS}/{kind}/{domid}/{devid}/state", domid)
            if state == INITIALISING:
                make_device(self._sysfs, name)
            elif state in {None, CLOSING, CLOSED} and domid not in self._stalled:
                remove_device(self._sysfs, name)

    def _step(self, client: Client, path: str, domid: int) -> str | None:
        """Answer the state that is there; returns it, or None when there is none."""
        answers = {INITIALISING: INIT_WAIT}
        if domid not in self._stalled:
            answers[CLOSING] = CLOSED
        for _ in range(100):
            try:
                with client.transaction() as tx:
                    state = client.read(path, tx)
                    if not domid and client.exists(path.replace("/state", "/hotplug-status"), tx):
                        # The frontend is domain 0's own: of a disk that a bootloader is to read.
                        answers[INIT_WAIT] = CONNECTED
                    if state in answers:
                        client.write(path, answers[state], tx)
                return state
            except FileNotFoundError:
                return None
            except OSError as e:
                if e.errno != errno.EAGAIN:
                    raise
        return None


def make_device(sysfs: Path, name: str, state: str = "Connected") -> None:
    """What sysfs shows of a device that the kernel holds, by its name <type>-<domid>-<devid>."""
    folder = sysfs / DEVICES / name
    folder.mkdir(exist_ok=True)
    (folder / "nodename").write_text(f"backend/{name.replace('-', '/')}\n")
    (folder / "state").write_text(f"{state}\n")
    with suppress(FileExistsError):
        (sysfs / BUS / name).symlink_to(f"../../../{DEVICES}/{name}")


def begin_removal(sysfs: Path, name: str) -> None:
    """What the kernel does before it calls the driver's remove(), which may take its time."""
    (sysfs / BUS / name).unlink(missing_ok=True)
    for attribute in ("nodename", "state"):
        (sysfs / DEVICES / name / attribute).unlink(missing_ok=True)


def remove_device(sysfs: Path, name: str) -> None:
    begin_removal(sysfs, name)
    with suppress(FileNotFoundError):
        (sysfs / DEVICES / name).rmdir()
