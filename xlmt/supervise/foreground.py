# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look after one domain until it is gone, in this process: `xlmt create -F`, as xl does it."""

import logging
import time

from xlmt.domains import managed
from xlmt.errors import NoXenError, TimedOutError, XlmtError
from xlmt.libxl import Context
from xlmt.model import Domain
from xlmt.supervise import handler as undertaker
from xlmt.supervise.policy import Brake, Case, is_death
from xlmt.timing import Pause
from xlmt.xenstore import Store

#: A look without an event, should one get lost with a xenstored that was restarted.
_LOOK_AGAIN_S = 60.0
_BACKOFF_S = (0.1, 10.0)

_log = logging.getLogger("xlmt.supervise")


def watch_over(domid: int, brake: Brake) -> None:
    """Return when nothing is left to do for the domain, nor for its next lives.

    Outlives restarts of xenstored. Raises XlmtError when the domain could not be brought back.
    """
    watch, pause = _Watch(domid, brake), Pause(*_BACKOFF_S)
    while True:
        try:
            if not watch.see_to_a_death():
                return
            pause.reset()
        except (NoXenError, TimedOutError) as e:
            _log.warning("%s; trying again", e)
            time.sleep(pause.next())


class _Watch:
    """One guest, whose domid changes with each of its lives, and the death that is seen to."""

    def __init__(self, domid: int, brake: Brake) -> None:
        with Context() as ctx:
            found = ctx.domain(domid)
        if found is None:
            raise XlmtError(f"there is no domain {domid} to look after")
        self._domid, self._uuid = domid, found.uuid
        self._mark = managed.new_mark({})
        self._brake = brake
        self._case: Case | None = None

    def see_to_a_death(self) -> bool:
        """Wait for the next one, or go on with one that was interrupted; False after the last."""
        with Store() as store, Context() as ctx:
            case = self._case or self._next_case(ctx, store)
            if case is None:
                return False
            work = undertaker.Undertaker(ctx, store, case, self._keep, marked=False)
            work.carry_out()
        if work.successor is None:
            return False
        self._domid = work.successor
        self._mark = managed.new_mark({}, case.early_deaths)
        self._case = None
        return True

    def _next_case(self, ctx: Context, store: Store) -> Case | None:
        dead = self._wait_for_death(ctx, store)
        if dead is None:
            _log.info("domain %d has been destroyed", self._domid)
            return None
        case = undertaker.open_case(ctx, store, dead, self._mark, self._brake)
        self._keep(case)
        return case

    def _keep(self, case: Case) -> None:
        self._case = case

    def _wait_for_death(self, ctx: Context, store: Store) -> Domain | None:
        """Return the domain once it has shut down, None when it is gone."""
        store.watch("@releaseDomain", "death")
        while found := ctx.domain(self._domid):
            if found.uuid != self._uuid or found.dying:
                return None
            if found.shutdown and is_death(found.shutdown):
                return found
            store.next_event(_LOOK_AGAIN_S)
        return None
