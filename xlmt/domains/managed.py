# SPDX-License-Identifier: LGPL-2.1-or-later
"""Managed guests: those that the supervisor restarts, by the record that is kept with each."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from xlmt import libxl
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
    configuration in libxl's JSON, should libxl itself have lost it.
    """

    boot: str
    started: float = 0.0
    early_deaths: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        return (self.config.get("c_info") or {}).get("name")

    def dump(self) -> bytes:
        return dumped({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, data: bytes, boot: str) -> "Record | None":
        """Return the record; None when it is not valid, or of another boot."""
        try:
            values = json.loads(data)
            if values["boot"] != boot:
                return None
            config = dict(values["config"])
            return cls(boot, float(values["started"]), int(values["early_deaths"]), config)
        except (ValueError, KeyError, TypeError):
            return None


def new_record(config: Mapping[str, Any], early_deaths: int = 0) -> Record:
    """Return the record of a domain whose life begins now."""
    started = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Record(_boot(), started, early_deaths, config)


def keep_record(ctx: Context, domid: int, kept: Record) -> None:
    """Have the supervisor manage the domain, whose life begins now. Raises LibxlError."""
    started = time.clock_gettime(time.CLOCK_BOOTTIME)  # the creation may have taken its time
    ctx.store_userdata(domid, _USERDATA, replace(kept, started=started).dump())


def drop_record(ctx: Context, domid: int) -> None:
    """Have the supervisor leave the domain alone from now on. Raises LibxlError."""
    ctx.drop_userdata(domid, _USERDATA)


def record_of(found: Domain) -> Record | None:
    """Return the domain's record, None when it has none of this boot. Raises OSError."""
    data = libxl.read_userdata(found, _USERDATA)
    return Record.load(data, _boot()) if data else None


@cache
def _boot() -> str:
    return _BOOT_ID.read_text().strip()
