# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt create` does around the creation: console, viewer, and somebody to look after it."""

import logging
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

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
    with Store() as store, Context() as ctx:
        console = _Console(ctx) if wishes.console else None
        domid = domain.create(ctx, store, config, on_console=console.attach if console else None)
        if console:
            console.wait_until_attached()
        if not wishes.paused:
            ctx.unpause(domid)
        if wishes.vncviewer or wishes.vncviewer_autopass:
            _fork_viewer(ctx, domid, autopass=wishes.vncviewer_autopass)
        log_file = _log_file(ctx, domid)
    if wishes.care is Care.BACKGROUND:
        look_after(domid, log_file)
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


def look_after(domid: int, log_file: str) -> None:
    """Start the background process that waits for the domain's death.

    Raises XlmtError when it does not come up: then the domain runs, but nobody would reboot it.
    """
    ready, write_end = os.pipe()
    # -P: the current directory is no place to find modules in
    command = [sys.executable, "-P", "-m", "xlmt.monitor", str(domid), str(write_end)]
    with open(log_file, "ab") as log:  # noqa: PTH123
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=[write_end],
            start_new_session=True,
        )
    os.close(write_end)
    try:
        up = select.select([ready], [], [], _READY_TIMEOUT_S)[0] and os.read(ready, 16)
    finally:
        os.close(ready)
    if not up:
        raise XlmtError(
            f"domain {domid} runs, but nobody looks after it, so its death would go unnoticed; "
            f"see {log_file}, then: {' '.join(command[:-1])} &"
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
