# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt`: the entry point, the options before the command, and the one place that exits."""

import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from xlmt import __version__
from xlmt.cli import daemon, domains, hook, kernel, nodes, programs
from xlmt.errors import XlmtError

_INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    help="Keep one stalled guest from taking down the Xen host: xenwatch multithreading.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
domains.add_to(app)
nodes.add_to(app)
daemon.add_to(app)
programs.add_to(app)
hook.add_to(app)
kernel.add_to(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xlmt {__version__}")
        raise typer.Exit


@app.callback()
def _before_any_command(
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say more; twice: libxl's debug.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say only what failed.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    level = logging.ERROR if quiet else logging.WARNING - 10 * min(verbose, 2)
    logging.basicConfig(level=level, format="xlmt: %(message)s", stream=sys.stderr)


def main() -> NoReturn:
    """Run the command line and exit with its status (see xlmt(8), EXIT STATUS)."""
    signal.signal(signal.SIGTERM, _terminate)
    _open_what_is_closed()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if status == _INTERRUPTED:  # Typer's own way to take a KeyboardInterrupt
            raise KeyboardInterrupt
    except XlmtError as e:
        status = _complain(str(e), e.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        status = _complain("interrupted", _INTERRUPTED)
    except BrokenPipeError:  # somebody piped us into head(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as e:
        status = _complain(str(e), XlmtError.exit_status)
    except Exception as e:
        # Typer's own usage errors; its click is not ours to import
        if not hasattr(e, "format_message"):
            raise
        status = _complain(f"{e.format_message()} (see: xlmt --help)", 2)
    sys.exit(status or 0)


def _open_what_is_closed() -> None:
    """Give `xlmt … 2>&-` a standard error: whatever is opened next would become it."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            while (null := os.open(os.devnull, os.O_WRONLY)) < fd:
                pass
            if null != fd:
                os.dup2(null, fd)
            setattr(sys, name, os.fdopen(fd, "w"))


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"xlmt: {' '.join(message.split())}\n")
    return status


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
