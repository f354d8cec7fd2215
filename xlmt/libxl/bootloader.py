# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bootloaders that libxl runs for this process, such as pygrub."""

import os
import signal
from contextlib import suppress
from pathlib import Path

#: By which libxl tells each where to write (libxl_bootloader.c: make_bootloader_args).
_OUTPUT = b"/bootloader."


def end_all() -> None:
    """Tell those that run to end."""
    for pid in filter(_is_bootloader, _children()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _children() -> list[int]:
    with suppress(OSError):  # a kernel without CONFIG_PROC_CHILDREN
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
    return []


def _is_bootloader(pid: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(word.startswith(b"--output=") and _OUTPUT in word for word in words)
    return False
