# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libxl_dominfo, as a value."""

from typing import Any

from xlmt.libxl.extension import ffi, lib, text
from xlmt.model import Domain, ShutdownReason


def to_domain(info: Any) -> Domain:
    reason = None
    if info.shutdown:
        name = lib.libxl_shutdown_reason_to_string(info.shutdown_reason)
        known = name != ffi.NULL and text(name) in set(ShutdownReason)
        reason = ShutdownReason(text(name)) if known else ShutdownReason.UNKNOWN
    return Domain(
        domid=info.domid,
        uuid=_uuid(bytes(ffi.buffer(info.uuid.uuid, 16)).hex()),
        dying=bool(info.dying),
        paused=bool(info.paused),
        never_stop=bool(info.never_stop),
        shutdown=reason,
        ran=info.cpu_time > 0,
        memory_kb=info.current_memkb,
    )


def _uuid(digits: str) -> str:
    """Return it as everybody writes it; uuid.UUID takes its time, and there are many domains."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
