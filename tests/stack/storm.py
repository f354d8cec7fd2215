# SPDX-License-Identifier: LGPL-2.1-or-later
"""Toolstacks and reconcilers at each other's throats, and somebody who watches.

Toolstacks create and destroy domains, with the hook and without, and are killed in the middle;
zombies and held devices come and go; reconcilers run all the time. Domids are few, so that they
are used again and again. Two independent witnesses: `Observer` looks at a living host, with a
socket of its own and the hypervisor's files; `nodes_lost` replays the daemon's own log, in which
every change has its place.
"""

from __future__ import annotations

import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.stack.passes import Passes, under_the_hook
from tests.stack.stack import MTWATCH, Stack
from tests.stack.trace import MODIFYING, Request
from tests.stack.wire import Client

DOMIDS = 24
_OWN = re.compile(rf"({MTWATCH}|/local/domain)/[1-9]\d*$")


# --- witnesses -----------------------------------------------------------------------------


def nodes_lost(log: Sequence[Request]) -> list[tuple[int, Request]]:
    """Return every change that took the node of a domid whose home was there, and stayed.

    Homes go before their domain does, so nothing may ever do that. A home is what its domain's
    creation made: a late write below one that was removed (xenconsoled's of a tty, say) makes it
    anew, for nobody.
    """
    present: set[str] = set()
    open_: dict[tuple[str, int | None], list[Request]] = {}
    lost = []
    for request in log:
        key = request.conn, request.tx
        if request.op == "TRANSACTION_START":
            open_[key] = []
        elif request.op == "TRANSACTION_END":
            changes = open_.pop(key, [])
            if not request.error and request.args != ("F",):
                lost += _change(present, changes)
        elif request.op in MODIFYING and not request.error:
            if request.tx is None:
                lost += _change(present, [request])
            else:
                open_.setdefault(key, []).append(request)
    return lost


def _change(present: set[str], changes: Sequence[Request]) -> list[tuple[int, Request]]:
    """Apply one commit; return the nodes that it took."""
    before = set(present)
    for request in changes:
        if not _OWN.match(request.path):
            continue
        if request.op == "RM":
            present.discard(request.path)
        else:
            present.add(request.path)
    gone = {int(p.rpartition("/")[2]) for p in before - present if p.startswith(MTWATCH)}
    return [
        (domid, changes[-1])
        for domid in sorted(gone)
        if f"/local/domain/{domid}" in before & present
    ]


class Observer(threading.Thread):
    """Looks all the time whether a living domain has lost its node."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(name="observer", daemon=True)
        self.violations: list[str] = []
        self.looks = 0
        self._stack = stack
        self._stop_now = threading.Event()
        self._had: set[tuple[int, str]] = set()

    def stop(self) -> None:
        self._stop_now.set()
        self.join(30)

    def run(self) -> None:
        try:
            with self._stack.client() as client:
                client.watch(MTWATCH)
                while not self._stop_now.is_set():
                    client.next_event(0.01)  # at once when a node changes
                    with suppress(BlockingIOError):  # EAGAIN: what was read does not fit together
                        self._look(client)
        except BaseException as e:
            self.violations.append(f"the observer failed: {e!r}")

    def _look(self, client: Client) -> None:
        before = self._alive()
        with client.transaction() as tx:
            homes = set(client.ls("/local/domain", tx))
            nodes = set(client.ls(MTWATCH, tx)) if client.exists(MTWATCH, tx) else set()
        after = self._alive()
        self.looks += 1
        for domid, handle in before & after:
            if str(domid) not in homes:
                self._had.discard((domid, handle))
            elif str(domid) in nodes:
                self._had.add((domid, handle))
            elif (domid, handle) in self._had:
                self.violations.append(f"domain {domid} ({handle}) has lost its node")

    def _alive(self) -> set[tuple[int, str]]:
        return {(d.domid, d.handle) for d in self._stack.domains().values() if not d.dying}


# --- actors --------------------------------------------------------------------------------


@dataclass
class Storm:
    """`run` returns when all steps are done; an actor's failure is raised there.

    Where the reconcilers are slow, there are more steps, up to ten times as many, until one in 50
    has made work for them, of either kind.
    """

    stack: Stack
    seed: int
    steps: int
    done: Counter[str] = field(default_factory=Counter)
    passes: int = 0
    reconciled: Counter[str] = field(default_factory=Counter)
    _creating: dict[str, frozenset[tuple[int, str]]] = field(default_factory=dict)
    _claimed: set[int] = field(default_factory=set)
    _left: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _hook: dict[str, str] = field(init=False)
    _failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._hook = under_the_hook(self.stack)  # here: sysconfig is not made for threads

    def run(self, toolstacks: int = 3, reconcilers: int = 2) -> None:
        self._left = self.steps
        acts: list[Callable[[int], None]] = [self._toolstack] * toolstacks
        acts += [self._reconciler] * reconcilers
        threads = [
            threading.Thread(target=self._guarded, args=(act, number), daemon=True)
            for number, act in enumerate(acts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
            assert not thread.is_alive()
        if self._failures:
            raise self._failures[0]

    def _guarded(self, act: Callable[[int], None], number: int) -> None:
        try:
            act(number)
        except BaseException as e:
            self._failures.append(e)

    @property
    def _over(self) -> bool:
        reconciled = min(self.reconciled["add done"], self.reconciled["remove done"])
        left = self._left + (9 * self.steps if reconciled <= self.steps / 50 else 0)
        return left <= 0 or bool(self._failures)

    def _next_step(self) -> bool:
        with self._lock:
            if self._over:
                return False
            self._left -= 1
            return True

    def _give_back(self) -> None:
        """A step in which there was nothing to do, for want of domains or room for them."""
        with self._lock:
            self._left += 1
        time.sleep(0.005)

    def _reconciler(self, _number: int) -> None:
        with self.stack.proxy() as proxy, Passes(self.stack, proxy.env) as passes:
            while not self._over:
                for verb, _, result, error in passes.run():
                    self.reconciled[f"{verb} {result}"] += 1
                    assert result in {"done", "unneeded"}, error
                self.passes += 1
            touched = {(p.op, p.path) for p in proxy.seen if p.op in MODIFYING}
        # The directory, too: who finds a domain without a node before there is any makes it.
        made = {("MKDIR", MTWATCH), ("SET_PERMS", MTWATCH)}
        assert not [t for t in touched - made if not t[1].startswith(f"{MTWATCH}/")], touched

    def _toolstack(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        acts: list[Callable[[random.Random, str], bool]] = [self._create, self._destroy] * 4
        acts += [self._zombie, self._hold, self._forget, self._shut_down]
        step = 0
        while self._next_step():
            step += 1
            act = rng.choice(acts)
            if act(rng, f"g{number}-{step}"):
                self.done[act.__name__.strip("_")] += 1
            else:
                self._give_back()

    # Each says whether there was something to do.

    def _create(self, rng: random.Random, name: str) -> bool:
        if len(self.stack.domains()) >= DOMIDS:
            return False
        with self._lock:
            self._creating[name] = self._identities()
        self._xl(rng, "create", "-qe", str(self.stack.guest(name)))
        with self._lock:
            del self._creating[name]
        return True

    def _destroy(self, rng: random.Random, _name: str) -> bool:
        with self._lock:
            domids = sorted(self._settled())
            if not domids:
                return False
            domid = rng.choice(domids)
            self._claimed.add(domid)
        self._xl(rng, "destroy", str(domid))
        with self._lock:
            self._claimed.discard(domid)
        return True

    def _settled(self) -> set[int]:
        """Return the domids that nobody is creating or destroying; to be used under the lock.

        libxl takes a domid that is used again meanwhile for the one that it was told of: it
        removes the new domain's nodes, or destroys it and leaves its home behind. So nobody else
        may let go of a domid that is being destroyed. libxl itself would not use it again for a
        minute, but `_forget` makes it.
        """
        settled = self._identities().intersection(*self._creating.values())
        return {domid for domid, _ in settled} - self._claimed - {0}

    def _identities(self) -> frozenset[tuple[int, str]]:
        return frozenset((d.domid, d.handle) for d in self.stack.domains().values())

    def _xl(self, rng: random.Random, *arguments: str) -> None:
        """The real xl, one time in two with the hook, one in five killed in the middle."""
        env = self._hook if rng.random() < 0.5 else {}
        process = self.stack.popen(self.stack.xen_bin / "xl", *arguments, env=env)
        if rng.random() < 0.2:
            self.done["killed"] += 1
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=rng.uniform(0.002, 0.03))
            process.send_signal(signal.SIGKILL)
        # To the end of its pipes, which the child that destroys for it has, too.
        process.communicate(timeout=60)
        if process.returncode > 0:
            self.done[f"{arguments[0]} failed"] += 1

    def _zombie(self, rng: random.Random, _name: str) -> bool:
        """A domain that stays, dying, when it is destroyed; or the end of one."""
        domid = rng.randrange(1, DOMIDS)
        on = rng.random() < 0.5
        self.stack.hypervisor.set_fault(f"zombie-{domid}", on=on)
        with self._lock, suppress(OSError):
            if not on and domid in self._settled():
                self.stack.hypervisor.bury(domid)
        return True

    def _hold(self, rng: random.Random, _name: str) -> bool:
        """The kernel holds a device, or lets go."""
        domid = rng.randrange(1, DOMIDS)
        change = self.stack.hold_device if rng.random() < 0.5 else self.stack.release_device
        with suppress(OSError):
            change(domid)
        return True

    def _forget(self, _rng: random.Random, _name: str) -> bool:
        """Let domids be used again, from the smallest on; libxl would wait for a minute."""
        self.stack.path("/run/xen/domid-history").unlink(missing_ok=True)
        self.stack.hypervisor.set_rover(0)
        return True

    def _shut_down(self, rng: random.Random, _name: str) -> bool:
        with suppress(OSError):
            self.stack.die(rng.randrange(1, DOMIDS))
        return True

    def calm(self) -> None:
        """No more zombies, no more held devices."""
        for domid in range(1, 4 * DOMIDS):
            self.stack.hypervisor.set_fault(f"zombie-{domid}", on=False)
            with suppress(OSError):
                self.stack.release_device(domid)
        for domain in self.stack.domains().values():
            if domain.dying:
                self.stack.hypervisor.bury(domain.domid)
        time.sleep(0.01)
