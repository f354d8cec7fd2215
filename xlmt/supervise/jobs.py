# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the supervisor and its helpers keep, below /run/xlmt, what must outlive them.

A case is a file, `cases/<uuid>.json`, from before its first step until after its last one. Who
works on a guest's case holds a lock on that guest's byte of the file `lock`.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xlmt import locks
from xlmt.supervise.policy import Case

RUN = Path("/run/xlmt")
_CASES = RUN / "cases"
_LOCK = RUN / "lock"
_CASE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.json")

_log = logging.getLogger("xlmt.supervise")


def make_folders() -> None:
    """Make what is missing. Raises OSError."""
    for folder in (RUN, _CASES):
        folder.mkdir(mode=0o700, exist_ok=True)


# --- cases ---------------------------------------------------------------------------------


def load(uuid: str) -> Case | None:
    """Return the guest's open case, None when there is none. Raises OSError."""
    file = _CASES / f"{uuid}.json"
    try:
        return Case.load(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as e:
        _log.error("the case of %s makes no sense and is put aside: %s", uuid, e)
        file.replace(file.with_suffix(".bad"))
        return None


def keep(case: Case) -> None:
    """Write the case down, or take it away when nothing is left to do.

    Without room for it the work goes on: it is only then that being killed loses anything.
    """
    if not case.pending:
        drop(case.uuid)
        return
    target = _CASES / f"{case.uuid}.json"
    temporary = target.with_suffix(".new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(case.dump())
        temporary.replace(target)
    except OSError as e:
        _log.error("domain %d (%s): its case cannot be written down: %s", case.domid, case.name, e)


def drop(uuid: str) -> None:
    """Take a case away, if there is one."""
    with suppress(OSError):
        (_CASES / f"{uuid}.json").unlink(missing_ok=True)


def open_cases() -> list[str]:
    """Return the uuids of the guests that there is a case of."""
    with suppress(FileNotFoundError):
        names = os.listdir(_CASES)  # noqa: PTH208
        return [match[1] for name in names if (match := _CASE.fullmatch(name))]
    return []


# --- locks ---------------------------------------------------------------------------------


@contextmanager
def working_on(uuid: str) -> Iterator[bool]:
    """Hold the guest's lock for the block; yields False, at once, when somebody else has it."""
    fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield locks.acquire(fd, start=_place(uuid), length=1)
    finally:
        os.close(fd)


def _place(uuid: str) -> int:
    """Return the guest's byte; should two share one, they only wait for each other."""
    return int.from_bytes(hashlib.sha256(uuid.encode()).digest()[:7], "big")
