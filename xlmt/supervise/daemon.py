# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look after the whole host: every domain's node, and the deaths of the domains that are marked.

The story of one event. xenstored tells of a change in /vm, which is the creation of a domain in
libxl's own transaction, or of a domain that was introduced or released. That is a wake-up and
nothing more: `Supervisor._pass` looks at the host as `xlmt reconcile` does, and carries out the
same plan. In the same look it sees the marked domains that have shut down. For each of them it
forks a process that does what the death calls for (undertaker.py), so that a slow one is in
nobody's way, and goes on.

It remembers nothing that it needs: what must be known after it was killed is in the domains'
marks and in the casebook. The processes it has forked go on without it; the locks in the casebook
keep its successor from doing their work twice.

Only the main process makes xenstore requests through a Store, which has deadlines, and none
through libxl, which has not. It has no threads, so that it may fork.
"""

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from xlmt.domains.managed import mark_of
from xlmt.errors import XenstoreUnreachableError, XlmtError
from xlmt.libxl import Context
from xlmt.model import Domain
from xlmt.nodes import apply as host
from xlmt.nodes import observe
from xlmt.nodes import plan as reconcile
from xlmt.nodes.model import Outcome, Plan, Result, Snapshot
from xlmt.nodes.render import outcome_line
from xlmt.supervise import instance as control
from xlmt.supervise import jobs as casebook
from xlmt.supervise.cdrom import Ejects
from xlmt.supervise.policy import Brake, is_death
from xlmt.supervise.systemd import Manager, log_to_where_we_are
from xlmt.supervise.workers import Attendants, see_to_death, see_to_eject
from xlmt.timing import Pause
from xlmt.xenstore import Store

#: /vm changes when libxl makes a domain, long before it is introduced, and hardly ever else.
_WATCHED = ("/vm", "@introduceDomain", "@releaseDomain")
#: A look without an event, should one have got lost.
_TIMER_S = 60.0
#: Where something will change without an event.
_LOOK_AGAIN_S = (0.1, 5.0)
_RECONNECT_S = (0.05, 5.0)
#: After so long without a rest, pause after each look, at most so long.
_STORM_S, _BREATH_S = 1.0, 0.5

_log = logging.getLogger("xlmt.supervise")


class Supervisor:
    """The daemon.

    Whatever moment it is ended at, by whatever signal, nothing is lost: so Ctrl-C and SIGTERM
    are a KeyboardInterrupt like any other, and need no care.
    """

    def __init__(self, brake: Brake, manager: Manager) -> None:
        self._manager = manager
        self._brake = brake
        self._attendants = Attendants()
        self._news = True  # domains may have got marks
        self._said: set[str] = set()
        self._wrong: set[str] = set()
        self._unseen = ""  # why nobody can be told that his domain was seen
        self._look_again = Pause(*_LOOK_AGAIN_S)
        self._up = False

    def run(self, *, replace: bool = False) -> None:
        """Look after the host, for ever.

        Raises XlmtError when somebody else does, and what the first look raises: later ones may
        fail, and are made again.
        """
        with control.alone(replace=replace), control.Listener() as self._listener:
            pause = Pause(*_RECONNECT_S)
            while True:
                try:
                    with Store() as store:
                        store.ping()  # libxl would wait for xenstored without a deadline
                        with Context() as ctx:
                            self._serve(store, ctx, pause)
                except (XlmtError, OSError) as e:
                    if not self._up:
                        raise
                    self._trouble(e)
                    self._wait(pause.next(), ())

    def _serve(self, store: Store, ctx: Context, pause: Pause) -> None:
        """Look whenever there is reason to, for as long as xenstored answers."""
        casebook.make_folders()
        for path in _WATCHED:
            store.watch(path, path)
        host.prepare(store)
        ejects, self._news = Ejects(store), True
        rested = time.monotonic()
        while True:
            while event := store.next_event(0):
                ejects.take(event)
                self._look_again.reset()
            started = time.monotonic()
            unsettled = self._pass((store, ctx), ejects)
            took = time.monotonic() - started
            pause.reset()
            self._listener.answer(self._unseen)
            self._announce()
            seconds = self._look_again.next() if unsettled else _TIMER_S
            seconds = 0 if store.pending else min(seconds, self._attendants.next_try_s())
            self._wait(seconds, (store.fileno(),))
            if time.monotonic() - started > 2 * took:
                rested = time.monotonic()
            elif time.monotonic() - rested > _STORM_S:  # half of the time for whoever makes it
                self._wait(min(took, _BREATH_S), ())

    def _announce(self) -> None:
        if not self._up:
            self._up = True
            self._manager.tell("READY=1")
            _log.info("supervising this host [pid %d]", os.getpid())

    def _trouble(self, error: Exception) -> None:
        self._say_once({f"{error}; trying again"}, logging.WARNING)
        self._manager.status(str(error))
        self._listener.accept()
        self._listener.answer(str(error))

    def _wait(self, seconds: float, fds: Iterable[int]) -> None:
        """Return when something happens, after so many seconds, or when the watchdog is due."""
        poll = select.poll()
        for fd in (*fds, self._listener.fileno(), *self._attendants.fds()):
            poll.register(fd, select.POLLIN)
        until = time.monotonic() + seconds
        while True:
            if self._manager.watchdog_s:
                self._manager.tell("WATCHDOG=1")
            left = max(until - time.monotonic(), 0.0)
            ready = poll.poll(1 + 1000 * min(left, self._manager.watchdog_s or left))
            if ready or until <= time.monotonic():
                break
        asked, ended = self._listener.accept(), self._attendants.reap()
        self._news = self._news or asked or ended

    # One look

    def _pass(self, at: tuple[Store, Context], ejects: Ejects) -> bool:
        """Look at the host and do what is to be done; say whether to look again soon."""
        store, ctx = at
        self._wrong.clear()
        seen = observe.observe(store, ctx)
        seen = observe.with_names(store, seen, reconcile.out_of_order(seen))
        plan = reconcile.plan(seen)
        outcomes = list(self._nodes(at, plan, seen.names))
        domains = (seen.domains or {}).values()
        self._deaths(domains, at)
        if self._news:
            ejects.look(domains)
            self._news = False
        for drive in ejects.ejected():
            self._send(drive.domain.uuid, drive, partial(see_to_eject, drive), at)
        self._mention(plan, outcomes)
        status = _status(seen, plan)
        self._unseen = status if plan.blind else ""
        self._manager.status(status)
        wrong = any(outcome.result in {Result.FAILED, Result.CONFLICT} for outcome in outcomes)
        return wrong or plan.unsettled or bool(plan.problems or self._wrong)

    def _nodes(
        self, at: tuple[Store, Context], plan: Plan, names: Mapping[int, str]
    ) -> Iterator[Outcome]:
        for outcome in host.apply(*at, plan.allowed):
            if outcome.result is Result.DONE:
                domid = outcome.action.domid
                fields = {"domid": domid, "domain": names.get(domid or 0)}
                _log.info("%s", outcome_line(outcome), extra=fields)
            yield outcome

    def _deaths(self, domains: Iterable[Domain], at: tuple[Store, Context]) -> None:
        """See to every death of a marked domain that nobody sees to."""
        dead: dict[str, int | None] = dict.fromkeys(casebook.open_cases())
        for domain in filter(_is_dead, domains):
            with self._apart(domain.uuid):
                if mark_of(domain):
                    dead[domain.uuid] = domain.domid
        self._attendants.forget_all_but(dead)
        for uuid, domid in dead.items():
            self._send(uuid, domid, partial(see_to_death, uuid, domid, self._brake), at)

    def _send(
        self, uuid: str, what: object, work: Callable[[], int], at: tuple[Store, Context]
    ) -> None:
        def in_the_child() -> int:
            store, ctx = at
            ctx.give_up_in_child()
            store.close()
            self._listener.close()
            return work()

        with self._apart(uuid):
            self._attendants.send(uuid, what, in_the_child)

    @contextmanager
    def _apart(self, uuid: str) -> Iterator[None]:
        """Keep one guest's trouble from being that of the others."""
        try:
            yield
        except XenstoreUnreachableError:
            raise
        except Exception as e:
            self._wrong.add(f"nobody can see to {uuid}: {type(e).__name__}: {e}")

    def _mention(self, plan: Plan, outcomes: Iterable[Outcome]) -> None:
        """Say what is wrong or left alone, once, until it is over."""
        wrong = set(plan.problems) | self._wrong | self._attendants.slow()
        wrong |= {plan.refusal} if plan.refusal else set()
        wrong |= {outcome_line(o) for o in outcomes if o.result in {Result.FAILED, Result.CONFLICT}}
        self._say_once(wrong | {f"node {k.domid} kept: {k.reason}" for k in plan.kept})

    def _say_once(self, lines: set[str], level: int = logging.WARNING) -> None:
        for line in sorted(lines - self._said):
            _log.log(level, "%s", line)
        self._said = lines


def _is_dead(domain: Domain) -> bool:
    if domain.domid == 0 or domain.dying or domain.shutdown is None:
        return False
    return is_death(domain.shutdown)


def _status(seen: Snapshot, plan: Plan) -> str:
    if not plan.complete:
        return f"not everything can be read: {'; '.join(plan.problems)}"
    kept = f", {len(plan.kept)} kept for the kernel" if plan.kept else ""
    return f"{len(seen.domains or ()) - 1} domains, {len(seen.nodes or ())} nodes{kept}"


# --- as a program of its own ---------------------------------------------------------------


def supervise(brake: Brake, *, replace: bool = False, level: int = logging.INFO) -> None:
    """Be this host's supervisor until Ctrl-C or SIGTERM. Raises what `Supervisor.run` does."""
    log_to_where_we_are(level)
    manager = Manager()
    try:
        Supervisor(brake, manager).run(replace=replace)
    except KeyboardInterrupt:
        manager.tell("STOPPING=1")


def main() -> int:
    """Supervise; what `xlmt create` starts where nobody does. Its settings are the environment's.

    It imports no command line: it is there for as long as the host is.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        supervise(Brake.from_settings(os.environ))
    except XlmtError as e:
        sys.stderr.write(f"xlmt: {e}\n")
        return e.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
