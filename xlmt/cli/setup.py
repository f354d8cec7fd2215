# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt setup`: enable on this host what fits it, and undo that.

Imports of what does the work are inside the command, as in domains.py. None of it needs libxl.
"""

import logging
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from xlmt.errors import OutOfOrderError, RefusedError, XlmtError

if TYPE_CHECKING:
    from xlmt.setup.apply import Outcome

_log = logging.getLogger("xlmt")


def add_to(app: typer.Typer) -> None:
    app.command()(setup)


def setup(
    dry_run: Annotated[
        bool, typer.Option("-n", "--dry-run", help="Say what would be done; do nothing.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Undo what it has done.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> int:
    """Enable on this host what fits it: the kernel half, the supervisor, the toolstacks' hooks."""
    if undo:
        return _undo(dry_run, yes)
    from xlmt.setup import apply, host, plan, record, shipped

    seen = host.look()
    ours = {one.path: one.content for one in record.load() if one.path}
    wanted = plan.plan(seen, shipped.read(), ours)
    for step in wanted.steps:
        typer.echo(f"  {step.told}")
    for left in wanted.left_out:
        typer.echo(f"  left out: {left.what}: {left.why}")
    if not wanted.steps:
        done = f"; {len(wanted.there)} steps are done already" if wanted.there else ""
        typer.echo(f"nothing to do{done}")
        return 0
    if dry_run:
        raise OutOfOrderError(f"{len(wanted.steps)} steps needed, none done (--dry-run)")
    _may_begin("Do this?", yes)
    _report(apply.carry_out(wanted.steps, systemd=seen.systemd))
    for line in wanted.afterwards:
        typer.echo(line)
    when = "" if seen.dom0 else ", once it is booted with Xen"
    typer.echo(f"to see how this host is{when}: xlmt doctor; to undo all this: xlmt setup --undo")
    return 0


def _undo(dry_run: bool, yes: bool) -> int:
    from xlmt.setup import apply, host, record

    done = record.load()
    for one in reversed(done):
        typer.echo(f"  undo {one.path or one.unit}")
    if not done:
        typer.echo("nothing to undo")
        return 0
    if dry_run:
        raise OutOfOrderError(f"{len(done)} steps to undo, none undone (--dry-run)")
    _may_begin("Undo this?", yes)
    _report(apply.undo(systemd=host.look().systemd))
    return 0


def _may_begin(question: str, yes: bool) -> None:
    if os.geteuid() != 0:
        raise XlmtError("only root can set this host up")
    if yes:
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise RefusedError("this has to be confirmed on a terminal; without one: --yes")
    if not typer.confirm(question, err=True):
        raise typer.Abort


def _report(outcomes: "Iterable[Outcome]") -> None:
    """Say what was done. Raises XlmtError when a step failed."""
    failed = []
    for outcome in outcomes:
        if outcome.error is None:
            typer.echo(f"done: {outcome.what}")
        else:
            failed.append(outcome)
            _log.error("%s: %s", outcome.what, outcome.error)
    if failed:
        raise XlmtError(f"steps that failed: {len(failed)}; the others are done, see above")
