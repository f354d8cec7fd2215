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


class Step(StrEnum):
    """Something to do with a domain that has shut down; steps are done in order."""

    DUMP_CORE = "dump core"
    DESTROY = "destroy"
    RENAME = "rename"
    CREATE = "create"
    SOFT_RESET = "soft reset"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the configuration asks for, in libxl's word, and the steps that this takes."""

    action: str
    steps: tuple[Step, ...]

    @property
    def brings_back(self) -> bool:
        """Whether there is a guest to look after at the end."""
        return bool({Step.CREATE, Step.SOFT_RESET} & set(self.steps))


#: libxl_action_on_shutdown, as libxl's JSON spells it.
_STEPS = {
    "destroy": (Step.DESTROY,),
    "restart": (Step.DESTROY, Step.CREATE),
    "restart_rename": (Step.RENAME, Step.CREATE),
    "preserve": (),
    "coredump_destroy": (Step.DUMP_CORE, Step.DESTROY),
    "coredump_restart": (Step.DUMP_CORE, Step.DESTROY, Step.CREATE),
    "soft_reset": (Step.SOFT_RESET,),
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
    action = str(config.get(setting, "destroy")) if setting else "destroy"
    if action not in _STEPS:
        action = "destroy"
    return Decision(action, _STEPS[action])


def preserved_suffix(now: datetime) -> str:
    """Return what a preserved domain's name gets added, as in xl: "-20260722T1405Z" (UTC)."""
    return now.strftime("-%Y%m%dT%H%MZ")
