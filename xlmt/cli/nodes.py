# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt list`, `repair` and `reconcile`: the nodes as they are, and as they should be.

Imports of what does the work are inside the commands, as in domains.py.
"""

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from xlmt.cli import attention
from xlmt.errors import (
    NoXenError,
    OutOfOrderError,
    RefusedError,
    UsageError,
    XenstoreUnreachableError,
    XlmtError,
)

if TYPE_CHECKING:
    from xlmt.nodes.model import Listing, Outcome, Plan
    from xlmt.nodes.reconcile import Pass

_log = logging.getLogger("xlmt")
#: So many changes take long enough to show how far they are.
_LONG = 200


class ListOutput(StrEnum):
    TABLE = "table"
    JSON = "json"


class PassOutput(StrEnum):
    TEXT = "text"
    JSON = "json"


_DryRun = Annotated[
    bool, typer.Option("-n", "--dry-run", help="Say what would be changed; change nothing.")
]


def add_to(app: typer.Typer) -> None:
    app.command("list")(list_)
    app.command()(repair)
    app.command("reconcile")(reconcile_)


# --- list ----------------------------------------------------------------------------------


def list_(
    wanted: Annotated[
        list[str] | None, typer.Argument(..., metavar="[DOMAIN]...", help="Names or domids.")
    ] = None,
    output: Annotated[
        ListOutput, typer.Option("-o", "--output", help="For people or programs.")
    ] = ListOutput.TABLE,
) -> int:
    """List every domid that has a domain, a node or a kernel backend, with its state."""
    from xlmt.model import Domain
    from xlmt.nodes import reconcile, render
    from xlmt.session import opened

    with opened("the list") as (store, ctx):
        listing = reconcile.listed(store, ctx, wanted)
        attention.mention_left_over(ctx)
    attention.mention_unattended(
        (Domain(row.domid, row.uuid) for row in listing.rows if row.uuid),
        {row.domid: row.name for row in listing.rows if row.name},
    )
    typer.echo(render.list_json(listing) if output is ListOutput.JSON else _table(listing))
    if listing.problems:
        raise XlmtError("this list is not complete: " + "; ".join(listing.problems))
    return 0


def _table(listing: "Listing") -> str:
    from xlmt.nodes import render

    if not sys.stdout.isatty():
        return render.list_table(listing)
    colour = not os.environ.get("NO_COLOR")
    return render.list_table(listing, screen=shutil.get_terminal_size(), colour=colour)


# --- repair, reconcile ---------------------------------------------------------------------


def repair(
    wanted: Annotated[
        list[str] | None, typer.Argument(..., metavar="DOMAIN...", help="Names or domids.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every domain there is.")] = False,
    dry_run: _DryRun = False,
) -> int:
    """Repair domains' nodes: add them, empty them, set their owner and permissions."""
    from xlmt.nodes import reconcile, render
    from xlmt.session import opened

    if every == bool(wanted):
        raise UsageError("repair needs either domains or --all")
    if {"0", "Domain-0"} & set(wanted or ()):
        raise RefusedError("domain 0 is this host: it has no node, and must not have one")
    with opened("the repair") as (store, ctx):
        nodes = reconcile.begin(store, ctx, wanted, contents=True)
        if wanted:
            for row in nodes.untouched(wanted):
                typer.echo(render.untouched_line(row))
        else:
            _mention(nodes.plan)
        attention.mention_unattended((nodes.seen.domains or {}).values(), nodes.seen.names)
        _carry_out(nodes, dry_run=dry_run)
    if every and not nodes.plan.actions:
        typer.echo(f"{len(nodes.seen.contents)} nodes checked: nothing to repair")
    return 0


def reconcile_(
    dry_run: _DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Ignore the limit on removals.")] = False,
    prune_foreign: Annotated[
        bool, typer.Option("--prune-foreign", help="Also remove nodes whose name is no domid.")
    ] = False,
    output: Annotated[
        PassOutput, typer.Option("-o", "--output", help="For people or programs.")
    ] = PassOutput.TEXT,
) -> int:
    """Add missing nodes and remove left-over ones, once."""
    from xlmt.nodes import reconcile
    from xlmt.session import opened

    with opened("the pass") as (store, ctx):
        nodes = reconcile.begin(store, ctx, force=force, prune_foreign=prune_foreign)
        if dry_run or nodes.plan.refusal:
            nodes = nodes.lasting()
        as_json = output is PassOutput.JSON
        if not as_json:
            _mention(nodes.plan)
        attention.mention_left_over(ctx)
        attention.mention_unattended((nodes.seen.domains or {}).values(), nodes.seen.names)
        _carry_out(nodes, dry_run=dry_run, as_json=as_json)
    return 0


def _carry_out(nodes: "Pass", *, dry_run: bool, as_json: bool = False) -> None:
    """Carry the plan out and say what came of it. Raises what the exit status is to be."""
    from xlmt.nodes import render
    from xlmt.nodes.model import Outcome, Result

    plan = nodes.plan
    actions = plan.actions if dry_run else plan.allowed
    say = not as_json and _log.isEnabledFor(logging.WARNING)
    outcomes: list[Outcome] = []
    lost: Exception | None = None
    unheard: OSError | None = None
    try:
        with _progress(nodes.carry_out(dry_run=dry_run), len(actions), said=say) as shown:
            for outcome in shown:
                outcomes.append(outcome)
                if outcome.result in {Result.FAILED, Result.CONFLICT}:
                    _log.info("%s", render.outcome_line(outcome))
                if say and not unheard and outcome.result in {Result.DONE, Result.PLANNED}:
                    try:
                        typer.echo(render.outcome_line(outcome))
                    except OSError as e:  # the work does not depend on who reads of it
                        unheard = e
    except XenstoreUnreachableError as e:
        lost = e
        outcomes += [Outcome(a, Result.FAILED, str(e)) for a in actions[len(outcomes) :]]
    if as_json:
        refused = [] if dry_run else plan.actions[len(actions) :]  # removals are the last
        everything = [*outcomes, *(Outcome(a, Result.PLANNED) for a in refused)]
        typer.echo(render.plan_json(plan, everything, dry_run=dry_run))
    if unheard:
        raise unheard
    if lost:
        done = sum(outcome.result is Result.DONE for outcome in outcomes)
        raise NoXenError(f"{done} of {len(actions)} changes were made, then: {lost}")
    _judge(plan, outcomes, dry_run=dry_run)


@contextmanager
def _progress(
    outcomes: "Iterator[Outcome]", length: int, *, said: bool
) -> "Iterator[Iterable[Outcome]]":
    """Show on a terminal how far long work is, unless the lines that are said do that already."""
    if length < _LONG or not sys.stderr.isatty() or (said and sys.stdout.isatty()):
        yield outcomes
    else:
        with typer.progressbar(outcomes, length=length, file=sys.stderr) as bar:
            yield bar


def _judge(plan: "Plan", outcomes: "Sequence[Outcome]", *, dry_run: bool) -> None:
    from xlmt.nodes import render
    from xlmt.nodes.model import Result

    failed = [o for o in outcomes if o.result in {Result.FAILED, Result.CONFLICT}]
    wrong: list[XlmtError] = []
    if plan.problems:
        kind = NoXenError if plan.blind else XlmtError
        so = "" if plan.complete else ", so no node is removed"
        wrong.append(kind(f"cannot read everything{so}: {'; '.join(plan.problems)}"))
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        wrong.append(XlmtError(render.outcome_line(failed[0]) + more))
    if plan.refusal and not dry_run:
        wrong.append(RefusedError(plan.refusal))
    if wrong:  # all of it in one line; the first is the gravest
        raise type(wrong[0])("; ".join(map(str, wrong)))
    if dry_run:
        planned = sum(o.result is Result.PLANNED for o in outcomes)
        if plan.refusal:
            _log.warning("without --force: %s", plan.refusal)
        if planned:
            raise OutOfOrderError(f"{planned} changes needed, none made (--dry-run)")


def _mention(plan: "Plan") -> None:
    """Tell what is left alone: people at a terminal, others if they asked for more words."""
    from xlmt.text import printable

    level = logging.WARNING if sys.stderr.isatty() else logging.INFO
    for kept in plan.kept:
        _log.log(level, "node %d kept: %s", kept.domid, printable(kept.reason, 300))
    for name in plan.foreign:
        _log.log(level, "node %s ignored: its name is no domid of a guest", printable(name))
