# SPDX-License-Identifier: LGPL-2.1-or-later
"""Supervise one domain until it is gone, in this process: `xlmt create -F`, as xl does it."""

import logging

from xlmt.domains import managed
from xlmt.errors import PASSING, LibxlError, XlmtError
from xlmt.libxl import Context
from xlmt.model import Domain
from xlmt.supervise import handler
from xlmt.supervise.cdrom import Drives
from xlmt.supervise.policy import Job
from xlmt.supervise.restart_limit import RestartLimit
from xlmt.timing import Pause, rest
from xlmt.xenstore import Store

#: A look without an event, should one get lost with a xenstored that was restarted.
_LOOK_AGAIN_S = 60.0
_BACKOFF_S = (0.1, 10.0)

_log = logging.getLogger("xlmt.supervise")


def supervise(domid: int, restart_limit: RestartLimit) -> None:
    """Return when nothing is left to do for the domain, nor for its next lives.

    Outlives restarts of xenstored. Raises XlmtError when the domain could not be brought back.
    """
    watch, pause = _Watch(domid, restart_limit), Pause(*_BACKOFF_S)
    while True:
        try:
            if not watch.handle_a_death():
                return
            pause.reset()
        except (*PASSING, OSError, MemoryError) as e:
            _log.warning("%s; trying again", e or type(e).__name__)
            rest(pause.next())


class _Watch:
    """One guest, whose domid changes with each of its lives, and the job for its last death."""

    def __init__(self, domid: int, restart_limit: RestartLimit) -> None:
        with Context() as ctx:
            found = ctx.domain(domid)
        if found is None:
            raise XlmtError(f"there is no domain {domid} to supervise")
        self._domid, self._uuid = domid, found.uuid
        self._record = managed.new_record({})
        self._restart_limit = restart_limit
        self._job: Job | None = None

    def handle_a_death(self) -> bool:
        """Wait for the next one, or go on with one that was interrupted; False after the last."""
        with Store() as store, Context() as ctx:
            job = self._job or self._next_job(ctx, store)
            if job is None:
                return False
            work = handler.DeathHandler(ctx, store, job, self._keep, supervised=False)
            work.carry_out()
            found = ctx.domain(work.successor) if work.successor is not None else None
        if found is None:
            return False
        self._domid, self._uuid = found.domid, found.uuid
        self._record = managed.new_record({}, job.early_deaths, job.short_lives)
        self._job = None
        return True

    def _next_job(self, ctx: Context, store: Store) -> Job | None:
        dead = self._wait_for_death(ctx, store)
        if dead is None:
            _log.info("domain %d has been destroyed", self._domid)
            return None
        job = handler.open_job(ctx, store, dead, self._record, self._restart_limit)
        self._keep(job)
        return job

    def _keep(self, job: Job) -> None:
        self._job = job

    def _wait_for_death(self, ctx: Context, store: Store) -> Domain | None:
        """Return the domain once it has shut down, None when it is gone."""
        store.watch("@releaseDomain", "death")
        drives = Drives(store)
        while found := ctx.domain(self._domid):
            if found.uuid != self._uuid or found.dying:
                return None
            if handler.is_dead(found):
                return found
            drives.look([(found, "")])
            if event := store.next_event(min(_LOOK_AGAIN_S, drives.next_s())):
                drives.take(event)
            _eject(ctx, store, drives)
        return None


def _eject(ctx: Context, store: Store, drives: Drives) -> None:
    for eject in drives.ejected():
        try:
            eject.carry_out(ctx, store)
        except LibxlError as e:
            _log.error("%s", e)
