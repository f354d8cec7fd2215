# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where this kernel shows what it has and does, all below one root."""

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
