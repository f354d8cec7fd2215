# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be done when a domain has shut down: xl's on_* settings, as a pure decision.

What to do is decided here; undertaker.py does it. In between stands the case: a value that can
be written down, so that whoever deals with a death may be killed at any moment.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from xlmt.errors import UsageError
from xlmt.model import ShutdownReason
from xlmt.text import record

LIMIT_SETTING, WINDOW_SETTING = "XLMT_RESTART_LIMIT", "XLMT_RESTART_WINDOW"


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


# --- the brake -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Brake:
    """When a guest that keeps dying is left down; xl has no such limit.

    After `limit` deaths in a row, each within `within_s` seconds of its start, the guest is not
    brought back any more. 0: never left down.
    """

    limit: int = 5
    within_s: float = 10.0

    def early_deaths(self, before: int, lived_s: float) -> int:
        """Return how many early deaths in a row there are now, with `before` of them before."""
        return before + 1 if lived_s < self.within_s else 0

    @classmethod
    def from_settings(cls, environ: Mapping[str, str]) -> "Brake":
        """Return the brake as the environment sets it. Raises UsageError."""
        usual = cls()
        try:
            limit = int(environ.get(LIMIT_SETTING, usual.limit))
            within_s = float(environ.get(WINDOW_SETTING, usual.within_s))
            if not math.isfinite(within_s):
                raise ValueError(f"{within_s} is no number of seconds")
            return cls(limit, within_s)
        except ValueError as e:
            names = f"{LIMIT_SETTING} and {WINDOW_SETTING}"
            raise UsageError(f"{names} in the environment are to be numbers: {e}") from None

    def holds(self, early_deaths: int) -> bool:
        return 0 < self.limit <= early_deaths


def without_return(decision: Decision) -> Decision:
    """Return what is left of a decision when the guest is not to be brought back."""
    steps = tuple(step for step in decision.steps if step is not Step.CREATE)
    return replace(decision, steps=(Step.DESTROY,) if Step.SOFT_RESET in steps else steps)


# --- what is written down ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A death that is being dealt with: of which domain, and the steps that are still to do.

    `config` is what the guest is brought back with; `early_deaths` counts this death, too. `made`
    is the domid of the guest's next life, once that is whole.
    """

    domid: int
    uuid: str
    config: Mapping[str, Any]
    pending: tuple[Step, ...]
    early_deaths: int = 0
    made: int | None = None

    @property
    def name(self) -> str:
        return str(self.config["c_info"].get("name", self.domid))

    def after_a_step(self) -> "Case":
        return replace(self, pending=self.pending[1:])

    def dump(self) -> bytes:
        return record({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, data: bytes) -> "Case":
        """Return what was written down. Raises ValueError when it makes no sense."""
        try:
            values = json.loads(data)
            case = cls(
                domid=int(values["domid"]),
                uuid=str(values["uuid"]),
                config=values["config"],
                pending=tuple(Step(step) for step in values["pending"]),
                early_deaths=int(values["early_deaths"]),
                made=None if values["made"] is None else int(values["made"]),
            )
            case.config["c_info"].get("name")
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"this is no case of xlmt: {e}") from None
        return case


# --- words ---------------------------------------------------------------------------------


def preserved_suffix(now: datetime) -> str:
    """Return what a preserved domain's name gets added, as in xl: "-20260722T1405Z" (UTC)."""
    return now.strftime("-%Y%m%dT%H%MZ")
