# SPDX-License-Identifier: LGPL-2.1-or-later
"""Do what a domain's death calls for, a step at a time.

`xl shutdown` tears nothing down; whoever waits for the domain's death does. The story of one:

1. Somebody (supervisor.py, or `xlmt create -F`) sees that a domain has shut down.
2. `open_case` finds the configuration and asks death.py what it calls for: a list of steps.
3. `Undertaker.carry_out` does them and has the case written down after each. So whatever
   interrupts them, they go on where they were, in the same process or in another one.

Every step can be done again after it was interrupted anywhere in its middle. For the creation of
the guest's next life that takes some care, since whatever a killed process leaves there has no
owner: see `_successor`.
"""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from xlmt import paths
from xlmt.domains import lifecycle as domain
from xlmt.domains import managed, xl
from xlmt.domains.managed import Mark
from xlmt.errors import LibxlError, NoXenError, TimedOutError, XlmtError
from xlmt.libxl import Context
from xlmt.model import Domain, ShutdownReason
from xlmt.supervise import policy as death
from xlmt.supervise.policy import Brake, Case, Step
from xlmt.xenstore import Store

#: xl waits as long: "domain re-creation fails sometimes" without it (xl_vmcontrol.c).
_BEFORE_RESTART_S = 2.0
#: libxl writes the home right after the hypervisor has made the domain, unless xenstored is busy.
_TO_GET_A_HOME_S = 15.0
DUMP_DIR = "/var/lib/xen/dump"
#: In a domain's home: the domid of the life before, if it was brought back by us.
_RESTART_OF = "xlmt-restart-of"
_LEFT_DOWN = (
    "died %d times in a row within %g s of its start: it is not started again; look at its console "
    "in /var/log/xen/console, and once you know why: xlmt create"
)

_log = logging.getLogger("xlmt.supervise")


def has_cds(found: Domain) -> bool:
    """Say whether the domain is marked, and has a drive for CDs. Raises OSError."""
    mark = managed.mark_of(found)
    return mark is not None and any(d.get("is_cdrom") for d in mark.config.get("disks") or ())


# --- the case ------------------------------------------------------------------------------


def open_case(ctx: Context, store: Store, found: Domain, mark: Mark, brake: Brake) -> Case:
    """Find out what the death of a domain calls for, by the configuration of this life, as xl does.

    Raises NoXenError, TimedOutError; XlmtError when its configuration is not to be had.
    """
    reason = found.shutdown or ShutdownReason.UNKNOWN
    lived_s = time.clock_gettime(time.CLOCK_BOOTTIME) - mark.started
    config = _configuration(ctx, store, found.domid, mark.config)
    decision = death.decide(reason, config)
    early_deaths = brake.early_deaths(mark.early_deaths, lived_s)
    if decision.brings_back:
        config = _next_configuration(ctx, found.domid, config)
    case = Case(found.domid, found.uuid, config, decision.steps, early_deaths)
    _tell(case, "has shut down: %s; action: %s", reason, decision.action)
    if decision.brings_back and brake.holds(early_deaths):
        _tell(case, _LEFT_DOWN, early_deaths, brake.within_s, level=logging.ERROR)
        case = replace(case, pending=death.without_return(decision).steps)
    return case


def _configuration(
    ctx: Context, store: Store, domid: int, last: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the configuration as it is now: devices may have come and gone.

    libxl leaves those out that are in its file, but no longer in xenstore. Where it cannot read
    xenstore it just returns the file, and calls that a success.
    """
    try:
        config = dict(json.loads(ctx.configuration(domid)))
    except (LibxlError, ValueError) as e:
        store.ping()
        if not last:
            raise
        _log.warning("domain %d: going on with its first configuration: %s", domid, e)
        return last
    store.ping()
    if not store.exists(f"{paths.domain(domid)}/name"):
        _log.warning(
            "domain %d: xenstored has lost it; devices that were detached from it while it ran "
            "come back, too",
            domid,
        )
    return config


def _next_configuration(ctx: Context, domid: int, current: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the guest is to come back with.

    `xl config-update` leaves a whole new one in the userdata "xl"; only xl can read that. A xl
    that xenstored keeps from it says nothing of the configuration: raises NoXenError and
    TimedOutError, for the update must not be lost.
    """
    try:
        updated = ctx.userdata(domid, "xl")
        if not updated:
            return current
        with tempfile.NamedTemporaryFile(prefix="xlmt-", suffix=".cfg") as file:
            file.write(updated)
            file.flush()
            return xl.parse(file.name)
    except (NoXenError, TimedOutError):
        raise
    except (XlmtError, OSError, ValueError) as e:
        _log.warning("domain %d: going on without what config-update left: %s", domid, e)
        return current


def _tell(case: Case, message: str, *values: object, level: int = logging.INFO) -> None:
    fields = {"domid": case.domid, "domain": case.name}
    _log.log(level, f"domain %d (%s) {message}", case.domid, case.name, *values, extra=fields)


# --- the steps -----------------------------------------------------------------------------


class Undertaker:
    """Carries out one case; `keep` is given the case after each step.

    `marked`: the guest's next life is the supervisor's again. `successor` is that life's domid,
    once there is one.
    """

    def __init__(
        self, ctx: Context, store: Store, case: Case, keep: Callable[[Case], None], *, marked: bool
    ) -> None:
        self._ctx = ctx
        self._store = store
        self._case = case
        self._keep = keep
        self._marked = marked
        self.successor: int | None = None

    def carry_out(self) -> None:
        """Do the steps that are left.

        Raises NoXenError, TimedOutError: try again later, with a context and a store that are
        new. Raises XlmtError: it cannot be done.
        """
        while self._case.pending:
            try:
                self._do(self._case.pending[0])
            except LibxlError:
                self._store.ping()  # was it xenstored's fault? Then NoXenError
                raise
            self._case = self._case.after_a_step()
            self._keep(self._case)

    def _do(self, step: Step) -> None:
        match step:
            case Step.DUMP_CORE:
                self._dump_core()
            case Step.DESTROY:
                self._destroy()
            case Step.RENAME:
                self._rename()
            case Step.CREATE:
                self._create()
            case Step.SOFT_RESET:
                self._soft_reset()

    def _there(self) -> Domain | None:
        """Return the domain's row, None when it is gone; a reused domid is another domain."""
        found = self._ctx.domain(self._case.domid)
        return found if found and found.uuid == self._case.uuid and not found.dying else None

    def _dead(self) -> bool:
        """Whether the dead domain is still there."""
        found = self._there()
        return found is not None and found.shutdown is not None

    def _dump_core(self) -> None:
        if not self._dead():
            return
        path = f"{DUMP_DIR}/{self._case.name}"
        _tell(self._case, "dumping core to %s", path)
        try:
            self._ctx.dump_core(self._case.domid, path)
        except LibxlError as e:
            _log.error("%s", e)  # as xl: the guest is dead, but what comes next can still be done

    def _destroy(self) -> None:
        if not self._dead():
            return
        try:
            self._ctx.destroy(self._case.domid)
        except LibxlError as e:
            self._store.ping()
            _log.error("%s", e)  # as xl; what the kernel still holds, the hook has said

    def _rename(self) -> None:
        if not self._dead():
            return
        name, domid = self._case.name, self._case.domid
        if self._ctx.name_of(domid) == name:  # else it was done, and then we were interrupted
            suffix = death.preserved_suffix(datetime.now(UTC))
            _tell(self._case, "is kept as %s%s", name, suffix)
            self._ctx.preserve(domid, _json(self._case.config), suffix)
        if self._marked:  # it keeps its uuid with the hypervisor, and so the mark
            managed.drop_mark(self._ctx, domid)

    def _create(self) -> None:
        if self._case.made is None:
            domid = self._successor()
            if domid is None:
                time.sleep(_BEFORE_RESTART_S)
                config = _for_the_next_life(self._case)
                domid = domain.create(self._ctx, self._store, config, mark=self._next_mark())
            self._case = replace(self._case, made=domid)
            self._keep(self._case)  # from here on somebody may destroy it, and mean it
        assert self._case.made is not None
        self._set_going(self._case.made)
        self.successor = self._case.made
        _tell(self._case, "is back as domain %d", self.successor)

    def _soft_reset(self) -> None:
        domid, found = self._case.domid, self._there()
        if found is None:
            raise XlmtError(f"{self._case.name} was destroyed when its soft reset was interrupted")
        with domain.destroyed_on_error(self._ctx, domid):
            if found.shutdown is None and managed.mark_of(found) is None:  # but not to the end
                raise XlmtError(f"the soft reset of {self._case.name} was interrupted")
            if found.shutdown is not None:
                self._ctx.soft_reset(domid, _json(self._case.config))
                domain.ensure_node(self._store, domid)
                if mark := self._next_mark():
                    managed.put_mark(self._ctx, domid, mark)
        self._set_going(domid)
        self.successor = domid
        _tell(self._case, "goes on after its soft reset")

    def _next_mark(self) -> Mark | None:
        return (
            managed.new_mark(self._case.config, self._case.early_deaths) if self._marked else None
        )

    def _set_going(self, domid: int) -> None:
        """Unpause it, if nobody has destroyed it meanwhile."""
        found = self._ctx.domain(domid)
        if found and found.uuid == self._case.uuid and found.paused and not found.shutdown:
            with domain.destroyed_on_error(self._ctx, domid):
                self._ctx.unpause(domid)

    def _successor(self) -> int | None:
        """Return the guest's next life, if it was made before we were interrupted.

        Its uuid is the guest's, and our word is in its home. With a mark it is whole: it gets
        that last. Without, it is what our own killed attempt has left, and is destroyed.

        Raises XlmtError when somebody else has started the guest meanwhile.
        """
        for found in self._ctx.domains().values():
            if found.uuid != self._case.uuid or found.dying or found.domid == self._case.domid:
                continue
            marked = managed.mark_of(found) is not None
            if found.shutdown and not marked:  # an earlier death's, that was kept
                continue
            ours = self._is_ours(found)
            if self._ctx.domain(found.domid) is None:  # it was on its way out
                continue
            if not ours:
                raise XlmtError(
                    f"{self._case.name} is not started again: somebody else has made domain "
                    f"{found.domid} of it"
                )
            if marked:
                return found.domid
            _tell(self._case, "left a half-made domain %d: destroying it", found.domid)
            self._ctx.destroy(found.domid)
        return None

    def _is_ours(self, found: Domain) -> bool:
        """Say whether our word is in the domain's home.

        Without a home, it is so far from whole that there is no telling who made it. Whoever did
        needs a moment to get on with it, if he lives: after a longer one, it was us.
        """
        home, until = paths.domain(found.domid), time.monotonic() + _TO_GET_A_HOME_S
        while self._ctx.domain(found.domid) and not self._store.exists(home):
            if time.monotonic() > until:
                return True
            time.sleep(0.1)
        made_after = self._store.read(f"{home}/{_RESTART_OF}")
        return made_after == str(self._case.domid)


def _for_the_next_life(case: Case) -> dict[str, Any]:
    """Return the configuration, for any domid, and with a word to know the domain again by.

    libxl writes `xsdata` to the home, in the very transaction that makes it (libxl_create.c,
    libxl__domain_make).
    """
    c_info = {key: value for key, value in case.config["c_info"].items() if key != "domid"}
    xsdata = {**(c_info.get("xsdata") or {}), _RESTART_OF: str(case.domid)}
    return {**case.config, "c_info": {**c_info, "xsdata": xsdata}}


def _json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, ensure_ascii=False)
