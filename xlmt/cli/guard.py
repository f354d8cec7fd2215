# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt guard`, `guard on` and `guard off`: guests whose packets are copied, so that none is lent.

Imports of what does the work are inside the commands, as in domains.py. None of them needs libxl.
"""

import logging
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from xlmt.cli.options import App
from xlmt.errors import NoSuchDomainError, OutOfOrderError, XlmtError

if TYPE_CHECKING:
    from xlmt.guard.model import View

_log = logging.getLogger("xlmt")
#: The supervisor may be in the middle of a look at a large host.
_ANSWER_S = 30.0

guard = App(help="Keep netback from lending guests' packets.", invoke_without_command=True)


class GuardOutput(StrEnum):
    TEXT = "text"
    JSON = "json"


_Wanted = Annotated[
    list[str] | None, typer.Argument(..., metavar="[DOMAIN]...", help="Names or domids; none: all.")
]


def add_to(app: typer.Typer) -> None:
    app.add_typer(guard, name="guard")


@guard.callback()
def show(
    context: typer.Context,
    output: Annotated[
        GuardOutput, typer.Option("-o", "--output", help="For people or programs.")
    ] = GuardOutput.TEXT,
) -> int:
    """Show which guests are guarded: their packets are copied, so that none can stall xenwatch."""
    if context.invoked_subcommand is not None:
        return 0
    from xlmt.guard import render

    view = _look()
    typer.echo(render.document(view) if output is GuardOutput.JSON else render.text(view))
    return _judged(view)


@guard.command()
def on(wanted: _Wanted = None) -> int:
    """Guard these guests; without any, all guests there are and will be."""
    return _switch(wanted or (), on=True)


@guard.command()
def off(wanted: _Wanted = None) -> int:
    """No longer guard these guests; without any, none at all."""
    return _switch(wanted or (), on=False)


def _switch(wanted: Sequence[str], *, on: bool) -> int:
    from xlmt.guard import kept
    from xlmt.guard.settings import headline
    from xlmt.supervise import instance, presence
    from xlmt.text import printable

    names, absent = _names(wanted)
    settings = kept.switch(names, on=on)
    typer.echo(headline(settings))
    for name in absent:
        _log.warning("no guest %s is running: this is for when it starts", printable(name))
    if presence.pid() is not None:
        try:
            instance.ask(_ANSWER_S)
        except XlmtError as e:
            _log.warning("%s; the supervisor takes the setting up at its next look", e)
    return _judged(_look())


def _names(wanted: Sequence[str]) -> tuple[set[str], list[str]]:
    """Return the guests' names, as a domid is another guest's one day; and those that do not run.

    Raises XlmtError.
    """
    if not wanted:
        return set(), []
    from xlmt import paths
    from xlmt.kernel import manage

    names, absent = set(), []
    running = manage.all_names()
    for text in wanted:
        domid = paths.parse_domid(text)
        if domid is not None and domid not in running:
            raise NoSuchDomainError(f"domain {domid} has no name; see: xlmt list")
        if domid is None and text not in running.values():
            absent.append(text)
        names.add(text if domid is None else running[domid])
    return names, absent


def _look() -> "View":
    from xlmt.guard.look import look
    from xlmt.supervise import presence

    return look(presence.pid())


def _judged(view: "View") -> int:
    from xlmt.guard import render

    if problem := render.problem(view):
        raise OutOfOrderError(problem)
    return 0
