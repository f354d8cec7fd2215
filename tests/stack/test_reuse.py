# SPDX-License-Identifier: LGPL-2.1-or-later
"""An orphan's domid is given to a new domain while its node is being removed.

Both sides are stopped: the pass before its i-th request, the creation, which then starts, before
one of those that matter. The pass goes on to its end, and then the creation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.stack.passes import Passes, under_the_hook
from tests.stack.product import ok
from tests.stack.proxy import Packet
from tests.stack.stack import MTWATCH, Stack

Stop = Callable[[Packet, int], bool]


def at(op: str, path: str = "") -> Stop:
    """Stop before the first request of that kind; {} is the domid."""
    return lambda packet, domid: (
        packet.op == op and packet.path == (path.format(domid) or packet.path)
    )


#: From before the domain is there in any way to after its home is.
PLAIN: dict[str, Stop] = {
    "the transaction": at("TRANSACTION_START"),
    "the home's removal": at("RM", "/local/domain/{}"),
    "the home": at("WRITE", "/local/domain/{}"),
    "the commit": at("TRANSACTION_END"),
    "the introduction": at("INTRODUCE"),
}
HOOKED: dict[str, Stop] = PLAIN | {
    "the node's removal": at("RM", MTWATCH + "/{}"),
    "the node": at("MKDIR", MTWATCH + "/{}"),
    "its permissions": at("SET_PERMS", MTWATCH + "/{}"),
}


@dataclass
class Creation:
    """One `xl create -e` that stops before a request until it is told to go on."""

    stack: Stack
    domid: int
    env: dict[str, str]
    stop: Stop | None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._result: BaseException | None = None

    def start(self) -> None:
        """Return when it has stopped, or ended."""
        self._thread.start()
        assert self._stopped.wait(60)

    def finish(self) -> None:
        self._go_on.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._result:
            raise self._result

    def _run(self) -> None:
        try:
            with self.stack.proxy() as proxy:
                if self.stop:
                    stop = self.stop
                    proxy.call_at(lambda packet: stop(packet, self.domid), self._wait)
                uuid = f"00000000-0000-4000-8000-{self.domid:012}"
                config = self.stack.guest(f"g{self.domid}", uuid=uuid)
                self.stack.path("/run/xen/domid-history").unlink(missing_ok=True)
                self.stack.hypervisor.set_rover(self.domid - 1)
                ok(self.stack.xl("create", "-qe", config, env=self.env | proxy.env))
                assert bool(self.stop) == proxy.fired.is_set(), "it did not stop"
        except BaseException as e:
            self._result = e
        finally:
            self._stopped.set()

    def _wait(self) -> None:
        self._stopped.set()
        self._go_on.wait(60)


class Race:
    """A pass through a proxy, again and again."""

    def __init__(self, stack: Stack, exit_: ExitStack) -> None:
        self.stack = stack
        self._proxy = exit_.enter_context(stack.proxy())
        self._passes = exit_.enter_context(Passes(stack, self._proxy.env))
        self.passes_length = self._length()

    def _length(self) -> int:
        self.orphan(1000)
        assert self._passes.run() == [["remove", "1000", "done", "None"]]
        return self._proxy.count

    def homed_orphan(self, domid: int) -> None:
        """As a direct xc_domain_destroy leaves it: the node, and all else of the domain, too."""
        first = Creation(self.stack, domid, under_the_hook(self.stack), None)
        first.start()
        first.finish()
        self.stack.hypervisor.remove(domid)

    def orphan(self, domid: int) -> None:
        with self.stack.client() as client:
            client.mkdir(f"{MTWATCH}/{domid}")
            client.set_perms(f"{MTWATCH}/{domid}", "n0")

    def run(self, before: int, creation: Creation) -> None:
        """Start the creation before that request of a pass that is about to remove its node."""
        self._proxy.call_at(self._proxy.count + before, creation.start)
        self._passes.run()
        creation.finish()

    def heal(self) -> None:
        self._passes.run()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stop", [*HOOKED, None])
def test_a_new_domain_of_an_orphans_domid_keeps_its_node(stack: Stack, stop: str | None) -> None:
    with ExitStack() as exit_:
        race = Race(stack, exit_)
        for i in range(1, race.passes_length + 1):
            domid = 100 + i
            env = under_the_hook(stack)
            race.orphan(domid)
            race.run(i, Creation(stack, domid, env, HOOKED[stop] if stop else None))
            assert stack.nodes().get(str(domid)) == "n0", f"lost: pass stopped before request {i}"
    assert set(stack.nodes()) == {str(domid) for domid in stack.domains() if domid}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stop", ["the introduction", None])
def test_a_new_domain_keeps_its_node_where_the_old_one_has_left_its_home(
    stack: Stack, stop: str | None
) -> None:
    """Even with the same uuid: oxenstored compares answers, and the two homes answer alike."""
    with ExitStack() as exit_:
        race = Race(stack, exit_)
        for i in range(1, race.passes_length + 3):
            domid = 100 + i
            race.homed_orphan(domid)
            env = under_the_hook(stack)
            race.run(i, Creation(stack, domid, env, HOOKED[stop] if stop else None))
            assert stack.nodes().get(str(domid)) == "n0", f"lost: pass stopped before request {i}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stop", [*PLAIN, None])
def test_an_unhooked_domain_keeps_the_node_that_it_found(stack: Stack, stop: str | None) -> None:
    """Nobody wrote it for this domain, but it works, and must not be taken away in use."""
    with ExitStack() as exit_:
        race = Race(stack, exit_)
        for i in range(1, race.passes_length + 1):
            domid = 100 + i
            race.orphan(domid)
            race.run(i, Creation(stack, domid, {}, PLAIN[stop] if stop else None))
            if stop in {"the introduction", None}:  # its home was there before the pass went on
                assert str(domid) in stack.nodes(), f"lost: pass stopped before request {i}"
        race.heal()
    assert set(stack.nodes()) == {str(domid) for domid in stack.domains() if domid}
