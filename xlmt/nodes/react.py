# SPDX-License-Identifier: LGPL-2.1-or-later
"""React to what a toolstack tells of a domain: one pass, in a few seconds, whatever happens.

A toolstack waits for its hook. So all of this ends in a bounded time, even where libxl or
xenstored do not answer: past it the process is left, with status 0.
"""

import time
from collections.abc import Callable, Sequence

from xlmt import paths
from xlmt.errors import NoSuchDomainError
from xlmt.libxl import Context
from xlmt.nodes import plan, reconcile
from xlmt.nodes.model import Life, Outcome, Plan, Result
from xlmt.nodes.render import outcome_line
from xlmt.nodes.toolstacks import Event
from xlmt.session import limited
from xlmt.xenstore import Store

#: For one look and what follows from it; and for each answer of xenstored, to have better words.
_LIMIT_S = 5.0
_ANSWER_S = 2.0
#: So long a domain may take from the hook before its creation to its home in xenstore.
_TO_COME_S = 30.0
_LOOK_EVERY_S = 0.25
#: More outcomes than this do not make a line better.
_SAID = 4


def react(read: Callable[[], Event | None]) -> str:
    """Do what an event asks for, once `read` has returned it; return what came of it, or ""."""
    until = time.monotonic() + _LIMIT_S
    with limited("the hook", _LIMIT_S):
        event = read()
    if event is None:
        return ""
    left = until - time.monotonic()
    with (
        limited("the hook", left + (_TO_COME_S if event.to_come else 0.0)),
        Store(timeout=_ANSWER_S) as store,
    ):
        store.ping()  # libxl would wait for its answer without an end
        with Context() as ctx:
            return _await(store, ctx, event.to_come) if event.to_come else _pass(store, ctx, event)


def _await(store: Store, ctx: Context, uuid: str) -> str:
    """Wait for the domain to have a home, and add its node.

    xenstored tells of a domain before its first backend. The clock is for one that was told of
    while we looked, and for its home, of which nobody tells.
    """
    store.watch("@introduceDomain", "hook")
    until = time.monotonic() + _TO_COME_S
    while (left := until - time.monotonic()) > 0:
        for domid, domain in ctx.domains().items():
            alive = domain.uuid == uuid and plan.life_of(domain) is Life.ALIVE
            if alive and store.exists(paths.domain(domid)):
                return _pass(store, ctx, Event(domid))
        store.next_event(min(_LOOK_EVERY_S, left))
    return f"no domain {uuid} has come within {_TO_COME_S:.0f} s; if it does: xlmt reconcile"


def _pass(store: Store, ctx: Context, event: Event) -> str:
    """Do what `xlmt reconcile` does, for all domids or for one; return what came of it."""
    try:
        wanted = None if event.domid is None else [str(event.domid)]
        nodes = reconcile.begin(store, ctx, wanted)
    except NoSuchDomainError:  # it has gone, and left nothing
        return ""
    return _summary(nodes.plan, list(nodes.carry_out()))


def _summary(what: Plan, outcomes: Sequence[Outcome]) -> str:
    made = [o for o in outcomes if o.result is not Result.UNNEEDED]
    said = [outcome_line(outcome) for outcome in made[:_SAID]]
    if len(made) > _SAID:
        said.append(f"and {len(made) - _SAID} more")
    if what.refusal:
        said.append(what.refusal)
    if what.problems:
        said.append(f"cannot read everything: {', '.join(what.problems)}")
    return "; ".join(said)
