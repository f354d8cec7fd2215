# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt supervise`.

Imports of what does the work are inside the command, as in domains.py.
"""

import logging
from typing import Annotated

import typer

from xlmt.cli.options import finite
from xlmt.supervise.restart_limit import LIMIT_SETTING, WINDOW_SETTING, RestartLimit
from xlmt.supervise.settings import RESCUE_SETTING

_USUAL = RestartLimit()


def add_to(app: typer.Typer) -> None:
    app.command()(supervise)


def supervise(
    replace: Annotated[
        bool, typer.Option("--replace", help="End another supervisor first.")
    ] = False,
    restart_limit: Annotated[
        int,
        typer.Option(
            "--restart-limit",
            envvar=LIMIT_SETTING,
            min=0,
            help="Do not restart a guest after so many early deaths in a row; 0: no limit.",
        ),
    ] = _USUAL.deaths,
    restart_window: Annotated[
        float,
        typer.Option(
            "--restart-window",
            envvar=WINDOW_SETTING,
            min=0,
            callback=finite,
            help="A death is early within so many seconds of the guest's start.",
        ),
    ] = _USUAL.within_s,
    rescue: Annotated[
        bool,
        typer.Option(
            "--rescue",
            envvar=RESCUE_SETTING,
            help="Load the module, once, when xenwatch has been stuck for a minute.",
        ),
    ] = False,
) -> int:
    """Run the supervisor: keep all nodes right, restart guests; until it is ended."""
    from xlmt.supervise import daemon

    level = min(logging.INFO, logging.getLogger().level or logging.INFO)
    quiet = logging.getLogger().level > logging.WARNING
    daemon.supervise(
        RestartLimit(restart_limit, restart_window),
        rescue=rescue,
        replace=replace,
        level=logging.WARNING if quiet else level,
    )
    return 0
