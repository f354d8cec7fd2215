# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt create` does around the creation: console, viewer, supervisor."""

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from xlmt.domains import creations, lifecycle, managed
from xlmt.errors import XlmtError
from xlmt.libxl import Context, exec_console, exec_vncviewer
from xlmt.supervise import foreground, instance, surroundings
from xlmt.supervise.restart_limit import RestartLimit
from xlmt.xenstore import Store

#: Of a supervisor that a creation has started.
LOG = "/var/log/xen/xlmt-supervise.log"
_READY_TIMEOUT_S = 30.0
_START_AGAIN_S = 6.0
_CONSOLE_TIMEOUT_S = 10.0

_log = logging.getLogger("xlmt")


class ManagedBy(Enum):
    """Who restarts the domain, and clears up after it, until it is gone."""

    SUPERVISOR = "the host's supervisor"
    FOREGROUND = "this process"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How `create` is to go about it; the names are those of xl's options."""

    paused: bool = False
    console: bool = False
    vncviewer: bool = False
    vncviewer_autopass: bool = False
    managed_by: ManagedBy = ManagedBy.SUPERVISOR


def start(config: Mapping[str, Any], options: Options) -> "Launched":
    """Create a domain and set it going, managed by the supervisor, as a rule.

    Raises XlmtError.
    """
    surroundings.require_descriptors()
    supervised = options.managed_by is ManagedBy.SUPERVISOR
    record = managed.new_record(config) if supervised else None
    name = str(config["c_info"].get("name") or "")
    with Store() as store, Context() as ctx, creations.claim(name) as claim:
        lifecycle.clear_up(ctx, store, claim)
        started = None
        if supervised and not instance.is_there():  # it takes its time to come up; so does this
            started = instance.start(_log_file())
        console = _Console(ctx) if options.console else None
        attach = console.attach if console else None
        with lifecycle.forgotten_when_gone(ctx, claim):
            domid = lifecycle.create(
                ctx, store, config, record=record, on_console=attach, claim=claim
            )
            with lifecycle.destroyed_on_error(ctx, domid):
                if console:
                    console.wait_until_attached()
                if supervised:  # before the domain runs, and may die
                    _hand_over(domid, started)
                if not options.paused:
                    ctx.unpause(domid)
        claim.done()
        if options.vncviewer or options.vncviewer_autopass:
            _fork_viewer(ctx, domid, autopass=options.vncviewer_autopass)
    return Launched(domid, console, in_foreground=options.managed_by is ManagedBy.FOREGROUND)


def _hand_over(domid: int, started: subprocess.Popen[bytes] | None) -> None:
    """Return when the supervisor has seen the domain; the one that was there may have ended.

    Raises XlmtError when nobody has: if the domain ran, nobody would reboot it.
    """
    until = time.monotonic() + _READY_TIMEOUT_S
    while True:
        try:
            return instance.ask_until(_START_AGAIN_S)
        except XlmtError as e:
            if time.monotonic() >= until:
                raise XlmtError(
                    f"no supervisor is running for domain {domid}: {e}; try: xlmt supervise; to "
                    "create it without: xlmt create -e"
                ) from None
        if not instance.is_there() and (started is None or started.poll() is not None):
            started = instance.start(_log_file())


class Launched:
    """A domain that runs, and what this process still has to do with it."""

    def __init__(self, domid: int, console: "_Console | None", *, in_foreground: bool) -> None:
        self.domid = domid
        self._console = console
        self._in_foreground = in_foreground

    def stay(self, restart_limit: RestartLimit) -> None:
        """Return when the console is left; supervised in the foreground, when the domain is gone.

        Raises XlmtError.
        """
        if self._in_foreground:
            foreground.supervise(self.domid, restart_limit)
        if self._console:
            self._console.wait_until_left()


def _log_file() -> str:
    """Return where a new supervisor is to log; a full disk is no reason to have none."""
    try:
        open(LOG, "ab").close()  # noqa: PTH123
    except OSError as e:
        _log.warning("cannot open the supervisor's log: %s", e)
        return os.devnull
    return LOG


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
            _log.warning("cannot attach to the console; the domain runs without it")
        os.close(self._attached)

    def wait_until_left(self) -> None:
        if self._child is not None:
            os.waitpid(self._child, 0)


@contextmanager
def _last_words() -> Iterator[None]:
    """End a forked child that became no other program: it must not live on as a second us."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
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
