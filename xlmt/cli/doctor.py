# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt doctor`: why this host is stuck, or what a call trace of another means.

Imports of what does the work are inside the command, as in domains.py. None of it needs libxl.
"""

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xlmt.cli.kernel import exit_status
from xlmt.errors import NoXenError, OutOfOrderError, UsageError

_log = logging.getLogger("xlmt")

#: A day of a busy kernel's log is less.
_MOST_BYTES = 64 << 20
_NAGIOS_UNKNOWN = 3


class DoctorOutput(StrEnum):
    TEXT = "text"
    JSON = "json"
    NAGIOS = "nagios"


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    stack: Annotated[
        str | None,
        typer.Option("--stack", metavar="FILE", help="Explain the call traces in it (-: stdin)."),
    ] = None,
    only_wrong: Annotated[
        bool, typer.Option("-x", "--only-wrong", help="Leave out what is well.")
    ] = False,
    output: Annotated[
        DoctorOutput, typer.Option("-o", "--output", help="For people, programs or Nagios.")
    ] = DoctorOutput.TEXT,
) -> int:
    """Say why this host is stuck, because of which guest, and what to type next."""
    if stack is not None:
        return _explain(stack, only_wrong, output)
    from xlmt.doctor import host, judge, render

    try:
        seen = host.look()
    except NoXenError as e:
        if output is not DoctorOutput.NAGIOS:
            raise
        typer.echo(f"XLMT UNKNOWN - {e}")
        return _NAGIOS_UNKNOWN
    if output is DoctorOutput.NAGIOS:
        status, line = render.nagios(seen)
        typer.echo(line)
        return status
    if output is DoctorOutput.JSON:
        typer.echo(render.host_json(seen, only_wrong=only_wrong))
    elif text := render.host_text(seen, only_wrong=only_wrong):
        typer.echo(text)
    for problem in seen.view.problems:
        _log.warning("incomplete: %s", problem)
    if judge.troubles(seen):
        return OutOfOrderError.exit_status
    return exit_status(judge.verdict(seen))


def _explain(file: str, only_wrong: bool, output: DoctorOutput) -> int:
    from xlmt.doctor import findings, render, traces

    if output is DoctorOutput.NAGIOS:
        raise UsageError("-o nagios is of this host: it does not go with --stack")
    read = traces.read(_contents(file))
    if not read:
        raise UsageError(
            f"{file}: no call trace in it; wanted is what /proc/PID/stack or dmesg show"
        )
    found = findings.of_traces(read)
    wrong = [finding for finding in found if finding.is_wrong]
    shown = wrong if only_wrong else found
    if output is DoctorOutput.JSON:
        typer.echo(render.stack_json(shown))
    elif shown:
        typer.echo(render.stack_text(shown))
    return OutOfOrderError.exit_status if wrong else 0


def _contents(file: str) -> str:
    if file != "-":
        with Path(file).open("rb") as source:
            return source.read(_MOST_BYTES).decode(errors="replace")
    return sys.stdin.buffer.read(_MOST_BYTES).decode(errors="replace") if sys.stdin else ""
