# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be done when a domain has shut down: xl's on_* settings, as a pure decision.

What to do is decided here, handler.py does it. In between stands the job: a value that is kept on
the disk (jobs.py), so that whoever handles a death may be killed at any moment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from xlmt.domains import shape
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
    """A death that is being handled: of which life, and the steps that are still to do.

    `config` is what the guest is brought back with; `early_deaths` and `short_lives` count this
    life, too. `life` is what names it, see `Record.life`: the domid can be used again, the uuid
    be that of several guests. `not_before` is when the next life may begin, in seconds since the
    host was booted. `begun`: its creation has, and which domids had its uuid before. `made` is
    the domid of the next life, once that is whole.
    """

    domid: int
    uuid: str
    config: Mapping[str, Any]
    pending: tuple[Step, ...]
    early_deaths: int = 0
    made: int | None = None
    life: str = ""
    short_lives: int = 0
    not_before: float = 0.0
    begun: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        return str((self.config.get("c_info") or {}).get("name") or self.domid)

    @property
    def key(self) -> str:
        return self.life or str(self.domid)

    @property
    def next_uuid(self) -> str:
        """The uuid of the next life, which `xl config-update` may have made another one."""
        return str((self.config.get("c_info") or {}).get("uuid") or self.uuid).lower()

    def after_a_step(self) -> "Job":
        return replace(self, pending=self.pending[1:])

    def dump(self) -> bytes:
        return dumped({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, data: bytes) -> "Job":
        """Return what was written down. Raises ValueError when it makes no sense."""
        try:
            values = shape.values_of(data)
            made, begun = values["made"], values.get("begun")
            return cls(
                domid=shape.count(values["domid"]),
                uuid=str(values["uuid"]),
                config=shape.configuration(values["config"]),
                pending=tuple(Step(step) for step in values["pending"]),
                early_deaths=shape.count(values["early_deaths"]),
                made=None if made is None else shape.count(made),
                life=str(values.get("life", "")),
                short_lives=shape.count(values.get("short_lives", 0)),
                not_before=shape.number(values.get("not_before", 0.0)),
                begun=None if begun is None else tuple(map(shape.count, begun)),
            )
        except (ValueError, KeyError, TypeError) as e:
            raise ValueError(f"this is no job of xlmt: {e}") from None


# --- words ---------------------------------------------------------------------------------


def dump_name(name: str, domid: int) -> str:
    """Return the name of the file for a core dump, as in xl: the guest's, if that can be one."""
    fits = re.fullmatch(r"[^\x00-\x1f/]{1,200}", name) and name not in {".", ".."}
    return name if fits else f"domain-{domid}"


def preserved_suffix(now: datetime) -> str:
    """Return what a preserved domain's name gets added, as in xl: "-20260722T1405Z" (UTC)."""
    return now.strftime("-%Y%m%dT%H%MZ")
