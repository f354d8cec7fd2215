# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read back from the disk has the shape that it was written in, or is refused. Pure."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from xlmt.model import ShutdownReason


def values_of(data: bytes) -> dict[str, Any]:
    """Return the JSON object that was written by `text.dumped`. Raises ValueError."""
    try:
        values = json.loads(data.decode("utf-8", "surrogateescape"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return values


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def number(value: object) -> float:
    """Return a number of seconds. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return float(value)


def count(value: object) -> int:
    """Return what can be counted, or a domid. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"{str(value)[:40]!r} is no count")
    return value


def configuration(value: object) -> Mapping[str, Any]:
    """Return a configuration in libxl's JSON, as far as we look into it. Raises ValueError."""
    config = _object("the configuration", value)
    c_info = _object("c_info", config.get("c_info", {}))
    for name in ("name", "uuid"):
        _text(f"c_info.{name}", c_info.get(name))
    for key, data in _object("c_info.xsdata", c_info.get("xsdata", {})).items():
        _text(f"c_info.xsdata.{key}", data)
    disks = config.get("disks", [])
    if not isinstance(disks, list):
        raise ValueError("disks is no list")
    for disk in disks:
        _object("a disk", disk)
    for reason in ShutdownReason:
        _text(f"on_{reason}", config.get(f"on_{reason}"))
    return config


def _object(what: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    return value


def _text(what: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{what} is no text")
