# SPDX-License-Identifier: LGPL-2.1-or-later
"""Room for a new domain, which domain 0 gives."""

import time

from xlmt.errors import WantError
from xlmt.libxl.context import INVALID_DOMID, Context
from xlmt.libxl.extension import ffi, lib
from xlmt.libxl.xentoollog import operation


def free_memory(ctx: Context, config_json: str, *, budget_s: float = 30.0) -> None:
    """Balloon domain 0 down until the domain of this configuration fits, as xl does.

    Raises LibxlError, or WantError when domain 0 makes no more room within `budget_s`.
    """
    with operation("making room for the domain") as check, ctx.config(config_json) as c:
        need, free = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        check(lib.libxl_domain_need_memory(ctx._ctx, c, INVALID_DOMID, need))
        while True:
            check(lib.libxl_get_free_memory(ctx._ctx, free))
            if free[0] >= need[0]:
                return
            if budget_s <= 0:
                raise WantError(
                    f"not enough memory: the domain needs {need[0] // 1024} MiB, "
                    f"{free[0] // 1024} MiB are free and domain 0 gives no more"
                )
            check(lib.libxl_set_memory_target(ctx._ctx, 0, free[0] - need[0], 1, 0))
            started = time.monotonic()
            check(lib.libxl_wait_for_memory_target(ctx._ctx, 0, 10))
            budget_s -= max(1.0, time.monotonic() - started)
