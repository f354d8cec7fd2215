# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libxl_dominfo, as a value."""

import uuid
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
        uuid=str(uuid.UUID(bytes=bytes(ffi.buffer(info.uuid.uuid, 16)))),
        dying=bool(info.dying),
        paused=bool(info.paused),
        never_stop=bool(info.never_stop),
        shutdown=reason,
    )
