# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look after one domain until it is gone: `python -m xlmt.monitor [DOMID]`, a process per domain.

`xl shutdown` tears nothing down; the process that waits for the domain's death does. This is that
process for domains that xlmt created. It imports no command line: there is one per domain.

The story of one death: xenstored fires @releaseDomain for every domain that shuts down or goes
away. That wakes `_wait_for_death()`, which believes no event: it asks the hypervisor what
became of its domain. death.py decides what that calls for, as a list of steps; `Guard.carry_out()`
does them, with a libxl context of its own, since the old one may have lost its xenstored long ago.
When xenstored goes away in the middle, the steps that are left are done once it is back.
"""

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from xlmt import death, domain, xl
from xlmt.death import Decision, Step
from xlmt.errors import LibxlError, NoXenError, TimedOutError, XlmtError
from xlmt.libxl import Context
from xlmt.model import Domain, ShutdownReason
from xlmt.xenstore import Store

#: A look without an event, should one get lost with a xenstored that was restarted.
_LOOK_AGAIN_S = 60.0
#: xl waits as long: "domain re-creation fails sometimes" without it (xl_vmcontrol.c).
_BEFORE_RESTART_S = 2.0
_BACKOFF_S = (0.1, 10.0)
DUMP_DIR = "/var/lib/xen/dump"

_log = logging.getLogger("xlmt.monitor")


class Guard:
    """One domain, and what is to be done when it dies.

    `domid` changes when the guest reboots, and is None between its two lives. `pending` are the
    steps that a death still calls for: each is taken off when it is done, so that whatever
    interrupts them, they go on where they were.
    """

    def __init__(self, ctx: Context, domid: int) -> None:
        found = ctx.domain(domid)
        if found is None:
            raise XlmtError(f"there is no domain {domid} to look after")
        self.domid: int | None = domid
        self.pending: list[Step] = []
        self._uuid = found.uuid
        self._outdated = False
        self._config = json.loads(ctx.configuration(domid))

    @property
    def name(self) -> str:
        return str(self._config["c_info"].get("name", self.domid))

    def look(self, ctx: Context) -> Domain | None:
        """Return the domain's row, None when it is gone; a reused domid is another domain."""
        found = ctx.domain(self._alive())
        return found if found and found.uuid == self._uuid and not found.dying else None

    def decide(self, reason: ShutdownReason) -> Decision:
        """Find out what the death calls for; as xl, by the configuration of this life."""
        decision = death.decide(reason, self._config)
        _log.info(
            "domain %s (%s) has shut down: %s; action: %s",
            self.domid, self.name, reason, decision.action,
        )  # fmt: skip
        self.pending = list(decision.steps)
        self._outdated = decision.brings_back
        return decision

    def carry_out(self) -> None:
        """Do the pending steps, with a libxl context and a xenstored of their own.

        Raises NoXenError, TimedOutError: try again later. Raises XlmtError: it cannot be done.
        """
        with Context() as ctx, Store() as store:
            if self._outdated and self.domid is not None:
                self._config = _current_config(ctx, self.domid, self._config)
                self._outdated = False
            while self.pending:
                self._do(self.pending[0], ctx, store)
                del self.pending[0]

    def _do(self, step: Step, ctx: Context, store: Store) -> None:
        match step:
            case Step.DUMP_CORE:
                self._dump_core(ctx)
            case Step.DESTROY:
                self._destroy(ctx)
            case Step.RENAME:
                self._rename(ctx)
            case Step.CREATE:
                self._create(ctx, store)
            case Step.SOFT_RESET:
                self._soft_reset(ctx, store)

    def _alive(self) -> int:
        if self.domid is None:  # a soft reset that was interrupted destroys what it leaves
            raise XlmtError(f"{self.name} was destroyed when its soft reset was interrupted")
        return self.domid

    def _dump_core(self, ctx: Context) -> None:
        path = f"{DUMP_DIR}/{self.name}"
        _log.info("domain %d: dumping core to %s", self.domid, path)
        try:
            ctx.dump_core(self._alive(), path)
        except LibxlError as e:
            _log.error("%s", e)  # as xl: the guest is dead, but what comes next can still be done

    def _destroy(self, ctx: Context) -> None:
        try:
            ctx.destroy(self._alive())
        except LibxlError as e:
            _log.error("%s", e)  # as xl; what the kernel still holds, the hook has said
        self.domid = None

    def _rename(self, ctx: Context) -> None:
        suffix = death.preserved_suffix(datetime.now(UTC))
        _log.info("keeping domain %d as %s%s", self.domid, self.name, suffix)
        ctx.preserve(self._alive(), json.dumps(self._config, ensure_ascii=False), suffix)
        self.domid = None  # it is there, but no longer the one we look after

    def _create(self, ctx: Context, store: Store) -> None:
        time.sleep(_BEFORE_RESTART_S)
        domid = domain.create(ctx, store, _without_domid(self._config))
        with domain.destroyed_on_error(ctx, domid):
            self._take_up(ctx, domid)
        _log.info("%s is back as domain %d", self.name, domid)

    def _soft_reset(self, ctx: Context, store: Store) -> None:
        domid, self.domid = self._alive(), None
        with domain.destroyed_on_error(ctx, domid):
            ctx.soft_reset(domid, json.dumps(self._config, ensure_ascii=False))
            domain.ensure_node(store, domid)
            self._take_up(ctx, domid)

    def _take_up(self, ctx: Context, domid: int) -> None:
        ctx.unpause(domid)
        found = ctx.domain(domid)
        self.domid, self._uuid = domid, found.uuid if found else ""


def _without_domid(config: Mapping[str, Any]) -> dict[str, Any]:
    c_info = {key: value for key, value in config["c_info"].items() if key != "domid"}
    return {**config, "c_info": c_info}


def _current_config(ctx: Context, domid: int, last: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration for the next life: devices may have come and gone meanwhile.

    `xl config-update` leaves a whole new one in the userdata "xl"; only xl can read that.
    """
    try:
        if updated := ctx.userdata(domid, "xl"):
            with tempfile.NamedTemporaryFile(prefix="xlmt-", suffix=".cfg") as file:
                file.write(updated)
                file.flush()
                config = xl.parse(file.name)
            ctx.drop_userdata(domid, "xl")
            return config
        return dict(json.loads(ctx.configuration(domid)))
    except (XlmtError, OSError, ValueError) as e:
        _log.warning("domain %d: going on with its last known configuration: %s", domid, e)
        return last


def watch_over(guard: Guard) -> None:
    """Look after the guard's domain until nothing is left to do.

    Outlives restarts of xenstored. Raises XlmtError when the domain could not be brought back.
    """
    pause = _BACKOFF_S[0]
    while True:
        try:
            if not guard.pending:
                reason = _wait_for_death(guard)
                if reason is None:
                    _log.info("domain %s (%s) has been destroyed", guard.domid, guard.name)
                    return
                decision = guard.decide(reason)
            guard.carry_out()
            pause = _BACKOFF_S[0]
            if not decision.brings_back:
                return
        except (NoXenError, TimedOutError) as e:
            _log.warning("%s; trying again", e)
            time.sleep(pause)
            pause = min(pause * 2, _BACKOFF_S[1])


def _wait_for_death(guard: Guard) -> ShutdownReason | None:
    """Return why the domain shut down, None when it is gone."""
    with Store() as store, Context() as ctx:
        store.watch("@releaseDomain", "death")
        while found := guard.look(ctx):
            if found.shutdown and death.is_death(found.shutdown):
                return found.shutdown
            store.next_event(_LOOK_AGAIN_S)
    return None


def _tell_ready(fd: int | None) -> None:
    if fd is not None:
        with contextlib.suppress(BrokenPipeError):  # whoever started us did not wait
            os.write(fd, b"!")
        os.close(fd)


def _take_over() -> tuple[int | None, int | None]:
    """Wait on stdin for a domain to look after, and turn to its log file.

    Returns the domid, None when there is to be no domain, and where to say that we are ready.
    """
    domid, _, log_file = sys.stdin.readline().strip().partition(" ")
    if not domid:
        return None, None
    ready_fd = os.dup(sys.stdout.fileno())
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for new, old in ((null, 0), (log, 1), (log, 2)):
        os.dup2(new, old)
    return int(domid), ready_fd


def main(argv: list[str]) -> int:
    """Look after the domid in `argv`, or the one that comes on stdin; return the exit status."""
    try:
        # opened before there is a domain: time is short once it runs
        with Context() as ctx:
            domid, ready_fd = (int(argv[0]), None) if argv else _take_over()
            if domid is None:
                return 0
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            logging.basicConfig(
                stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s"
            )
            guard = Guard(ctx, domid)
        _log.info("looking after domain %d (%s) [pid %d]", domid, guard.name, os.getpid())
        _tell_ready(ready_fd)  # from here on nothing but the end of the domain ends us
        watch_over(guard)
    except XlmtError as e:
        _log.error("%s; nobody looks after the domain any more", e)
        return e.exit_status
    except Exception:
        _log.exception("nobody looks after the domain any more: please report this")
        return XlmtError.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
