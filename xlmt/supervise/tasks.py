# SPDX-License-Identifier: LGPL-2.1-or-later
"""What workers are sent for: the death of a managed guest, what a killed creation has left."""

from contextlib import suppress
from dataclasses import dataclass

from xlmt import paths
from xlmt.domains import creations, lifecycle, managed
from xlmt.domains.creations import Begun
from xlmt.errors import PASSING, XlmtError
from xlmt.libxl import Context
from xlmt.supervise import handler, jobs
from xlmt.supervise.policy import Job
from xlmt.supervise.restart_limit import RestartLimit
from xlmt.text import guest, printable
from xlmt.xenstore import Store


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The task of a worker: handle a death of a managed guest, or go on with its job.

    `key` is the life that has ended; `domid` that of the dead domain, None when only the job is
    left. `seen` is when the death was seen first, in seconds since the host was booted.
    """

    key: str
    domid: int | None
    name: str | None
    restart_limit: RestartLimit
    seen: float = 0.0

    @property
    def what(self) -> str:
        domid = self.domid or paths.parse_domid(self.key.partition("-")[0])
        who = guest(self.name, domid) if domid else self.name or self.key
        return f"the shutdown of {who}"

    def carry_out(self, ctx: Context, store: Store) -> None:
        """Do what is left to do; what cannot be done is not tried again."""
        job = jobs.load(self.key) or self._new_job(ctx, store)
        if job is None:
            return
        try:
            handler.DeathHandler(ctx, store, job, jobs.keep, supervised=True).carry_out()
        except PASSING:
            raise
        except XlmtError:
            _give_up(ctx, job)
            raise

    def _new_job(self, ctx: Context, store: Store) -> Job | None:
        """Open a job for the death and save it; None when there is nothing to do (any more)."""
        found = None if self.domid is None else ctx.domain(self.domid)
        if not found or not handler.is_dead(found):
            return None  # another process was faster
        record = managed.record_of(found)
        if record is None or record.life(found.domid) != self.key:
            return None
        job = handler.open_job(ctx, store, found, record, self.restart_limit, seen=self.seen)
        if not job.pending:  # it stays as it is, for somebody to look at
            managed.drop_record(ctx, found.domid)
            return None
        jobs.keep(job)
        return job


def _give_up(ctx: Context, job: Job) -> None:
    """Forget the job; and a dead domain that stays is not to be taken for a new death."""
    with suppress(XlmtError):
        found = ctx.domain(job.domid)
        record = managed.record_of(found) if found else None
        if record and record.life(job.domid) == job.key:
            managed.drop_record(ctx, job.domid)
    jobs.drop(job.key)


@dataclass(frozen=True, slots=True)
class Leftover:
    """The task of a worker: destroy what a creation that was killed has left half-made."""

    key: str
    left: Begun

    @property
    def domid(self) -> int | None:
        return self.left.domid

    @property
    def what(self) -> str:
        return f"what is left of the creation of {printable(self.left.name)}"

    def carry_out(self, ctx: Context, store: Store) -> None:
        """Destroy it, if there is anything, and nobody creates that guest just now."""
        with creations.claim_file(self.key) as (claim, _):
            if claim:
                lifecycle.clear_up(ctx, store, claim)
