# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt kernel status`, `load`, `throttle` and `unload`: the other half of the bargain.

Imports of what does the work are inside the commands, as in domains.py. None of them needs libxl.
"""

import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from xlmt.cli.options import App, finite
from xlmt.errors import ExposedError, OutOfOrderError, XlmtError

if TYPE_CHECKING:
    from xlmt.kernel.diagnose import Verdict

_log = logging.getLogger("xlmt")

kernel = App(help="Inspect, load and unload the kernel half, the module xen_mtwatch.")


class StatusOutput(StrEnum):
    TEXT = "text"
    JSON = "json"


def add_to(app: typer.Typer) -> None:
    app.add_typer(kernel, name="kernel")


@kernel.command()
def status(
    output: Annotated[
        StatusOutput, typer.Option("-o", "--output", help="For people or programs.")
    ] = StatusOutput.TEXT,
) -> int:
    """Say whether xenwatch or a guest's thread is stuck, in what, and whom that affects."""
    from xlmt.kernel import diagnose, manage, render

    view = manage.look()
    if output is StatusOutput.JSON:
        typer.echo(render.status_json(view))
    else:
        typer.echo(render.status_text(view))
        for problem in view.problems:
            _log.warning("incomplete: %s", problem)
    return exit_status(diagnose.judge(view))


def exit_status(verdict: "Verdict") -> int:
    """Return what a script sees of a verdict: by its value, as who asks has not imported it yet."""
    return {
        "healthy": 0,
        "exposed": ExposedError.exit_status,
        "unknown": XlmtError.exit_status,
    }.get(verdict, OutOfOrderError.exit_status)


@kernel.command()
def load(
    parameters: Annotated[
        list[str] | None,
        typer.Argument(..., metavar="[KEY=VALUE]...", help="Parameters, see xen_mtwatch(4)."),
    ] = None,
) -> int:
    """Load the module; or set the parameters of one that is loaded."""
    from xlmt.kernel import manage, modprobe, summary

    wanted = modprobe.settings(parameters or [])
    loaded = manage.load(wanted)
    if loaded.was_there:
        now = [f"{key}={value}" for key, value in wanted.items()]
        typer.echo("xen_mtwatch was loaded already" + (f"; now: {' '.join(now)}" if now else ""))
    typer.echo(summary.loaded_text(loaded.view))
    return 0


@kernel.command()
def throttle() -> int:
    """Limit the CPU of netback threads that spin while a guest is stuck."""
    from xlmt.kernel import manage

    typer.echo(manage.throttle())
    return 0


@kernel.command()
def unload(
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0,
            callback=finite,
            help="Seconds to wait for the threads to end.",
        ),
    ] = 30.0,
) -> int:
    """Unload the module; xenwatch handles all guests again."""
    from xlmt.kernel import manage

    done = manage.unload(timeout)
    risk = "xenwatch handles all guests again, and one stuck guest blocks them all"
    typer.echo(f"xen_mtwatch is unloaded: {risk}" if done else "xen_mtwatch was not loaded")
    return 0
