# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the supervisor has done by itself about a stuck xenwatch, kept until the next boot.

It loads the module once in a boot, whatever comes of it: the record is there from before the
attempt on. `last` is for whoever wants to tell of it.
"""

import json
import os
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

from xlmt import files, paths
from xlmt.text import dumped


class Result(StrEnum):
    """What came of it; `loading` when that is not known yet, or its process was killed."""

    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


class Rescue(NamedTuple):
    """An attempt: when, as in RFC 3339, after how long a stall, and why it failed."""

    at: str
    stalled_s: float
    result: Result = Result.LOADING
    reason: str | None = None


def last() -> Rescue | None:
    """Return the attempt of this boot, None when there was none, or it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        values = json.loads(files.read_plain(paths.RESCUE))
        seconds, reason = float(values["stalled_s"]), values["reason"]
        reason = None if reason is None else str(reason)
        return Rescue(str(values["at"]), seconds, Result(values["result"]), reason)
    return None


def was_tried() -> bool:
    """Whether there was one in this boot; one that cannot be read is one."""
    return os.path.lexists(paths.RESCUE)


def begin(rescue: Rescue) -> bool:
    """Keep an attempt that is about to be made; False when there was one. Raises OSError."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(paths.RESCUE, flags, 0o644)
    except FileExistsError:
        return False
    with suppress(OSError), os.fdopen(fd, "wb") as file:  # a full /run is no reason not to help
        file.write(_dumped(rescue))
    return True


def keep(rescue: Rescue) -> None:
    """Keep what came of it. Raises OSError."""
    files.write_whole(paths.RESCUE, _dumped(rescue))


def _dumped(rescue: Rescue) -> bytes:
    return dumped(rescue._asdict()) + b"\n"
