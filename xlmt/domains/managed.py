# SPDX-License-Identifier: LGPL-2.1-or-later
"""Managed guests: those that the supervisor restarts, by the record that is kept with each."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from xlmt import libxl
from xlmt.domains import shape
from xlmt.errors import UnreadableError
from xlmt.libxl import Context
from xlmt.model import Domain
from xlmt.text import dumped

#: Under this name libxl keeps the record, as long as the domain lives.
_USERDATA = "xlmt"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept with a managed guest.

    `boot`: of which boot of the host the domain is; the record is on the disk, and another boot's
    domain may have the same domid and uuid. `started`: when this life began, in seconds since
    then. `early_deaths`: how many lives before it, in a row, were too short. `config`: the
    configuration in libxl's JSON, should libxl itself have lost it. `short_lives`: how many lives
    before it, in a row, were shorter than what is waited for.
    """

    boot: str
    started: float = 0.0
    early_deaths: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    short_lives: int = 0

    @property
    def name(self) -> str | None:
        return (self.config.get("c_info") or {}).get("name")

    def life(self, domid: int) -> str:
        """Return what this life of the domid is called: of another there is none, in this boot.

        A uuid is what a user writes: files are copied, and the next life may have another one.
        """
        return f"{domid}-{round(self.started * 1000)}"

    def dump(self) -> bytes:
        return dumped({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, data: bytes, boot: str) -> "Record | None":
        """Return the record; None when it is of another boot. Raises ValueError: it is none."""
        values = shape.values_of(data)
        try:
            if values["boot"] != boot:
                return None
            return cls(
                boot,
                shape.number(values["started"]),
                shape.count(values["early_deaths"]),
                shape.configuration(values["config"]),
                shape.count(values.get("short_lives", 0)),
            )
        except KeyError as e:
            raise ValueError(f"it lacks {e}") from None


def new_record(config: Mapping[str, Any], early_deaths: int = 0, short_lives: int = 0) -> Record:
    """Return the record of a domain whose life begins now."""
    return Record(_boot(), now(), early_deaths, config, short_lives)


def now() -> float:
    """Return the seconds since the host was booted: what lives are measured in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def keep_record(ctx: Context, domid: int, kept: Record) -> None:
    """Have the supervisor manage the domain, whose life begins now. Raises LibxlError."""
    # the creation may have taken its time
    ctx.store_userdata(domid, _USERDATA, replace(kept, started=now()).dump())


def drop_record(ctx: Context, domid: int) -> None:
    """Have the supervisor leave the domain alone from now on. Raises LibxlError."""
    ctx.drop_userdata(domid, _USERDATA)


def record_of(found: Domain) -> Record | None:
    """Return the domain's record, None when it has none of this boot. Raises UnreadableError."""
    try:
        data = libxl.read_userdata(found, _USERDATA)
        return None if data is None else Record.load(data, _boot())
    except OSError as e:
        raise UnreadableError(f"its record cannot be read: {e.filename}: {e.strerror}") from None
    except ValueError as e:
        raise UnreadableError(f"its record is not valid: {e}") from None


def is_managed(found: Domain) -> bool:
    """Whether the domain has a record; one that cannot be read is one."""
    try:
        return record_of(found) is not None
    except UnreadableError:
        return True


@cache
def _boot() -> str:
    return _BOOT_ID.read_text().strip()
