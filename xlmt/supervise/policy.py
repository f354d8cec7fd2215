# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be done when a domain has shut down: xl's on_* settings, as a pure decision.

What to do is decided here, handler.py does it. In between stands the job: a value that is kept on
the disk (jobs.py), so that whoever handles a death may be killed at any moment.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from xlmt.model import ShutdownReason
from xlmt.text import dumped


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


def is_death(reason: ShutdownReason) -> bool:
    """Whether the domain is ours to deal with: a suspended one belongs to whoever saves it."""
    return reason is not ShutdownReason.SUSPEND


def decide(reason: ShutdownReason, config: Mapping[str, Any]) -> Decision:
    """Return what libxl's JSON configuration of the domain wants for this reason.

    libxl leaves defaults out, and every on_* of libxl defaults to destroy; so does a reason that
    nobody knows. A suspended domain stays as it is.
    """
    if not is_death(reason):
        return Decision("preserve", ())
    action = str(config.get(f"on_{reason}", "destroy"))  # there is no on_unknown
    if action not in _STEPS:
        action = "destroy"
    return Decision(action, _STEPS[action])


def without_return(decision: Decision) -> Decision:
    """Return what is left of a decision when the guest is not to be brought back."""
    steps = tuple(step for step in decision.steps if step is not Step.CREATE)
    return replace(decision, steps=(Step.DESTROY,) if Step.SOFT_RESET in steps else steps)


# --- what is kept on the disk --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Job:
    """A death that is being handled: of which domain, and the steps that are still to do.

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

    def after_a_step(self) -> "Job":
        return replace(self, pending=self.pending[1:])

    def dump(self) -> bytes:
        return dumped({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, data: bytes) -> "Job":
        """Return what was written down. Raises ValueError when it makes no sense."""
        try:
            values = json.loads(data)
            job = cls(
                domid=int(values["domid"]),
                uuid=str(values["uuid"]),
                config=values["config"],
                pending=tuple(Step(step) for step in values["pending"]),
                early_deaths=int(values["early_deaths"]),
                made=None if values["made"] is None else int(values["made"]),
            )
            job.config["c_info"].get("name")
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"this is no job of xlmt: {e}") from None
        return job


# --- words ---------------------------------------------------------------------------------


def preserved_suffix(now: datetime) -> str:
    """Return what a preserved domain's name gets added, as in xl: "-20260722T1405Z" (UTC)."""
    return now.strftime("-%Y%m%dT%H%MZ")
