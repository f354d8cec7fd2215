# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bootloaders that libxl runs for this process, such as pygrub."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

#: By which libxl tells each where to write (libxl_bootloader.c: make_bootloader_args).
_OUTPUT = b"/bootloader."
_TO_END_S = 10.0


class Ending:
    """Ends those that run: each is told once, and killed when it does not heed that."""

    def __init__(self) -> None:
        self._told: dict[int, float] = {}

    def look(self) -> bool:
        """Do what is due by now; say whether any run."""
        found = [pid for pid in _children() if _is_bootloader(pid)]
        for pid in found:
            with suppress(ProcessLookupError):
                if pid not in self._told:
                    self._told[pid] = time.monotonic()
                    os.kill(pid, signal.SIGTERM)
                elif time.monotonic() - self._told[pid] > _TO_END_S:
                    os.kill(pid, signal.SIGKILL)
        return bool(found)


def _children() -> list[int]:
    with suppress(OSError):  # a kernel without CONFIG_PROC_CHILDREN
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
    return []


def _is_bootloader(pid: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(word.startswith(b"--output=") and _OUTPUT in word for word in words)
    return False
