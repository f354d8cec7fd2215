# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt`: the entry point, the options before the command, and the one place that exits."""

import gc
import io
import logging
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Annotated, NoReturn

import typer

from xlmt import __version__
from xlmt.cli import daemon, doctor, domains, guard, hook, kernel, nodes, programs, release, setup
from xlmt.cli.options import App
from xlmt.errors import XlmtError
from xlmt.logs import SafeFormatter
from xlmt.text import printable

_INTERRUPTED = 128 + signal.SIGINT
_UNREAD = 128 + signal.SIGPIPE

app = App(
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
doctor.add_to(app)
release.add_to(app)
setup.add_to(app)
guard.add_to(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xlmt {__version__}")
        raise typer.Exit


@app.callback()
def _before_any_command(
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            show_default=False,
            help="Say more; twice: libxl's debug.",
        ),
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say only what failed.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    level = logging.ERROR if quiet else logging.WARNING - 10 * min(verbose, 2)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("xlmt: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def main() -> NoReturn:
    """Run the command line and exit with its status (see xlmt(8), EXIT STATUS)."""
    _speak_utf8()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1)
        signal.signal(signal.SIGHUP, _terminate)
    _open_what_is_closed()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stderr = _Stderr(open(2, "wb", buffering=0, closefd=False))  # noqa: SIM115
    status = _run()
    gc.freeze()  # what there is goes with the process: no search through it at its end
    lost = _write_out()
    if lost and not status:
        status = _failed(lost)
    sys.exit(status)


def _speak_utf8() -> None:
    """Begin anew where the locale has another encoding: all that we talk to has none but this.

    In such a locale Python has taken our arguments for other characters than they are.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    with suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def _run() -> int:
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if status == _INTERRUPTED:  # Typer's own way to take a KeyboardInterrupt
            raise KeyboardInterrupt
    except XlmtError as e:
        return _complain(str(e), e.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", _INTERRUPTED)
    except SystemExit:  # Typer's own way to take a pipe that nobody reads
        return _UNREAD
    except OSError as e:
        return _failed(e)
    except Exception as e:
        # Typer's own usage errors; its click is not ours to import
        if not hasattr(e, "format_message"):
            raise
        return _complain(f"{e.format_message()} (see: xlmt --help)", 2)
    return int(status or 0)


def _write_out() -> OSError | None:
    """Write what is still buffered. Where that fails, Python itself would exit with 120."""
    try:
        sys.stdout.flush()
    except OSError as e:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for when Python tries again
        return e
    return None


def _failed(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):  # somebody piped us into head(1)
        return _UNREAD
    what = f"{error.filename}: " if error.filename else ""
    return _complain(f"{what}{error.strerror or error}", XlmtError.exit_status)


class _Stderr(io.TextIOWrapper):
    """Standard error, where it is no failure of the work that nobody takes what is said of it."""

    def __init__(self, raw: io.FileIO) -> None:
        # Nothing is buffered, so that what could not be written is not tried again at the end.
        super().__init__(raw, errors="backslashreplace", line_buffering=True, write_through=True)

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)


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
    sys.stderr.write(f"xlmt: {printable(' '.join(message.split()), 4000)}\n")
    return status


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
