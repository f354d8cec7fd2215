# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt create` does around the creation: console, viewer, and somebody to look after it."""

import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from xlmt import domain, monitor
from xlmt.errors import XlmtError
from xlmt.libxl import Context, exec_console, exec_vncviewer
from xlmt.xenstore import Store

_READY_TIMEOUT_S = 30.0
_CONSOLE_TIMEOUT_S = 10.0

_log = logging.getLogger("xlmt")


class Care(Enum):
    """Who looks after the domain until it is gone."""

    BACKGROUND = "a process of its own"
    FOREGROUND = "this process"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How `create` is to go about it; the names are those of xl's options."""

    paused: bool = False
    console: bool = False
    vncviewer: bool = False
    vncviewer_autopass: bool = False
    care: Care = Care.BACKGROUND


def start(config: Mapping[str, Any], wishes: Wishes) -> "Launched":
    """Create a domain and set it going, with somebody in the background to look after it.

    Raises XlmtError.
    """
    with ExitStack() as held:
        caretaker = held.enter_context(_Caretaker()) if wishes.care is Care.BACKGROUND else None
        store, ctx = held.enter_context(Store()), held.enter_context(Context())
        console = _Console(ctx) if wishes.console else None
        domid = domain.create(ctx, store, config, on_console=console.attach if console else None)
        with domain.destroyed_on_error(ctx, domid):
            if console:
                console.wait_until_attached()
            if caretaker:  # before the domain runs, and may die
                caretaker.take(domid, _log_file(ctx, domid))
            if not wishes.paused:
                ctx.unpause(domid)
        if wishes.vncviewer or wishes.vncviewer_autopass:
            _fork_viewer(ctx, domid, autopass=wishes.vncviewer_autopass)
    return Launched(domid, console, look_after_here=wishes.care is Care.FOREGROUND)


class Launched:
    """A domain that runs, and what this process still has to do with it."""

    def __init__(self, domid: int, console: "_Console | None", *, look_after_here: bool) -> None:
        self.domid = domid
        self._console = console
        self._look_after_here = look_after_here

    def stay(self) -> None:
        """Return when the console is left, and with care in the foreground when the domain is gone.

        Raises XlmtError.
        """
        if self._look_after_here:
            with Context() as ctx:
                guard = monitor.Guard(ctx, self.domid)
            monitor.watch_over(guard)
        if self._console:
            self._console.wait_until_left()


def _log_file(ctx: Context, domid: int) -> str:
    """Return where xl would log; a full disk is no reason to leave a domain alone."""
    try:
        path = ctx.log_file(f"xl-{ctx.name_of(domid)}")
        open(path, "ab").close()  # noqa: PTH123
    except (XlmtError, OSError) as e:
        _log.warning("domain %d is looked after without a log: %s", domid, e)
        return os.devnull
    return path


class _Caretaker:
    """The process that will look after the domain, started while the domain is being made.

    Python takes its time to start; the creation takes longer. A context manager: without a domain
    by its end, the process goes away.
    """

    def __enter__(self) -> Self:
        # -P: the current directory is no place to find modules in
        self._command = [sys.executable, "-P", "-m", "xlmt.monitor"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,  # until it has its log; what keeps it from starting is ours
            cwd="/",
            start_new_session=True,
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def take(self, domid: int, log_file: str) -> None:
        """Hand the domain over.

        Raises XlmtError when nobody takes it: if it ran, nobody would reboot it.
        """
        assert self._process.stdin
        assert self._process.stdout
        answers = self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{domid} {log_file}\n".encode())
            self._process.stdin.flush()
        if not (select.select([answers], [], [], _READY_TIMEOUT_S)[0] and answers.read(1)):
            self._process.kill()  # or there might be two, in the end
            raise XlmtError(
                f"nobody is there to look after domain {domid}: {' '.join(self._command)} did not "
                f"come up; see {log_file}, or create it with -e to do without"
            )


class _Console:
    """xenconsole in a child, started by libxl as soon as there is something to see."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._child: int | None = None
        self._attached, self._notify = os.pipe()

    def attach(self, domid: int) -> None:
        if self._child is not None:  # the bootloader's console is the guest's, too
            return
        self._child = os.fork()
        if self._child == 0:
            with _last_words():
                os.set_inheritable(self._notify, True)
                exec_console(self._ctx, domid, self._notify)

    def wait_until_attached(self) -> None:
        """Give xenconsole a moment: what the guest says before it is there is not seen."""
        os.close(self._notify)
        if not select.select([self._attached], [], [], _CONSOLE_TIMEOUT_S)[0]:
            _log.warning("the console did not come up; the domain goes on without it")
        os.close(self._attached)

    def wait_until_left(self) -> None:
        if self._child is not None:
            os.waitpid(self._child, 0)


@contextmanager
def _last_words() -> Iterator[None]:
    """End a forked child that became no other program: it must not live on as a second us."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    except XlmtError as e:
        sys.stderr.write(f"xlmt: {e}\n")
    finally:
        os._exit(1)


def _fork_viewer(ctx: Context, domid: int, *, autopass: bool) -> None:
    if os.fork() == 0:
        with _last_words():
            exec_vncviewer(ctx, domid, autopass=autopass)
