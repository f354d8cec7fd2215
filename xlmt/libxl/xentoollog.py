# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libxl and the interposer say, on its way to Python's logging and into exceptions.

libxl calls back from inside its C functions, on the thread that called it.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from xlmt.errors import LibxlError
from xlmt.libxl.extension import error_name, ffi, lib, text

_log = logging.getLogger("xlmt.libxl")
_interposer_log = logging.getLogger("xlmt.interposer")
_domain_in_message = re.compile(r"\bDomain (\d+):")
_place_in_message = re.compile(r"^[\w./-]+\.c:\d+:\w+: ")

#: What libxl says at error level while somebody listens. One list is enough: a context belongs
#: to one thread.
_heard: list[str] | None = None
#: Who wants to know the domid of the creation that runs.
_on_domid: Callable[[int], None] | None = None
#: Ctrl-C while a callback ran.
_raised_in_callback: BaseException | None = None


def _keep(kind: type[BaseException], value: BaseException, _traceback: Any) -> None:
    """Keep an exception from going nowhere: a callback cannot raise through C."""
    global _raised_in_callback  # noqa: PLW0603
    _raised_in_callback = value if issubclass(kind, KeyboardInterrupt) else _raised_in_callback


@ffi.def_extern(onerror=_keep)  # type: ignore[untyped-decorator]
def xlmt_libxl_says(level: int, errnoval: int, context: Any, message: Any) -> None:
    line = text(message)
    if errnoval > 0:
        line = f"{line}: {os.strerror(errnoval)}"
    severity = _severity(level)
    if severity >= logging.ERROR and _heard is not None:
        _heard.append(_place_in_message.sub("", line))
        severity = logging.INFO  # -v shows it here; everybody sees it in the exception
    domain = _domain_in_message.search(line)
    domid = int(domain[1]) if domain else None
    _log.log(severity, "%s: %s", text(context), line, extra={"domid": domid})


@ffi.def_extern(onerror=_keep)  # type: ignore[untyped-decorator]
def xlmt_interposer_says(domid: int, line: Any) -> None:
    # Not a warning: whoever called libxl looks at the node afterwards, and says what it means.
    _interposer_log.info("domain %d: %s", domid, text(line), extra={"domid": domid})


@ffi.def_extern(onerror=_keep)  # type: ignore[untyped-decorator]
def xlmt_creation_begins(domid: int) -> None:
    if _on_domid is not None:
        _on_domid(domid)


@contextmanager
def told_the_domid(on_domid: Callable[[int], None]) -> Iterator[None]:
    """Call `on_domid` when libxl begins to write a new domain to xenstore, once or more."""
    global _on_domid  # noqa: PLW0603
    _on_domid = on_domid
    try:
        yield
    finally:
        _on_domid = None


def _severity(level: int) -> int:
    if level >= lib.XTL_ERROR:
        return logging.ERROR
    if level >= lib.XTL_WARN:
        return logging.WARNING
    return logging.INFO if level >= lib.XTL_INFO else logging.DEBUG


@contextmanager
def listening() -> Iterator[list[str]]:
    """Yield the list that libxl's errors go to until the end of the block.

    Ctrl-C in a callback is raised there, whatever else the block has failed of: it may be that
    very signal that broke off a system call of libxl.
    """
    global _heard, _raised_in_callback  # noqa: PLW0603
    outer, _heard = _heard, []
    try:
        yield _heard
    finally:
        _heard = outer
        pending, _raised_in_callback = _raised_in_callback, None
        if pending:
            raise pending


class Check(Protocol):
    """Raises LibxlError for a negative result of libxl; but `absent`, if given, is an answer.

    Returns whether it was another one than that.
    """

    def __call__(self, rc: int, absent: int = 0) -> bool: ...


@contextmanager
def operation(what: str) -> Iterator[Check]:
    """Yield the check of a libxl result, whose error carries what libxl has said.

    Errors that no such exception carries are logged as warnings.
    """
    with listening() as heard:

        def check(rc: int, absent: int = 0) -> bool:
            if rc < 0 and rc == absent:
                heard.clear()  # since 4.18 libxl calls it an error that a domain is gone
                return False
            if rc < 0:
                raise LibxlError(what, rc, error_name(rc), tuple(heard))
            return True

        carried = False
        try:
            yield check
        except LibxlError:
            carried = True
            raise
        finally:
            for line in [] if carried else heard:
                _log.warning("%s: libxl reports: %s", what, line)
