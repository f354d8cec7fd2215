# SPDX-License-Identifier: LGPL-2.1-or-later
"""Create and destroy domains, in xl's order of events.

What libxl_domain_create_new() does not do, xl does around it, and so does this module: the lock
and the memory of domain 0, the domid policy, and the unpausing. In between stands what xl does
not do: a look at the domain's mtwatch node, before the domain runs.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from xlmt import files, libxl, locks, paths
from xlmt.domains import configuration, managed
from xlmt.domains.creations import Begun, Claim
from xlmt.domains.local_disks import LocalDisks
from xlmt.domains.managed import Record
from xlmt.errors import (
    LibxlError,
    NoSuchDomainError,
    RefusedError,
    TimedOutError,
    UsageError,
    XlmtError,
)
from xlmt.libxl import Context
from xlmt.model import Domain
from xlmt.nodes import observe
from xlmt.nodes.apply import put_node
from xlmt.text import guest, printable
from xlmt.xenstore import Store

XL_LOCK = "/var/lock/xl"  # XL_LOCK_FILE in tools/xl/xl.h, as Debian builds it

_LOCK_TIMEOUT_S = 600.0
#: libxl writes the home right after the hypervisor has made the domain, unless xenstored is busy.
TO_GET_A_HOME_S = 15.0
_RANDOM_DOMID = libxl.INVALID_DOMID - 1  # RANDOM_DOMID in libxl.h

_log = logging.getLogger("xlmt")


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What is left of a domain: `held`, the backends that keep its node, and `error`.

    `error` is set when libxl could not destroy all of it; its node is then kept, too.
    """

    held: tuple[str, ...] = ()
    node_left: bool = False
    error: XlmtError | None = None


# --- which domain --------------------------------------------------------------------------


def resolve(ctx: Context, wanted: str) -> int:
    """Return the domid that a name or a domid means.

    Raises NoSuchDomainError; UsageError for a number that is one domain's domid and another's
    name; RefusedError for domain 0 and for xenstore's own domain.
    """
    number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 6 else None
    by_name = ctx.domid_of(wanted)
    if number is not None and ctx.domain(number) is not None:
        if by_name is not None and by_name != number:
            raise UsageError(
                f"{wanted} is the domid of {ctx.name_of(number)} and the name of domain "
                f"{by_name}: use the domid {by_name} or the name {ctx.name_of(number)}"
            )
        by_name = number
    if by_name is None:
        raise NoSuchDomainError(f"there is no domain {wanted}; see: xlmt list")
    if by_name == 0:
        raise RefusedError("domain 0 is this host: xlmt does not touch it")
    if (found := ctx.domain(by_name)) and found.never_stop:
        raise RefusedError(f"domain {by_name} is xenstore's own: without it the host is lost")
    return by_name


# --- create --------------------------------------------------------------------------------


def create(  # noqa: PLR0913 - two to act by, the rest to choose by
    ctx: Context,
    store: Store,
    config: Mapping[str, Any],
    *,
    record: Record | None = None,
    on_console: Callable[[int], None] | None = None,
    claim: Claim | None = None,
    timeout: float | None = None,
) -> int:
    """Create a domain from libxl's JSON configuration, paused, with its node; return its domid.

    With a `record` the supervisor manages it, from here on and not before. With a `claim` what is
    made is written down, until the claim is `done`: by whoever has called, who is not yet.
    A creation that fails leaves neither domain nor node. Raises LibxlError, XlmtError.
    """
    config_json = json.dumps(
        {**config, "c_info": _with_domid(config["c_info"])}, ensure_ascii=False
    )
    configuration.require_space(len(config_json))
    disks = LocalDisks(store) if configuration.has_bootloader(config) else None
    if claim:
        claim.write_down(_begun(ctx, config["c_info"]))
    autoballoon = _autoballoon(ctx)
    with _xl_lock() if autoballoon else nullcontext():
        if autoballoon:
            libxl.free_memory(ctx, config_json)
        on_domid = claim.note if claim else None
        domid = ctx.create(
            config_json,
            on_console=on_console,
            on_domid=on_domid,
            timeout=timeout,
            busy=disks.are_more if disks else None,
        )
    with destroyed_on_error(ctx, domid):
        _refuse_a_namesake(ctx, domid)
        ensure_node(store, domid)
        if record:
            managed.keep_record(ctx, domid, record)
    return domid


def _begun(ctx: Context, c_info: Mapping[str, Any]) -> Begun:
    uuid = str(c_info.get("uuid") or "").lower()
    before = tuple(d.domid for d in ctx.domains().values() if d.uuid == uuid)
    return Begun(str(c_info.get("name") or ""), uuid, os.getpid(), before)


def _refuse_a_namesake(ctx: Context, domid: int) -> None:
    """Raise XlmtError when another domain has got the name, too.

    libxl looks before it makes the domain. Ours hold a claim meanwhile, but others do not.
    """
    name = ctx.name_of(domid)
    for other in ctx.domains():
        if name and other != domid and ctx.name_of(other) == name:
            raise XlmtError(f"the name {printable(name)} is taken: domain {other} has it")


def clear_up(ctx: Context, store: Store, claim: Claim) -> int | None:
    """Destroy what a killed creation has left half-made; return its domid, None when nothing is.

    Raises XlmtError.
    """
    left = claim.left
    domid = left_half_made(ctx, store, left) if left else None
    if left and domid is not None:
        who = guest(left.name, domid)
        _log.warning("%s was left half-made by process %d: destroying it", who, left.pid)
        ctx.destroy(domid)
    claim.done()
    return domid


@contextmanager
def forgotten_when_gone(ctx: Context, claim: Claim) -> Iterator[None]:
    """If the block fails and nothing of its creation is left, nobody has to look for it."""
    try:
        yield
    except BaseException:
        with suppress(XlmtError):
            there = (found for found in ctx.domains().values() if not found.dying)
            if not any(map(claim.may_have_made, there)):
                claim.done()
        raise


def left_half_made(ctx: Context, store: Store, left: Begun) -> int | None:
    """Return the domid of what a killed creation has left, None when there is no such domain.

    It has the uuid that was written down and has never run. Where its domid was not written down
    yet, it can have no home: what gets one now is somebody else's.
    """

    def is_it(found: Domain | None) -> bool:
        return found is not None and found.is_half_made and found.uuid == left.uuid

    if left.domid is not None:
        return left.domid if is_it(ctx.domain(left.domid)) else None
    for found in ctx.domains().values():
        if is_it(found) and found.domid not in left.before and is_homeless(ctx, store, found.domid):
            return found.domid
    return None


def is_homeless(ctx: Context, store: Store, domid: int) -> bool:
    """Whether the domain has no home and gets none: who makes it does so in a moment, if he lives.

    False when it is gone meanwhile.
    """
    home, until = paths.domain(domid), time.monotonic() + TO_GET_A_HOME_S
    while ctx.domain(domid):
        if store.exists(home):
            return False
        if time.monotonic() > until:
            return True
        time.sleep(0.1)
    return False


@contextmanager
def destroyed_on_error(
    ctx: Context, domid: int, what: str = "was created but cannot be started"
) -> Iterator[None]:
    """Leave no half-made domain behind: destroy it when the block fails, Ctrl-C included."""
    try:
        yield
    except BaseException:
        _log.error("domain %d %s, destroying it", domid, what)
        try:
            ctx.destroy(domid)
        except XlmtError as e:
            _log.error("domain %d is left half-made: %s; try: xlmt destroy %d", domid, e, domid)
        raise


def ensure_node(store: Store, domid: int) -> None:
    """Check that the interposer has written the node; write it if not, with a warning."""
    if observe.node_is_right(store, domid):
        return
    _log.warning(
        "domain %d was created without its mtwatch node, writing it now; this is a bug of xlmt, "
        "please report it",
        domid,
    )
    put_node(store, domid)


def _with_domid(c_info: Mapping[str, Any]) -> dict[str, Any]:
    """Say "any domid" as libxl wants it said; xl does it after it has printed the JSON."""
    if paths.DOMID_FIRST <= c_info.get("domid", 0) <= paths.DOMID_LAST:
        return dict(c_info)
    policy = libxl.setting(paths.XL_CONF, "domid_policy")
    return {**c_info, "domid": _RANDOM_DOMID if policy == "random" else libxl.INVALID_DOMID}


def _autoballoon(ctx: Context) -> bool:
    """Whether domain 0 gives memory for new domains: xl.conf(5), autoballoon."""
    setting = libxl.setting(paths.XL_CONF, "autoballoon") or "auto"
    if setting in ("on", "1"):
        return True
    if setting in ("off", "0"):
        return False
    # "auto": not where the administrator gave domain 0 a fixed size at boot
    return not re.search(r"(^| )dom0_mem=[^ ]+", ctx.xen_command_line())


@contextmanager
def _xl_lock() -> Iterator[None]:
    """Hold xl's own lock, so that two creations do not count the same free memory.

    Raises TimedOutError, naming the process that has it.
    """
    path = libxl.setting(paths.XL_CONF, "lockfile") or XL_LOCK
    fd = _open_lock(path)
    try:
        _acquire(fd, path)
        yield  # closing the file gives the lock back
    finally:
        os.close(fd)


def _open_lock(path: str) -> int:
    """Open the file, which lies where everybody may make one. Raises XlmtError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = None
    try:
        fd = os.open(path, flags, 0o200)
        found = os.fstat(fd)
    except OSError as e:
        try:
            found = os.lstat(path)
        except OSError:
            raise XlmtError(f"xl's lock cannot be made: {path}: {e.strerror}") from None
    kind = files.what_it_is(found)
    if fd is not None and not kind and found.st_uid in {0, os.geteuid()}:
        return fd
    if fd is not None:
        os.close(fd)
    what = kind or "a file"
    raise XlmtError(f"{path} is {what} of user {found.st_uid}, not xl's lock; to go on: rm {path}")


def _acquire(fd: int, path: str) -> None:
    started, pause, said = time.monotonic(), 0.01, False
    while True:
        if locks.acquire(fd):
            return
        waited = time.monotonic() - started
        if waited > _LOCK_TIMEOUT_S:
            raise TimedOutError(f"{path} is still held by {_holder(fd)} after {waited:.0f} s")
        if waited > 2 and not said:
            _log.warning("waiting for %s, held by %s; Ctrl-C gives up", path, _holder(fd))
            said = True
        time.sleep(pause)
        pause = min(pause * 2, 0.5)


def _holder(fd: int) -> str:
    pid = locks.holder(fd)
    return f"process {pid}" if pid else "another process"


# --- destroy -------------------------------------------------------------------------------


def destroy(ctx: Context, store: Store, domid: int) -> Destroyed:
    """Destroy a domain; its node goes last, or stays while the kernel holds a backend of it.

    A failure of libxl is returned, beside what it left. Raises XlmtError for anything else.
    """
    error = None
    try:
        ctx.destroy(domid)
    except LibxlError as e:
        error = e
    return Destroyed(
        held=observe.held_by_kernel(domid),
        node_left=store.exists(paths.node(domid)),
        error=error,
    )
