# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a forked child becomes. These functions replace the process, or raise XlmtError."""

from xlmt.errors import XlmtError
from xlmt.libxl.context import Context
from xlmt.libxl.extension import lib


def exec_console(ctx: Context, domid: int, notify_fd: int) -> None:
    """Become the client of the domain's primary console; it writes to notify_fd once attached."""
    lib.libxl_primary_console_exec(ctx.in_child(), domid, notify_fd)
    raise XlmtError(f"the console of domain {domid} cannot be opened")


def exec_vncviewer(ctx: Context, domid: int, *, autopass: bool) -> None:
    """Become a VNC viewer of the domain."""
    lib.libxl_vncviewer_exec(ctx.in_child(), domid, autopass)
    raise XlmtError(f"vncviewer cannot be started for domain {domid}")
