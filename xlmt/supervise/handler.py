# SPDX-License-Identifier: LGPL-2.1-or-later
"""The death handler: do what a domain's death calls for, a step at a time.

`xl shutdown` tears nothing down; whoever waits for the domain's death does. The trip of one:

1. The daemon (daemon.py), or `xlmt create -F` (foreground.py), sees that a domain has shut down.
   The daemon forks a worker (workers.py), whose task is a `Shutdown` (tasks.py).
2. `open_job` finds the configuration and asks policy.py what it calls for: a list of steps.
3. `DeathHandler.carry_out` does them and has the job saved after each. So whatever interrupts
   them, they go on where they were, in the same process or in another one.

Every step can be done again after it was interrupted anywhere in its middle. For the creation of
the guest's next life that takes some care, since whatever a killed process leaves there has no
owner: see `_successor`.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from xlmt import paths
from xlmt.domains import configuration, creations, lifecycle, managed
from xlmt.domains.managed import Record
from xlmt.errors import PASSING, LibxlError, TimedOutError, WantError, XlmtError
from xlmt.libxl import Context
from xlmt.model import Domain, ShutdownReason
from xlmt.supervise import policy
from xlmt.supervise.policy import Job, Step
from xlmt.supervise.restart_limit import RestartLimit
from xlmt.text import guest
from xlmt.timing import rest
from xlmt.xenstore import Store

DUMP_DIR = "/var/lib/xen/dump"
#: In a domain's home: the life before, if it was brought back by us. Guests cannot write it.
_RESTART_OF = "xlmt-restart-of"
#: A worker waits as long itself; for longer the supervisor does, and sends another one.
WAITS_S = 2.0
#: For a bootloader, which the guest chooses, and which others wait for with autoballoon.
_BOOTLOADER_S = 120.0
_NOT_RESTARTED = (
    "is not restarted: it died %d times in a row within %g s of its start; its console is in "
    "/var/log/xen/console; to start it: xlmt create"
)

_log = logging.getLogger("xlmt.supervise")


# --- the job -------------------------------------------------------------------------------


def is_dead(domain: Domain) -> bool:
    """Whether the domain has shut down, and its death calls for an action."""
    if domain.domid == 0 or domain.dying or domain.shutdown is None:
        return False
    return policy.is_death(domain.shutdown)


def open_job(  # noqa: PLR0913 - two to see by, four to choose by
    ctx: Context,
    store: Store,
    found: Domain,
    record: Record,
    restart_limit: RestartLimit,
    *,
    seen: float = 0.0,
) -> Job:
    """Find out what the death of a domain calls for, by the configuration of this life, as xl does.

    `seen` is when the death was seen first. Raises one of PASSING; XlmtError when its
    configuration is not to be had.
    """
    reason = found.shutdown or ShutdownReason.UNKNOWN
    lived_s = (seen or managed.now()) - record.started
    config = configuration.current(ctx, store, found.domid, record.config)
    decision = policy.decide(reason, config)
    early_deaths = restart_limit.early_deaths(record.early_deaths, lived_s)
    short_lives = restart_limit.short_lives(record.short_lives, lived_s)
    if decision.brings_back:
        config = configuration.of_the_next_life(ctx, found.domid, config)
    job = Job(
        found.domid,
        found.uuid,
        config,
        decision.steps,
        early_deaths,
        life=record.life(found.domid),
        short_lives=short_lives,
        not_before=managed.now() + restart_limit.pause_s(short_lives),
    )
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

        Steps are left when the next life is not due yet. Raises one of PASSING: try again later,
        with a context and a store that are new. Raises XlmtError: it cannot be done.
        """
        try:
            while self._job.pending and self._is_due():
                self._do_first()
        except PASSING:
            raise
        except XlmtError as e:
            who = guest(self._job.name, self._job.domid)
            raise XlmtError(f"{who} is not restarted: {e}") from e

    def _is_due(self) -> bool:
        early = self._job.pending[0] is Step.CREATE and self._job.made is None
        wait_s = self._job.not_before - managed.now()
        return not (early and self._supervised and wait_s > WAITS_S)

    def _do_first(self) -> None:
        try:
            self._do(self._job.pending[0])
        except LibxlError as e:
            self._store.ping()  # was it xenstored's fault? Then NoXenError
            if e.is_for_want:
                raise WantError(str(e)) from e
            raise
        self._note(self._job.after_a_step())

    def _note(self, job: Job) -> None:
        self._job = job
        self._keep(job)

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
        if found is None or not is_dead(found):
            return False
        record = managed.record_of(found) if self._supervised else None
        return record is None or record.life(found.domid) == self._job.key

    def _dump_core(self) -> None:
        if not self._dead():
            return
        path = f"{DUMP_DIR}/{policy.dump_name(self._job.name, self._job.domid)}"
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
            suffix = self._free_suffix(name)
            _tell(self._job, "is preserved as %s%s", name, suffix)
            self._ctx.preserve(domid, _json(self._job.config), suffix)
        if self._supervised:  # it keeps its uuid with the hypervisor, and so the record
            managed.drop_record(self._ctx, domid)

    def _free_suffix(self, name: str) -> str:
        """Return xl's, or with a number behind it: it changes once a minute only."""
        suffix = policy.preserved_suffix(datetime.now(UTC))
        suffixes = (f"{suffix}-{n}" if n > 1 else suffix for n in count(1))
        return next(s for s in suffixes if self._ctx.domid_of(f"{name}{s}") is None)

    def _create(self) -> None:
        if self._job.made is None:
            domid = self._successor()
            if domid is None:
                rest(self._job.not_before - managed.now())
                domid = self._make()
            # from here on somebody may destroy it, and mean it
            self._note(replace(self._job, made=domid))
        assert self._job.made is not None
        self.successor = self._job.made
        if self._set_going(self._job.made, self._job.next_uuid):
            _tell(self._job, "is restarted as domain %d", self.successor)
        else:
            _tell(self._job, "was restarted as domain %d, which is gone", self.successor)

    def _make(self) -> int:
        """Create the next life, unless somebody else has started the guest."""
        name, uuid = self._job.name, self._job.next_uuid
        with creations.claim(name) as claim:
            lifecycle.clear_up(self._ctx, self._store, claim)
            if (other := self._ctx.domid_of(name)) is not None:
                raise XlmtError(f"another process has started it as domain {other}")
            there = tuple(d.domid for d in self._ctx.domains().values() if d.uuid == uuid)
            self._note(replace(self._job, begun=there))
            return lifecycle.create(
                self._ctx,
                self._store,
                _for_the_next_life(self._job),
                record=self._next_record(),
                timeout=_BOOTLOADER_S if configuration.has_bootloader(self._job.config) else None,
            )

    def _soft_reset(self) -> None:
        domid, found = self._job.domid, self._there()
        if found is None:
            raise XlmtError("it was destroyed when its soft reset was interrupted")
        begun = found.shutdown is None and managed.record_of(found) is None  # and not ended
        if begun and not found.paused:
            raise XlmtError("somebody has set it going when its soft reset was interrupted")
        with lifecycle.destroyed_on_error(self._ctx, domid, "cannot be reset softly"):
            if begun:
                raise XlmtError("its soft reset was interrupted")
            if found.shutdown is not None:
                self._ctx.soft_reset(domid, _json(self._job.config))
                lifecycle.ensure_node(self._store, domid)
                if record := self._next_record():
                    managed.keep_record(self._ctx, domid, record)
        self._set_going(domid, found.uuid)
        self.successor = domid
        _tell(self._job, "runs again after its soft reset")

    def _next_record(self) -> Record | None:
        if not self._supervised:
            return None
        return managed.new_record(self._job.config, self._job.early_deaths, self._job.short_lives)

    def _set_going(self, domid: int, uuid: str) -> bool:
        """Unpause it; False when somebody has destroyed it meanwhile.

        Raises TimedOutError when it does not run for all that.
        """

        def look() -> Domain | None:
            found = self._ctx.domain(domid)
            return found if found and found.uuid == uuid and not found.dying else None

        found = look()
        if found and found.paused and not found.shutdown:
            try:
                with lifecycle.destroyed_on_error(self._ctx, domid):
                    self._ctx.unpause(domid)
            except BaseException:
                self._note(replace(self._job, made=None))
                raise
            found = look()
        if found and found.is_half_made:
            raise TimedOutError(f"domain {domid}, its next life, is still paused")
        return found is not None

    def _successor(self) -> int | None:
        """Return the guest's next life, if it was made before we were interrupted.

        It is tagged with the life before. With a record it is whole: it gets that last. Without,
        it is what a killed attempt of ours has left, and is destroyed.
        """
        if self._job.begun is None:
            return None
        for found in self._ctx.domains().values():
            if found.domid in {0, self._job.domid} or found.dying or not self._is_ours(found):
                continue
            if managed.record_of(found) is not None:
                return found.domid
            now = self._ctx.domain(found.domid)
            if now is None or not now.is_half_made:  # on its way out; or restored, by somebody
                continue
            _tell(self._job, "left the half-made domain %d: destroying it", found.domid)
            self._ctx.destroy(found.domid)
        return None

    def _is_ours(self, found: Domain) -> bool:
        """Whether its home is tagged with the life before; without, by what was written down."""
        tag = self._store.read(f"{paths.domain(found.domid)}/{_RESTART_OF}")
        if tag is not None:
            return tag == self._job.key
        new = found.domid not in (self._job.begun or ())
        if not (new and found.is_half_made and found.uuid == self._job.next_uuid):
            return False
        return lifecycle.is_homeless(self._ctx, self._store, found.domid)


def _for_the_next_life(job: Job) -> dict[str, Any]:
    """Return the configuration, for any domid, and tagged with the life before.

    libxl writes `xsdata` to the home, in the very transaction that makes it (libxl_create.c,
    libxl__domain_make).
    """
    c_info = {key: value for key, value in job.config["c_info"].items() if key != "domid"}
    xsdata = {**(c_info.get("xsdata") or {}), _RESTART_OF: job.key}
    return {**job.config, "c_info": {**c_info, "xsdata": xsdata}}


def _json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, ensure_ascii=False)
