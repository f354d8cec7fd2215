# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that the supervisor looks after: the record that is kept with each of them."""

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
from xlmt.text import record

#: Under this name libxl keeps a Mark with each domain that the supervisor looks after.
_USERDATA = "xlmt"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Mark:
    """What is kept with a domain that the supervisor looks after.

    `boot`: of which boot of the host the domain is; the mark is on the disk, and another boot's
    domain may have the same domid and uuid. `started`: when this life began, in seconds since
    then. `early_deaths`: how many lives before it, in a row, were too short. `config`: the
    configuration in libxl's JSON, should libxl itself have lost it.
    """

    boot: str
    started: float = 0.0
    early_deaths: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    def dump(self) -> bytes:
        return record({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, data: bytes, boot: str) -> "Mark | None":
        """Return what was written down; None when it makes no sense, or is of another boot."""
        try:
            values = json.loads(data)
            if values["boot"] != boot:
                return None
            config = dict(values["config"])
            return cls(boot, float(values["started"]), int(values["early_deaths"]), config)
        except (ValueError, KeyError, TypeError):
            return None


def new_mark(config: Mapping[str, Any], early_deaths: int = 0) -> Mark:
    """Return the mark of a domain whose life begins now."""
    started = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Mark(_boot(), started, early_deaths, config)


def put_mark(ctx: Context, domid: int, mark: Mark) -> None:
    """Have the supervisor look after the domain, whose life begins now. Raises LibxlError."""
    started = time.clock_gettime(time.CLOCK_BOOTTIME)  # the creation may have taken its time
    ctx.store_userdata(domid, _USERDATA, replace(mark, started=started).dump())


def drop_mark(ctx: Context, domid: int) -> None:
    """Have nobody look after the domain any more. Raises LibxlError."""
    ctx.drop_userdata(domid, _USERDATA)


def mark_of(found: Domain) -> Mark | None:
    """Return the domain's mark, None when it has none of this boot. Raises OSError."""
    data = libxl.read_userdata(found, _USERDATA)
    return Mark.load(data, _boot()) if data else None


@cache
def _boot() -> str:
    return _BOOT_ID.read_text().strip()
