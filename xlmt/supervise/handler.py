# SPDX-License-Identifier: LGPL-2.1-or-later
"""The death handler: do what a domain's death calls for, a step at a time.

`xl shutdown` tears nothing down; whoever waits for the domain's death does. The trip of one:

1. The daemon (daemon.py), or `xlmt create -F` (foreground.py), sees that a domain has shut down.
   The daemon forks a worker (workers.py), whose task is a `Shutdown`.
2. `open_job` finds the configuration and asks policy.py what it calls for: a list of steps.
3. `DeathHandler.carry_out` does them and has the job saved after each. So whatever interrupts
   them, they go on where they were, in the same process or in another one.

Every step can be done again after it was interrupted anywhere in its middle. For the creation of
the guest's next life that takes some care, since whatever a killed process leaves there has no
owner: see `_successor`.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from xlmt import paths
from xlmt.domains import configuration, lifecycle, managed
from xlmt.domains.managed import Record
from xlmt.errors import LibxlError, NoXenError, TimedOutError, XlmtError
from xlmt.libxl import Context
from xlmt.model import Domain, ShutdownReason
from xlmt.supervise import jobs, policy
from xlmt.supervise.policy import Job, Step
from xlmt.supervise.restart_limit import RestartLimit
from xlmt.text import guest
from xlmt.xenstore import Store

#: xl waits as long: "domain re-creation fails sometimes" without it (xl_vmcontrol.c).
_BEFORE_RESTART_S = 2.0
#: libxl writes the home right after the hypervisor has made the domain, unless xenstored is busy.
_TO_GET_A_HOME_S = 15.0
DUMP_DIR = "/var/lib/xen/dump"
#: In a domain's home: the domid of the life before, if it was brought back by us.
_RESTART_OF = "xlmt-restart-of"
_NOT_RESTARTED = (
    "is not restarted: it died %d times in a row within %g s of its start; its console is in "
    "/var/log/xen/console; to start it: xlmt create"
)

_log = logging.getLogger("xlmt.supervise")


# --- the job -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The task of a worker: handle a death of a managed guest, or go on with its job.

    `domid` is that of the dead domain, None when only the job is left.
    """

    uuid: str
    domid: int | None
    name: str | None
    restart_limit: RestartLimit

    @property
    def what(self) -> str:
        who = self.name or self.uuid
        return f"the shutdown of {who if self.domid is None else guest(self.name, self.domid)}"

    def carry_out(self, ctx: Context, store: Store) -> None:
        """Do what is left to do; what cannot be done is not tried again."""
        job = jobs.load(self.uuid) or self._new_job(ctx, store)
        if job is None:
            return
        try:
            DeathHandler(ctx, store, job, jobs.keep, supervised=True).carry_out()
        except (NoXenError, TimedOutError):
            raise
        except XlmtError:
            jobs.drop(self.uuid)
            raise

    def _new_job(self, ctx: Context, store: Store) -> Job | None:
        """Open a job for the death and save it; None when there is nothing to do (any more)."""
        found = None if self.domid is None else ctx.domain(self.domid)
        if not found or found.uuid != self.uuid or not is_dead(found):
            return None  # another process was faster
        record = managed.record_of(found)
        if record is None:
            return None
        job = open_job(ctx, store, found, record, self.restart_limit)
        if not job.pending:  # it stays as it is, for somebody to look at
            managed.drop_record(ctx, found.domid)
            return None
        jobs.keep(job)
        return job


def is_dead(domain: Domain) -> bool:
    """Whether the domain has shut down, and its death calls for an action."""
    if domain.domid == 0 or domain.dying or domain.shutdown is None:
        return False
    return policy.is_death(domain.shutdown)


def open_job(
    ctx: Context, store: Store, found: Domain, record: Record, restart_limit: RestartLimit
) -> Job:
    """Find out what the death of a domain calls for, by the configuration of this life, as xl does.

    Raises NoXenError, TimedOutError; XlmtError when its configuration is not to be had.
    """
    reason = found.shutdown or ShutdownReason.UNKNOWN
    lived_s = time.clock_gettime(time.CLOCK_BOOTTIME) - record.started
    config = configuration.current(ctx, store, found.domid, record.config)
    decision = policy.decide(reason, config)
    early_deaths = restart_limit.early_deaths(record.early_deaths, lived_s)
    if decision.brings_back:
        config = configuration.of_the_next_life(ctx, found.domid, config)
    job = Job(found.domid, found.uuid, config, decision.steps, early_deaths)
    _tell(job, "has shut down: %s; action: %s", reason, decision.action)
    if decision.brings_back and restart_limit.is_reached(early_deaths):
        _tell(job, _NOT_RESTARTED, early_deaths, restart_limit.within_s, level=logging.ERROR)
        job = replace(job, pending=policy.without_return(decision).steps)
    return job


def _tell(job: Job, message: str, *values: object, level: int = logging.INFO) -> None:
    fields = {"domid": job.domid, "domain": job.name}
    _log.log(level, f"%s {message}", guest(job.name, job.domid), *values, extra=fields)


# --- the steps -----------------------------------------------------------------------------


class DeathHandler:
    """Carries out one job; `keep` is given the job after each step.

    `supervised`: the guest's next life is managed again. `successor` is that life's domid, once
    there is one.
    """

    def __init__(
        self, ctx: Context, store: Store, job: Job, keep: Callable[[Job], None], *, supervised: bool
    ) -> None:
        self._ctx = ctx
        self._store = store
        self._job = job
        self._keep = keep
        self._supervised = supervised
        self.successor: int | None = None

    def carry_out(self) -> None:
        """Do the steps that are left.

        Raises NoXenError, TimedOutError: try again later, with a context and a store that are
        new. Raises XlmtError: it cannot be done.
        """
        try:
            while self._job.pending:
                self._do_first()
        except (NoXenError, TimedOutError):
            raise
        except XlmtError as e:
            who = guest(self._job.name, self._job.domid)
            raise XlmtError(f"{who} is not restarted: {e}") from e

    def _do_first(self) -> None:
        try:
            self._do(self._job.pending[0])
        except LibxlError:
            self._store.ping()  # was it xenstored's fault? Then NoXenError
            raise
        self._job = self._job.after_a_step()
        self._keep(self._job)

    def _do(self, step: Step) -> None:
        match step:
            case Step.DUMP_CORE:
                self._dump_core()
            case Step.DESTROY:
                self._destroy()
            case Step.RENAME:
                self._rename()
            case Step.CREATE:
                self._create()
            case Step.SOFT_RESET:
                self._soft_reset()

    def _there(self) -> Domain | None:
        """Return the domain's row, None when it is gone; a reused domid is another domain."""
        found = self._ctx.domain(self._job.domid)
        return found if found and found.uuid == self._job.uuid and not found.dying else None

    def _dead(self) -> bool:
        """Whether the dead domain is still there, and dead; one that was resumed may suspend."""
        found = self._there()
        return found is not None and is_dead(found)

    def _dump_core(self) -> None:
        if not self._dead():
            return
        path = f"{DUMP_DIR}/{self._job.name}"
        _tell(self._job, "is being dumped to %s", path)
        try:
            self._ctx.dump_core(self._job.domid, path)
        except LibxlError as e:
            _log.error("%s", e)  # as xl: the guest is dead, but what comes next can still be done

    def _destroy(self) -> None:
        if not self._dead():
            return
        try:
            self._ctx.destroy(self._job.domid)
        except LibxlError as e:
            self._store.ping()
            _log.error("%s", e)  # as xl; what the kernel still holds, the interposer has said

    def _rename(self) -> None:
        if not self._dead():
            return
        name, domid = self._job.name, self._job.domid
        if self._ctx.name_of(domid) == name:  # else it was done, and then we were interrupted
            suffix = policy.preserved_suffix(datetime.now(UTC))
            _tell(self._job, "is preserved as %s%s", name, suffix)
            self._ctx.preserve(domid, _json(self._job.config), suffix)
        if self._supervised:  # it keeps its uuid with the hypervisor, and so the record
            managed.drop_record(self._ctx, domid)

    def _create(self) -> None:
        if self._job.made is None:
            domid = self._successor()
            if domid is None:
                time.sleep(_BEFORE_RESTART_S)
                config = _for_the_next_life(self._job)
                domid = lifecycle.create(self._ctx, self._store, config, record=self._next_record())
            self._job = replace(self._job, made=domid)
            self._keep(self._job)  # from here on somebody may destroy it, and mean it
        assert self._job.made is not None
        self._set_going(self._job.made)
        self.successor = self._job.made
        _tell(self._job, "is restarted as domain %d", self.successor)

    def _soft_reset(self) -> None:
        domid, found = self._job.domid, self._there()
        if found is None:
            raise XlmtError("it was destroyed when its soft reset was interrupted")
        with lifecycle.destroyed_on_error(self._ctx, domid):
            if found.shutdown is None and managed.record_of(found) is None:  # but not to the end
                raise XlmtError("its soft reset was interrupted")
            if found.shutdown is not None:
                self._ctx.soft_reset(domid, _json(self._job.config))
                lifecycle.ensure_node(self._store, domid)
                if record := self._next_record():
                    managed.keep_record(self._ctx, domid, record)
        self._set_going(domid)
        self.successor = domid
        _tell(self._job, "runs again after its soft reset")

    def _next_record(self) -> Record | None:
        return (
            managed.new_record(self._job.config, self._job.early_deaths)
            if self._supervised
            else None
        )

    def _set_going(self, domid: int) -> None:
        """Unpause it, if nobody has destroyed it meanwhile."""
        found = self._ctx.domain(domid)
        if found and found.uuid == self._job.uuid and found.paused and not found.shutdown:
            with lifecycle.destroyed_on_error(self._ctx, domid):
                self._ctx.unpause(domid)

    def _successor(self) -> int | None:
        """Return the guest's next life, if it was made before we were interrupted.

        Its uuid is the guest's, and it is tagged with the domid of the life before. With a record
        it is whole: it gets that last. Without, it is what a killed attempt of ours has left, and
        is destroyed.

        Raises XlmtError when another process has started the guest meanwhile.
        """
        for found in self._ctx.domains().values():
            if found.uuid != self._job.uuid or found.dying or found.domid == self._job.domid:
                continue
            whole = managed.record_of(found) is not None
            if found.shutdown and not whole:  # an earlier death's, that was kept
                continue
            ours = self._is_ours(found)
            if self._ctx.domain(found.domid) is None:  # it was on its way out
                continue
            if not ours:
                raise XlmtError(f"another process has started it as domain {found.domid}")
            if whole:
                return found.domid
            _tell(self._job, "left the half-made domain %d: destroying it", found.domid)
            self._ctx.destroy(found.domid)
        return None

    def _is_ours(self, found: Domain) -> bool:
        """Whether the domain is tagged, in its home, with the domid of the life before.

        Without a home nobody can tell who made it. Whoever did makes the home in a moment, if
        he lives: after a longer one, it was us.
        """
        home, until = paths.domain(found.domid), time.monotonic() + _TO_GET_A_HOME_S
        while self._ctx.domain(found.domid) and not self._store.exists(home):
            if time.monotonic() > until:
                return True
            time.sleep(0.1)
        made_after = self._store.read(f"{home}/{_RESTART_OF}")
        return made_after == str(self._job.domid)


def _for_the_next_life(job: Job) -> dict[str, Any]:
    """Return the configuration, for any domid, and tagged with the previous domid.

    libxl writes `xsdata` to the home, in the very transaction that makes it (libxl_create.c,
    libxl__domain_make).
    """
    c_info = {key: value for key, value in job.config["c_info"].items() if key != "domid"}
    xsdata = {**(c_info.get("xsdata") or {}), _RESTART_OF: str(job.domid)}
    return {**job.config, "c_info": {**c_info, "xsdata": xsdata}}


def _json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, ensure_ascii=False)
