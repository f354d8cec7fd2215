# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt hook`: what the files in hooks/ call when their toolstack tells of a domain.

Whatever goes wrong is said and forgotten: a toolstack takes the status of its hook for an order
to give the guest up, and libvirt takes a hook's output for the guest's new XML. So the status is
always 0, standard output stays empty, and the process ends in a few seconds even where libxl or
xenstored do not answer.
"""

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xlmt.libxl import Context
    from xlmt.nodes.model import Outcome, Plan, Snapshot
    from xlmt.nodes.toolstacks import Event
    from xlmt.xenstore import Store

#: For one look and what follows from it; and for each answer of xenstored, to have better words.
_LIMIT_S = 5.0
_ANSWER_S = 2.0
#: So long a domain may take from the hook before its creation to its home in xenstore.
_TO_COME_S = 30.0
_LOOK_EVERY_S = 0.25
#: More outcomes than this do not make a line better.
_SAID = 4

_AS_IT_IS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def add_to(app: typer.Typer) -> None:
    app.command(context_settings=_AS_IT_IS)(hook)


def hook(
    call: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOOLSTACK [ARGUMENT]...", help="libvirt, xapi or hotplug."),
    ] = None,
) -> int:
    """Do what a toolstack's event asks for: for the files in hooks/; the status is always 0."""
    from xlmt.errors import XlmtError

    try:
        if said := _answer(call or []):
            _say(said)
    except XlmtError as e:
        _say(str(e))
    except KeyboardInterrupt:
        _say("interrupted")
    except Exception as e:  # a bug of ours is no reason for a guest not to start, either
        _say(f"{type(e).__name__}: {e}")
    return 0


def _say(text: str) -> None:
    with suppress(OSError):  # nobody may be there to hear it
        sys.stderr.write(f"xlmt: {' '.join(text.split())}\n")


def _answer(call: "Sequence[str]") -> str:
    """Do what is to be done; return what is to be said of it, which may be nothing."""
    from xlmt.session import limited

    until = time.monotonic() + _LIMIT_S
    with limited("the hook", _LIMIT_S):
        event = _event(call)
    if event is None:
        return ""
    left = until - time.monotonic()
    with limited("the hook", left + (_TO_COME_S if event.to_come else 0.0)):
        return _react(event)


def _event(call: "Sequence[str]") -> "Event | None":
    from xlmt.errors import UsageError
    from xlmt.nodes import toolstacks

    match call:
        case ["libvirt", *arguments]:
            wanted = toolstacks.acts_on_libvirt(arguments)
            return toolstacks.libvirt(arguments, _input(toolstacks.XML_LIMIT) if wanted else b"")
        case ["xapi", *arguments]:
            return toolstacks.xapi(arguments)
        case ["hotplug", *arguments]:
            return toolstacks.hotplug(arguments, os.environ.get("XENBUS_PATH", ""))
    raise UsageError("xlmt hook is for libvirt, xapi and hotplug; see xlmt-hook(8)")


def _input(limit: int) -> bytes:
    return sys.stdin.buffer.read(limit) if sys.stdin else b""


def _react(event: "Event") -> str:
    from xlmt.libxl import Context
    from xlmt.xenstore import Store

    with Store(timeout=_ANSWER_S) as store:
        store.ping()  # libxl would wait for its answer without an end
        with Context() as ctx:
            if event.to_come:
                return _await(store, ctx, event.to_come)
            return _pass(store, ctx, event.domid)


def _await(store: "Store", ctx: "Context", uuid: str) -> str:
    """Wait for the domain to have a home, and add its node.

    xenstored tells of a domain before its first backend. The clock is for one that was told of
    while we looked, and for its home, of which nobody tells.
    """
    from xlmt.nodes import plan as reconcile
    from xlmt.nodes.model import Life

    store.watch("@introduceDomain", "hook")
    until = time.monotonic() + _TO_COME_S
    while (left := until - time.monotonic()) > 0:
        for domid, domain in ctx.domains().items():
            alive = reconcile.life_of(domain) is Life.ALIVE
            if domain.uuid == uuid and alive and _has_home(store, domid):
                return _pass(store, ctx, domid)
        store.next_event(min(_LOOK_EVERY_S, left))
    return f"no domain {uuid} has come within {_TO_COME_S:.0f} s; if it does: xlmt reconcile"


def _has_home(store: "Store", domid: int) -> bool:
    from xlmt import paths

    return store.exists(paths.domain(domid))


def _pass(store: "Store", ctx: "Context", domid: int | None) -> str:
    """Do what `xlmt reconcile` does, for all domids or for one; return what came of it."""
    from xlmt.nodes import apply as host
    from xlmt.nodes import observe
    from xlmt.nodes import plan as reconcile

    seen = observe.observe(store, ctx)
    seen = observe.with_names(store, seen, _to_be_named(seen, domid))
    plan = reconcile.plan(seen) if domid is None else _plan_of_one(seen, domid)
    return _summary(plan, list(host.apply(store, ctx, plan.allowed)))


def _to_be_named(seen: "Snapshot", domid: int | None) -> "Sequence[int]":
    from xlmt.nodes import plan as reconcile

    of_all = reconcile.out_of_order(seen)
    return of_all if domid is None else [d for d in of_all if d == domid]


def _plan_of_one(seen: "Snapshot", domid: int) -> "Plan":
    from xlmt.errors import NoSuchDomainError
    from xlmt.nodes import plan as reconcile
    from xlmt.nodes.model import Plan

    try:
        return reconcile.plan(seen, [str(domid)])
    except NoSuchDomainError:  # it has gone, and left nothing
        return Plan()


def _summary(plan: "Plan", outcomes: "Sequence[Outcome]") -> str:
    from xlmt.nodes import render as output
    from xlmt.nodes.model import Result

    made = [o for o in outcomes if o.result is not Result.UNNEEDED]
    said = [output.outcome_line(outcome) for outcome in made[:_SAID]]
    if len(made) > _SAID:
        said.append(f"and {len(made) - _SAID} more")
    if plan.refusal:
        said.append(plan.refusal)
    if plan.problems:
        said.append(f"not everything could be read: {', '.join(plan.problems)}")
    return "; ".join(said)
