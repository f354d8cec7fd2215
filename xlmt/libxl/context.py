# SPDX-License-Identifier: LGPL-2.1-or-later
"""libxl for Python: one context manager, plain values in and out.

The story of one creation, through C and back:

1. `Context.create()` turns the JSON into a libxl_domain_config and starts libxl's asynchronous
   operation. Nothing waits inside libxl: event.py polls libxl's own descriptors, so that Ctrl-C
   and a deadline reach an operation that waits for a device, a script or a bootloader.
2. In its first step libxl starts the creation's xenstore transaction by calling
   xs_transaction_start() and xs_rm(), which are ours: hooks/interposer.c, compiled into the same
   extension, writes the domain's mtwatch node first. `require_interposer()` has made sure of that.
3. What libxl says on the way comes back as calls of Python (xentoollog.py): into the logger
   "xlmt.libxl", and, if the operation fails, into the `LibxlError`.
4. The operation's end is an event with our number on it; its rc becomes an exception.

A context belongs to the thread that opened it. C names are C names; no cdata leaves this package.
"""

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from xlmt.errors import ClockError, NoXenError, XlmtError
from xlmt.libxl.dominfo import to_domain
from xlmt.libxl.event import Operations
from xlmt.libxl.extension import ffi, lib, no_xen, owned_text, require_built_for, text, why
from xlmt.libxl.xentoollog import listening, operation, told_the_domid
from xlmt.model import Domain

_log = logging.getLogger("xlmt.libxl")

INVALID_DOMID = 0xFFFFFFFF

#: What libxl still points at, for as long as the process lives; see `Operations.abandoned`.
_abandoned: list[Any] = []


class Context:
    """A connection to libxl; a context manager.

    Raises XlmtError where the extension does not fit this host or the interposer is not armed, and
    NoXenError where there is no Xen.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._ctx: Any = None

    def __enter__(self) -> Self:
        with ExitStack() as half_built, listening() as heard:
            p_ctx = ffi.new("libxl_ctx **")
            if lib.libxl_ctx_alloc(p_ctx, lib.LIBXL_VERSION, 0, lib.xlmt_logger()):
                raise NoXenError(no_xen(heard))
            self._ctx = p_ctx[0]
            self._operations = Operations(self._ctx)
            half_built.callback(self._free)
            self._check_release(heard)
            self._leave_other_children_alone()
            lib.xlmt_survive_disasters(self._ctx)
            lib.xlmt_interposer_says_to_python()
            self._undo = half_built.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the context; does nothing the second time."""
        self._undo.close()

    def _free(self) -> None:
        if self._operations.abandoned:
            _abandoned.append(self)
        else:
            lib.libxl_ctx_free(self._ctx)

    def _check_release(self, heard: list[str]) -> None:
        version = lib.libxl_get_version_info(self._ctx)
        if version == ffi.NULL or not version.xen_version_major:
            raise NoXenError(no_xen(heard))
        require_built_for(f"{version.xen_version_major}.{version.xen_version_minor}")

    def _leave_other_children_alone(self) -> None:
        """Keep libxl from reaping the children of Python's subprocess."""
        self._hooks = ffi.new("libxl_childproc_hooks *")
        self._hooks.chldowner = lib.libxl_sigchld_owner_libxl_always_selective_reap
        lib.libxl_childproc_setmode(self._ctx, self._hooks, ffi.NULL)

    def xen_command_line(self) -> str:
        """Return the command line that the hypervisor was booted with."""
        return text(lib.libxl_get_version_info(self._ctx).commandline)

    def domains(self) -> dict[int, Domain]:
        """Return the hypervisor's list, domid 0 included.

        Raises NoXenError when it cannot be had: a failure is never an empty list.
        """
        p_count = ffi.new("int *")
        with listening() as heard:
            infos = lib.libxl_list_domain(self._ctx, p_count)
            if infos == ffi.NULL:
                raise NoXenError(f"the hypervisor does not list its domains: {why(heard)}")
        try:
            domains = {infos[i].domid: to_domain(infos[i]) for i in range(p_count[0])}
        finally:
            lib.libxl_dominfo_list_free(infos, p_count[0])
        if 0 not in domains:
            raise NoXenError("the hypervisor's list lacks domain 0, so it is not to be trusted")
        return domains

    def domain(self, domid: int) -> Domain | None:
        """Return what the hypervisor says of one domid, None when it does not know it."""
        info = ffi.new("libxl_dominfo *")
        lib.libxl_dominfo_init(info)
        try:
            with operation(f"domain {domid}") as check:
                rc = lib.libxl_domain_info(self._ctx, info, domid)
                if not check(rc, lib.ERROR_DOMAIN_NOTFOUND):
                    return None
            return to_domain(info)
        finally:
            lib.libxl_dominfo_dispose(info)

    def name_of(self, domid: int) -> str | None:
        """Return the domain's name, None when it has none (any more)."""
        name = lib.libxl_domid_to_name(self._ctx, domid)
        return None if name == ffi.NULL else owned_text(name)

    def domid_of(self, name: str) -> int | None:
        """Return the domid of the domain of that name; None when there is none.

        Raises LibxlError.
        """
        p_domid = ffi.new("uint32_t *")
        with operation(f"domain {name}") as check:
            rc = lib.libxl_name_to_domid(self._ctx, os.fsencode(name), p_domid)
            if not check(rc, lib.ERROR_INVAL):  # libxl's word for "not found"
                return None
        return int(p_domid[0])

    def create(
        self,
        config_json: str,
        *,
        on_console: Callable[[int], None] | None = None,
        on_domid: Callable[[int], None] | None = None,
        timeout: float | None = None,
        busy: Callable[[], bool] | None = None,
    ) -> int:
        """Create a domain, paused, from libxl's own JSON; return its domid.

        `on_console` is called with a domid as soon as a console can be attached, which is before
        the end where there is a bootloader; `on_domid` before the domain is in xenstore; `busy`
        as in `Operations.run`. A creation that fails leaves no domain behind.

        Raises LibxlError; TimedOutError after `timeout` seconds; XlmtError when the interposer is
        not armed.
        """
        self.require_interposer()
        made: list[int] = []

        def begins(domid: int) -> None:
            made.append(domid)
            if on_domid:
                on_domid(domid)

        p_domid = ffi.new("uint32_t *", INVALID_DOMID)
        with operation("creating the domain") as check, self.config(config_json) as config:

            def start(how: Any, progress: Any) -> int:
                console = progress if on_console else ffi.NULL
                return int(lib.libxl_domain_create_new(self._ctx, config, p_domid, how, console))

            try:
                with told_the_domid(begins):
                    check(
                        self._operations.run(
                            start, on_console=on_console, timeout=timeout, busy=busy
                        )
                    )
            except BaseException:
                self._destroy_unfinished(p_domid, made)
                raise
        return int(p_domid[0])

    def _destroy_unfinished(self, p_domid: Any, made: list[int]) -> None:
        """Destroy what libxl leaves of a creation that was aborted, or failed at its very end."""
        if self._operations.abandoned:
            _abandoned.append(p_domid)
            _log.error("libxl did not stop; a half-made domain may be left, see: xlmt list")
            return
        for domid in dict.fromkeys([*made, int(p_domid[0])]):  # a stub domain comes after its guest
            try:
                found = self.domain(domid) if domid != INVALID_DOMID else None
                if found and found.is_half_made:
                    self.destroy(domid)
            except XlmtError as e:
                _log.error("domain %d is left half-made: %s; try: xlmt destroy %d", domid, e, domid)

    def soft_reset(self, domid: int, config_json: str) -> None:
        """Make the domain anew under its domid, keeping its memory. Raises LibxlError.

        It waits inside libxl, deaf to Ctrl-C: as an asynchronous operation, which this function
        is said to have, it writes at its end to a variable of a frame that has returned
        (libxl_create.c, do_domain_soft_reset, domid_out), and the process crashes.
        """
        self.require_interposer()
        with operation(f"soft reset of domain {domid}") as check, self.config(config_json) as c:
            check(lib.libxl_domain_soft_reset(self._ctx, c, domid, ffi.NULL, ffi.NULL))

    def run(self, what: str, call: Callable[[Any, Any], int], timeout: float | None = None) -> None:
        """Run one of libxl's functions, `call(ctx, ao_how)`, to its end.

        Raises LibxlError, and TimedOutError after `timeout` seconds.
        """
        with operation(what) as check:
            check(self._operations.run(lambda how, _: call(self._ctx, how), timeout=timeout))

    def destroy(self, domid: int) -> None:
        """Destroy the domain; libxl's own timeouts bound it. Raises LibxlError.

        They go by the wall clock. Where that was set back, libxl is stopped and begins anew.
        """
        what = f"destroying domain {domid}"
        try:
            self.run(what, lambda ctx, how: lib.libxl_domain_destroy(ctx, domid, how))
        except ClockError as e:
            _log.warning("%s: %s; trying again", what, e)
            if self.domain(domid):
                self.destroy(domid)

    def unpause(self, domid: int) -> None:
        """Let the domain run. Raises LibxlError."""
        self.run(
            f"unpausing domain {domid}",
            lambda ctx, how: lib.libxl_domain_unpause(ctx, domid, how),
            timeout=60,
        )

    def dump_core(self, domid: int, path: str) -> None:
        """Write the domain's memory to a file. Raises LibxlError."""
        self.run(
            f"core dump of domain {domid} to {path}",
            lambda ctx, how: lib.libxl_domain_core_dump(ctx, domid, os.fsencode(path), how),
        )

    def preserve(self, domid: int, config_json: str, suffix: str) -> None:
        """Rename the dead domain by the suffix and give it a new uuid. Raises LibxlError."""
        new_uuid = ffi.new("libxl_uuid *")
        new_uuid.uuid = uuid.uuid4().bytes
        with operation(f"preserving domain {domid}") as check, self.config(config_json) as c:
            check(
                lib.libxl_domain_preserve(
                    self._ctx, domid, ffi.addressof(c, "c_info"), suffix.encode(), new_uuid[0]
                )
            )

    def require_interposer(self) -> None:
        """Raise XlmtError unless libxenlight's xenstore calls come to the interposer."""
        arming = lib.xlmt_interposer_arming()
        if arming != lib.XLMT_INTERPOSER_ARMED:
            why = {
                lib.XLMT_INTERPOSER_BYPASSED: "libxenlight's calls do not reach it: another "
                "library was preloaded or libxl was loaded before xlmt",
                lib.XLMT_INTERPOSER_NO_LIBXL: "there is no libxenlight in this process",
                lib.XLMT_INTERPOSER_DEAD_END: "it does not find libxenstore's functions behind it",
            }.get(arming, "libxenlight's relocations are not as xlmt knows them")
            raise XlmtError(
                f"refusing to create: the interposer is not armed ({why}), so the domain would "
                "have no node; run without LD_PRELOAD, or reinstall xlmt"
            )

    @contextmanager
    def config(self, config_json: str | None = None) -> Iterator[Any]:
        """Yield a libxl_domain_config, for this package alone. Raises LibxlError."""
        config = ffi.new("libxl_domain_config *")
        lib.libxl_domain_config_init(config)
        try:
            if config_json is not None:
                with operation("the domain's configuration") as check:
                    check(
                        lib.libxl_domain_config_from_json(
                            self._ctx, config, config_json.encode(errors="surrogateescape")
                        )
                    )
            yield config
        finally:
            if self._operations.abandoned:
                _abandoned.append(config)
            else:
                lib.libxl_domain_config_dispose(config)

    def configuration(self, domid: int) -> str:
        """Return the domain's current configuration as libxl's JSON. Raises LibxlError."""
        with operation(f"configuration of domain {domid}") as check, self.config() as config:
            check(
                self._operations.run(
                    lambda how, _: lib.libxl_retrieve_domain_configuration(
                        self._ctx, domid, config, how
                    ),
                    timeout=60,
                )
            )
            return owned_text(lib.libxl_domain_config_to_json(self._ctx, config))

    def store_userdata(self, domid: int, key: str, data: bytes) -> None:
        """Keep a file with the domain, for as long as it lives. Raises LibxlError."""
        with operation(f"userdata of domain {domid}") as check:
            check(lib.libxl_userdata_store(self._ctx, domid, key.encode(), data, len(data)))

    def userdata(self, domid: int, key: str) -> bytes | None:
        """Return what was stored, None when nothing was. Raises LibxlError."""
        p_data, p_len = ffi.new("uint8_t **"), ffi.new("int *")
        with operation(f"userdata of domain {domid}") as check:
            check(lib.libxl_userdata_retrieve(self._ctx, domid, key.encode(), p_data, p_len))
        if p_data[0] == ffi.NULL:
            return None
        try:
            return bytes(ffi.buffer(p_data[0], p_len[0]))
        finally:
            lib.free(p_data[0])

    def drop_userdata(self, domid: int, key: str) -> None:
        """Remove what was stored. Raises LibxlError."""
        with operation(f"userdata of domain {domid}") as check:
            check(lib.libxl_userdata_unlink(self._ctx, domid, key.encode()))

    def give_up_in_child(self) -> None:
        """After a fork: close what it shares with the parent. This context is spent there."""
        lib.libxl_postfork_child_noexec(self._ctx)

    def in_child(self) -> Any:
        """After a fork: make a new libxl context, for child.py."""
        self.give_up_in_child()
        p_ctx = ffi.new("libxl_ctx **")
        if lib.libxl_ctx_alloc(p_ctx, lib.LIBXL_VERSION, 0, lib.xlmt_logger()):
            raise NoXenError("libxl cannot be opened in the child")
        return p_ctx[0]
