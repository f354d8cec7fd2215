# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be done when a domain has shut down: xl's on_* settings, as a pure decision.

What to do is decided here; monitor.py does it, for one domain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from xlmt.model import ShutdownReason


class Next(StrEnum):
    """What becomes of a domain that has shut down."""

    PRESERVE = "preserve"
    DESTROY = "destroy"
    RESTART = "restart"
    RENAME_RESTART = "rename-restart"
    SOFT_RESET = "soft-reset"


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, and whether the guest's memory is to be dumped to a file before it."""

    next: Next
    dump_core: bool = False


#: libxl_action_on_shutdown, as libxl's JSON spells it.
_ACTIONS = {
    "destroy": Decision(Next.DESTROY),
    "restart": Decision(Next.RESTART),
    "restart_rename": Decision(Next.RENAME_RESTART),
    "preserve": Decision(Next.PRESERVE),
    "coredump_destroy": Decision(Next.DESTROY, dump_core=True),
    "coredump_restart": Decision(Next.RESTART, dump_core=True),
    "soft_reset": Decision(Next.SOFT_RESET),
}

_SETTING = {
    ShutdownReason.POWEROFF: "on_poweroff",
    ShutdownReason.REBOOT: "on_reboot",
    ShutdownReason.CRASH: "on_crash",
    ShutdownReason.WATCHDOG: "on_watchdog",
    ShutdownReason.SOFT_RESET: "on_soft_reset",
}


def is_death(reason: ShutdownReason) -> bool:
    """Whether the domain is ours to deal with: a suspended one belongs to whoever saves it."""
    return reason is not ShutdownReason.SUSPEND


def decide(reason: ShutdownReason, config: Mapping[str, Any]) -> Decision:
    """Return what libxl's JSON configuration of the domain wants for this reason.

    libxl leaves defaults out, and every on_* of libxl defaults to destroy; so does a reason that
    nobody knows.
    """
    setting = _SETTING.get(reason)
    action = config.get(setting, "destroy") if setting else "destroy"
    return _ACTIONS.get(str(action), Decision(Next.DESTROY))


def preserved_suffix(now: datetime) -> str:
    """Return what a preserved domain's name gets added, as in xl: "-20260722T1405Z" (UTC)."""
    return now.strftime("-%Y%m%dT%H%MZ")
