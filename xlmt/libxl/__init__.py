# SPDX-License-Identifier: LGPL-2.1-or-later
"""The adapter to libxl: the only importer of the compiled extension."""

from xlmt.libxl.cdrom import eject_cd
from xlmt.libxl.child import exec_console, exec_vncviewer
from xlmt.libxl.conf import setting
from xlmt.libxl.context import INVALID_DOMID, Context
from xlmt.libxl.memory import free_memory
from xlmt.libxl.userdata import read_userdata

__all__ = [
    "INVALID_DOMID",
    "Context",
    "eject_cd",
    "exec_console",
    "exec_vncviewer",
    "free_memory",
    "read_userdata",
    "setting",
]
