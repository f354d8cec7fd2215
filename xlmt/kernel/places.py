# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where this kernel shows what it has and does, all below one root."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: Another folder in tests.
ROOT = Path("/")


def backends() -> Path:
    return ROOT / "sys/bus/xen-backend/devices"


def devices() -> Path:
    return ROOT / "sys/devices"


def hypervisor() -> Path:
    return ROOT / "sys/hypervisor"


def interfaces() -> Path:
    return ROOT / "sys/class/net"


def blocks() -> Path:
    return ROOT / "sys/block"


def classes() -> Path:
    return ROOT / "sys/class"


def processes() -> Path:
    return ROOT / "proc"


def module() -> Path:
    return ROOT / "sys/module/xen_mtwatch"


def debugfs() -> Path:
    return ROOT / "sys/kernel/debug"


def log() -> Path:
    return ROOT / "dev/kmsg"


def each_process() -> Iterator[Path]:
    """Yield the folder of each process, whose name is its pid. Raises OSError."""
    return (process for process in processes().iterdir() if process.name.isdecimal())


def text(file: Path) -> str:
    """Return what a file says, without the blanks around it; "" if that cannot be read."""
    with suppress(OSError):
        return file.read_text(errors="replace").strip()
    return ""
