# SPDX-License-Identifier: LGPL-2.1-or-later
"""The supervisor: every domain's node, and the deaths of the managed guests, for all of the host.

The trip of one event. xenstored tells of a change in /vm, which is the creation of a domain in
libxl's own transaction, or of a domain that was introduced or released. That is a wake-up and
nothing more: `Supervisor._pass` does what `xlmt reconcile` does (nodes/reconcile.py). In the same
look it sees the managed guests that have shut down. For each of them it forks a worker
(workers.py) that does what the death calls for (handler.py), so that a slow one holds up no other.

It remembers nothing that it needs: what must be known after it was killed is in the guests'
records and in the jobs on the disk. The workers that it has forked go on without it; the guests'
locks keep its successor from doing their work twice.

Only the main process makes xenstore requests through a Store, which has deadlines, and none
through libxl, which has not. It has no threads, so that it may fork.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from xlmt import paths
from xlmt.domains import creations, managed
from xlmt.domains.managed import Record
from xlmt.errors import UnreadableError, XenstoreUnreachableError, XlmtError
from xlmt.libxl import Context
from xlmt.logs import Once
from xlmt.model import Domain
from xlmt.nodes import reconcile
from xlmt.nodes.apply import prepare
from xlmt.nodes.model import Outcome, Plan, Result
from xlmt.nodes.reconcile import Pass
from xlmt.nodes.render import outcome_line, status_line
from xlmt.supervise import instance, jobs, surroundings
from xlmt.supervise.cdrom import Drives, has_cds
from xlmt.supervise.guards import Guards
from xlmt.supervise.handler import WAITS_S, is_dead
from xlmt.supervise.poll import Poll
from xlmt.supervise.rescue import Watch
from xlmt.supervise.restart_limit import RestartLimit
from xlmt.supervise.settings import rescue_from
from xlmt.supervise.systemd import Manager, log_to_where_we_are
from xlmt.supervise.tasks import Leftover, Shutdown
from xlmt.supervise.workers import Task, Workers
from xlmt.text import guest, printable
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

    def __init__(self, restart_limit: RestartLimit, manager: Manager, xenwatch: Watch) -> None:
        self._manager = manager
        self._restart_limit = restart_limit
        self._workers = Workers(self._let_go)
        self._news = True  # domains may have got records
        self._seen: dict[str, float] = {}  # when the deaths were seen first, by their lives
        self._due_s = float("inf")  # until a job that waits is due
        self._once = Once(_log)
        self._wrong: set[str] = set()
        self._unreadable: set[str] = set()  # guests that are not looked after
        self._unseen = ""  # why nobody can be told that his domain was seen
        self._at: tuple[Store, Context] | None = None
        self._guards = Guards(self._name_of, manager.alive)
        self._xenwatch = xenwatch
        self._look_again = Pause(*_LOOK_AGAIN_S)
        self._poll = Poll()
        self._up = False

    def run(self, *, replace: bool = False) -> None:
        """Supervise the host, for ever.

        Raises XlmtError when another process does, and what the first look raises: later ones may
        fail, and are made again.
        """
        with (
            instance.alone(replace=replace),
            instance.Listener() as self._listener,
            self._guards,
            self._poll,
        ):
            pause = Pause(*_RECONNECT_S)
            while True:
                try:
                    with Store() as store:
                        store.ping()  # libxl would wait for xenstored without a deadline
                        with Context() as ctx:
                            self._at = store, ctx
                            self._serve(store, ctx, pause)
                except Exception as e:
                    self._at = None
                    if not self._up:
                        raise
                    self._trouble(e)
                    seconds = pause.next()
                    try:
                        self._wait(seconds, ())
                    except Exception:
                        time.sleep(seconds)  # whatever is wrong with that, it is no reason to spin

    def _serve(self, store: Store, ctx: Context, pause: Pause) -> None:
        """Look whenever there is reason to, for as long as xenstored answers."""
        jobs.make_folders()
        for path in _WATCHED:
            store.watch(path, path)
        prepare(store)
        drives, self._news = Drives(store), True
        rested, due = time.monotonic(), 0.0
        while True:
            while event := store.next_event(0):
                if not drives.take(event):
                    self._look_again.reset()
                    due = 0.0
            started = time.monotonic()
            if started < due:  # what a guest writes is no reason to look at all the others
                self._send_ejects(drives)
                asked = self._wait(min(due - started, drives.next_s()), (store.fileno(),))
                due = 0.0 if asked else due
                continue
            unsettled = self._pass(store, ctx, drives)
            took = time.monotonic() - started
            pause.reset()
            self._listener.answer(self._unseen)
            self._announce()
            seconds = self._look_again.next() if unsettled else _TIMER_S
            seconds = min(seconds, self._workers.next_try_s(), self._due_s)
            due = time.monotonic() + seconds
            seconds = 0 if store.pending else min(seconds, drives.next_s())
            if self._wait(seconds, (store.fileno(),)):
                due = 0.0
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
        expected = isinstance(error, XlmtError | OSError | MemoryError)
        what = str(error) if isinstance(error, XlmtError) else f"{type(error).__name__}: {error}"
        again = "trying again" if expected else "please report this; trying again"
        self._once.say({f"{what}; {again}"}, logging.WARNING)
        self._manager.status(what)
        self._listener.accept()
        self._listener.answer(str(error))

    def _wait(self, seconds: float, fds: Iterable[int]) -> bool:
        """Return when something happens, or after so many seconds.

        True when somebody asks, or a worker has ended. A vif that comes or goes is seen to at once,
        as is xenwatch from time to time, and neither is anything to return for.
        """
        fds = (*fds, *self._guards.fds(), self._listener.fileno(), *self._workers.fds())
        until = time.monotonic() + seconds
        while True:
            self._manager.alive()
            left = max(until - time.monotonic(), 0.0)
            most_s = min(left, self._xenwatch.next_s(), (self._manager.watchdog_s or left) / 2)
            ready = self._poll.wait(fds, most_s)
            with self._apart("the vifs to be guarded"):
                self._guards.take()
            if self._at and (task := self._xenwatch.task()):
                self._send(task)
            if ready.difference(self._guards.fds()) or until <= time.monotonic():
                break
        asked, ended = self._listener.accept(), self._workers.reap()
        self._news = self._news or asked or ended
        return asked or ended

    # One look

    def _pass(self, store: Store, ctx: Context, drives: Drives) -> bool:
        """Look at the host and do what is to be done; say whether to look again soon."""
        self._wrong.clear()
        nodes = reconcile.begin(store, ctx)
        outcomes = list(self._told(nodes))
        domains = (nodes.seen.domains or {}).values()
        self._send_deaths(domains)
        if self._news:
            guests = self._managed(store, domains)
            drives.look((found, rec.life(found.domid)) for found, rec in guests if has_cds(rec))
            self._news = False
        self._send_ejects(drives)
        with self._apart("the vifs to be guarded"):
            self._guards.look()
        self._mention(nodes.plan, outcomes)
        status = status_line(nodes.seen, nodes.plan)
        self._unseen = status if nodes.plan.blind else ""
        self._manager.status(status)
        wrong = any(outcome.result in {Result.FAILED, Result.CONFLICT} for outcome in outcomes)
        wrong = wrong or self._guards.unsettled
        return wrong or nodes.plan.unsettled or bool(nodes.plan.problems or self._wrong)

    def _told(self, nodes: Pass) -> Iterator[Outcome]:
        for outcome in nodes.carry_out():
            self._manager.alive()
            if outcome.result is Result.DONE:
                domid = outcome.action.domid
                fields = {"domid": domid, "domain": nodes.seen.names.get(domid or 0)}
                _log.info("%s", outcome_line(outcome), extra=fields)
            yield outcome

    def _managed(self, store: Store, domains: Iterable[Domain]) -> Iterator[tuple[Domain, Record]]:
        """Yield the managed guests; take note of those whose records cannot be read."""
        self._unreadable = set()
        for domain in domains:
            self._manager.alive()
            try:
                if record := managed.record_of(domain):
                    yield domain, record
            except UnreadableError as e:
                name = store.read(f"{paths.domain(domain.domid)}/name")
                self._unreadable.add(f"{guest(name, domain.domid)} is not looked after: {e}")

    def _send_ejects(self, drives: Drives) -> None:
        for eject in drives.ejected():
            self._send(eject)

    def _send_deaths(self, domains: Iterable[Domain]) -> None:
        """Send a worker for every managed guest that is dead, and for every unfinished job."""
        tasks: dict[str, Task] = {}
        waiting = self._jobs(tasks)
        seen, now = {}, managed.now()
        for domain in filter(is_dead, domains):
            self._manager.alive()
            with self._apart(f"domain {domain.domid}"), suppress(UnreadableError):
                if record := managed.record_of(domain):
                    key = record.life(domain.domid)
                    seen[key] = self._seen.get(key, now)
                    if key not in waiting:
                        tasks[key] = Shutdown(
                            key, domain.domid, record.name, self._restart_limit, seen[key]
                        )
        self._seen = seen
        tasks |= {key: Leftover(key, left) for key, left in creations.left_over().items()}
        self._workers.forget_all_but(tasks)
        for task in tasks.values():
            self._send(task)

    def _jobs(self, tasks: dict[str, Task]) -> set[str]:
        """Add a task for each job that is due; return the keys of the others."""
        waiting = set()
        self._due_s = float("inf")
        for key in jobs.unfinished():
            job = jobs.peek(key)
            wait_s = job.not_before - managed.now() - WAITS_S if job else 0.0
            if wait_s > 0:
                waiting.add(key)
                self._due_s = min(self._due_s, wait_s)
            else:
                tasks[key] = Shutdown(key, None, job.name if job else None, self._restart_limit)
        return waiting

    def _send(self, task: Task) -> None:
        with self._apart(task.what):
            self._workers.send(task)

    def _let_go(self) -> None:
        """Close, in a worker, what is this process's alone."""
        if self._at:
            store, ctx = self._at
            ctx.give_up_in_child()
            store.close()
        self._listener.close()
        self._guards.let_go()
        self._poll.let_go()

    def _name_of(self, domid: int) -> str | None:
        return self._at[0].read(f"{paths.domain(domid)}/name") if self._at else None

    @contextmanager
    def _apart(self, what: str) -> Iterator[None]:
        """Keep one guest's trouble from being that of the others."""
        try:
            yield
        except XenstoreUnreachableError:
            raise
        except Exception as e:
            self._wrong.add(f"cannot handle {what}: {type(e).__name__}: {e}")

    def _mention(self, plan: Plan, outcomes: Iterable[Outcome]) -> None:
        """Say what is wrong or left alone, once, until it is over."""
        wrong = set(plan.problems) | self._wrong | self._unreadable | self._workers.slow()
        wrong |= {plan.refusal} if plan.refusal else set()
        wrong |= {outcome_line(o) for o in outcomes if o.result in {Result.FAILED, Result.CONFLICT}}
        self._once.say(wrong | {f"node {k.domid} kept: {k.reason}" for k in plan.kept})


# --- as a program of its own ---------------------------------------------------------------


def supervise(
    restart_limit: RestartLimit,
    *,
    rescue: bool = False,
    replace: bool = False,
    level: int = logging.INFO,
) -> None:
    """Be this host's supervisor until Ctrl-C or SIGTERM. Raises what `Supervisor.run` does."""
    log_to_where_we_are(level)
    manager = Manager()
    try:
        Supervisor(restart_limit, manager, Watch(wanted=rescue)).run(replace=replace)
    except KeyboardInterrupt:
        manager.tell("STOPPING=1")


def main() -> int:
    """Supervise; `xlmt create` starts this where no supervisor runs. Settings: the environment's.

    It imports no command line: it is there for as long as the host is. An upgrade has it --replace.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    surroundings.settle()
    try:
        limit, rescue = RestartLimit.from_settings(os.environ), rescue_from(os.environ)
        supervise(limit, rescue=rescue, replace="--replace" in sys.argv)
    except XlmtError as e:
        sys.stderr.write(f"xlmt: {printable(str(e), 4000)}\n")
        return e.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
