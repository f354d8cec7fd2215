# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt release`: end a stall by what doctor says, the mildest first.

Imports of what does the work are inside the command, as in domains.py. None of it needs libxl.
"""

import logging
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from xlmt.errors import NoSuchDomainError, OutOfOrderError, RefusedError

if TYPE_CHECKING:
    from xlmt.doctor.actions import Level
    from xlmt.doctor.findings import Finding
    from xlmt.doctor.model import Host
    from xlmt.doctor.release import Outcome, Step

_log = logging.getLogger("xlmt")


class Most(StrEnum):
    """How much harm is accepted: see xlmt-release(8)."""

    NOTHING = "nothing"
    PACKETS = "packets"
    DEVICE = "device"
    DATA = "data"


def add_to(app: typer.Typer) -> None:
    app.command()(release)


def release(
    domain: Annotated[
        str | None,
        typer.Argument(..., metavar="[DOMAIN]", help="Only what is stuck because of it."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("-n", "--dry-run", help="Say what would be done; do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before each step.")] = False,
    most: Annotated[
        Most, typer.Option("--most", metavar="LEVEL", help="nothing, packets, device or data.")
    ] = Most.PACKETS,
) -> int:
    """End a stall: do what doctor says, the mildest first, and look whether it helped."""
    from xlmt.doctor import host, release
    from xlmt.doctor.actions import Level

    seen = host.look(checked=False)
    domid = _domid(domain, seen) if domain is not None else None
    level = Level[most.name]
    stuck = release.stuck(seen, domid)
    for finding in stuck:
        _say(finding, seen, level)
    if not stuck:
        return _nothing(seen, domain)
    if dry_run:
        raise OutOfOrderError(f"{_tasks(stuck)} stuck, nothing done (--dry-run)")
    if not release.steps(seen, domid, level):
        raise OutOfOrderError(f"{_tasks(stuck)} stuck, and there is no step of this level")
    if not yes and not sys.stdin.isatty():
        raise RefusedError("each step has to be confirmed on a terminal; without one: --yes")
    last = release.release(domid, level, lambda step: yes or _confirmed(step), _told)
    if still := release.stuck(last, domid):
        raise OutOfOrderError(f"{_tasks(still)} still stuck; to see why: xlmt doctor")
    typer.echo("nothing is stuck any more")
    return 0


def _domid(domain: str, seen: "Host") -> int:
    """Return the domid that is meant. A guest that is destroyed may have no name any more."""
    from xlmt import paths

    if (domid := paths.parse_domid(domain)) is not None:
        return domid
    for domid, name in seen.view.names.items():
        if name == domain:
            return domid
    raise NoSuchDomainError(
        f"{domain}: no guest of this name has anything stuck; one that is destroyed has no name "
        "any more, but its domid, which xlmt doctor tells"
    )


def _say(finding: "Finding", seen: "Host", most: "Level") -> None:
    """Say what is stuck, and each step with what it costs."""
    from xlmt.doctor import render
    from xlmt.doctor.actions import Level

    typer.echo(render.cause_text(finding, seen.view.names))
    for action in finding.actions:
        if action.level is Level.SAID:
            prefix = "for you to do"
        elif action.level > most:
            prefix = f"only with --most {action.level.word}"
        else:
            prefix = "step"
        typer.echo(f"  {prefix}: {render.action_text(action)}")


def _confirmed(step: "Step") -> bool:
    from xlmt.doctor import render

    return typer.confirm(f"{render.action_text(step.action)}\nDo this?", err=True)


def _nothing(seen: "Host", domain: str | None) -> int:
    """Say that nothing is stuck. Raises OutOfOrderError if something else is wrong, or unknown."""
    from xlmt.doctor import judge
    from xlmt.kernel.diagnose import Verdict

    for problem in seen.view.problems:
        _log.warning("incomplete: %s", problem)
    if judge.verdict(seen) not in {Verdict.HEALTHY, Verdict.EXPOSED, Verdict.CONTAINED}:
        raise OutOfOrderError(f"nothing that could be released: {judge.headline(seen)}")
    typer.echo(f"nothing is stuck because of {domain}" if domain else "nothing is stuck")
    return 0


def _told(step: "Step", outcome: "Outcome") -> None:
    from xlmt.text import printable

    typed, task = printable(step.action.typed, 400), printable(step.finding.trace.task)
    if outcome.error:
        _log.warning("failed: %s", outcome.error)
    else:
        typer.echo(f"done: {typed}: {task} {'goes on' if outcome.went_on else 'is still stuck'}")


def _tasks(stuck: "Sequence[Finding]") -> str:
    from xlmt.text import printable

    names = [printable(finding.trace.task) for finding in stuck]
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"
