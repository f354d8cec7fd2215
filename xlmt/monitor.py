# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look after one domain until it is gone: `python -m xlmt.monitor [DOMID]`, a process per domain.

`xl shutdown` tears nothing down; the process that waits for the domain's death does. This is that
process for domains that xlmt created. It imports no command line: there is one per domain.

The story of one death: xenstored fires @releaseDomain for every domain that shuts down or goes
away. That wakes `Guard.wait_for_death()`, which believes no event: it asks the hypervisor what
became of its domain. death.py decides what that calls for, and `Guard.after_death()` does it with
a libxl context of its own, since the old one may have lost its xenstored long ago.
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
from xlmt.death import Next
from xlmt.errors import LibxlError, NoXenError, XlmtError
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

    `domid` changes when the guest reboots; None when there is nothing left to look after.
    """

    def __init__(self, ctx: Context, domid: int) -> None:
        found = ctx.domain(domid)
        if found is None:
            raise XlmtError(f"there is no domain {domid} to look after")
        self.domid: int | None = domid
        self._uuid = found.uuid
        self._config = json.loads(ctx.configuration(domid))

    @property
    def name(self) -> str:
        return str(self._config["c_info"].get("name", self.domid))

    def look(self, ctx: Context) -> Domain | None:
        """Return the domain's row, None when it is gone; a reused domid is another domain."""
        assert self.domid is not None
        found = ctx.domain(self.domid)
        return found if found and found.uuid == self._uuid and not found.dying else None

    def after_death(self, reason: ShutdownReason) -> bool:
        """Do what the configuration wants for this reason; return whether to go on looking."""
        with Context() as ctx, Store() as store:
            assert self.domid is not None
            self._config = _current_config(ctx, self.domid, self._config)
            decision = death.decide(reason, self._config)
            _log.info(
                "domain %d (%s) has shut down: %s; now: %s",
                self.domid,
                self.name,
                reason,
                decision.next,
            )
            if decision.dump_core:
                self._dump_core(ctx)
            match decision.next:
                case Next.PRESERVE:
                    return False
                case Next.DESTROY:
                    self._destroy(ctx, store)
                    return False
                case Next.SOFT_RESET:
                    self._soft_reset(ctx, store)
                case Next.RENAME_RESTART:
                    self._rename(ctx)
                    self._restart(ctx, store)
                case Next.RESTART:
                    self._destroy(ctx, store)
                    self._restart(ctx, store)
            return True

    def _dump_core(self, ctx: Context) -> None:
        assert self.domid is not None
        path = f"{DUMP_DIR}/{self.name}"
        _log.info("domain %d: dumping core to %s", self.domid, path)
        try:
            ctx.dump_core(self.domid, path)
        except LibxlError as e:
            _log.error("%s", e)  # as xl: the guest is dead, but what comes next can still be done

    def _destroy(self, ctx: Context, store: Store) -> None:
        assert self.domid is not None
        left = domain.destroy(ctx, store, self.domid)
        if left.error:
            _log.error("%s", left.error)
        self.domid = None

    def _rename(self, ctx: Context) -> None:
        assert self.domid is not None
        suffix = death.preserved_suffix(datetime.now(UTC))
        _log.info("keeping domain %d as %s%s", self.domid, self.name, suffix)
        ctx.preserve(self.domid, json.dumps(self._config), suffix)

    def _restart(self, ctx: Context, store: Store) -> None:
        time.sleep(_BEFORE_RESTART_S)
        self.domid = domain.create(ctx, store, _without_domid(self._config))
        _log.info("%s is back as domain %d", self.name, self.domid)
        self._take_up(ctx)

    def _soft_reset(self, ctx: Context, store: Store) -> None:
        assert self.domid is not None
        ctx.soft_reset(self.domid, json.dumps(self._config))
        domain.ensure_node(store, self.domid)
        self._take_up(ctx)

    def _take_up(self, ctx: Context) -> None:
        assert self.domid is not None
        ctx.unpause(self.domid)
        found = ctx.domain(self.domid)
        self._uuid = found.uuid if found else ""


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
    except XlmtError as e:
        _log.warning("domain %d: going on with its last known configuration: %s", domid, e)
        return last


def watch_over(guard: Guard) -> None:
    """Look after the guard's domain until nothing is left to do.

    Outlives restarts of xenstored. Raises XlmtError when the domain could not be brought back.
    """
    pause = _BACKOFF_S[0]
    while True:
        try:
            with Store() as store, Context() as ctx:
                store.watch("@releaseDomain", "death")
                pause = _BACKOFF_S[0]
                shutdown = _wait_for_death(guard, ctx, store)
            if shutdown is None:
                _log.info("domain %s (%s) has been destroyed", guard.domid, guard.name)
                return
            if not guard.after_death(shutdown):
                return
        except NoXenError as e:
            if guard.domid is None:  # destroyed, and not yet back: nothing left to come back to
                raise
            _log.warning("%s; trying again", e)
            time.sleep(pause)
            pause = min(pause * 2, _BACKOFF_S[1])


def _wait_for_death(guard: Guard, ctx: Context, store: Store) -> ShutdownReason | None:
    """Return why the domain shut down, None when it is gone."""
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
            logging.basicConfig(
                stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s"
            )
            guard = Guard(ctx, domid)
        _log.info("looking after domain %d (%s) [pid %d]", domid, guard.name, os.getpid())
        _tell_ready(ready_fd)  # from here on nothing but the end of the domain ends us
        watch_over(guard)
    except XlmtError as e:
        _log.error("%s", e)
        return e.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
