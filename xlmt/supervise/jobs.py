# SPDX-License-Identifier: LGPL-2.1-or-later
"""The jobs on the disk, below /run/xlmt: what must outlive the supervisor and its workers.

A job is a file, `jobs/<life>.json`, from before its first step until after its last one. Its key
is the life that has ended, see `Record.life`. Whoever works on a job holds a lock on its byte of
the file `lock`.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from xlmt import files, locks, paths
from xlmt.supervise.policy import Job
from xlmt.text import guest

RUN = Path(paths.RUN)
_JOBS = RUN / "jobs"
_LOCK = RUN / "lock"
_FILE = re.compile(r"([0-9a-f-]{1,40})\.json")

_log = logging.getLogger("xlmt.supervise")


def make_folders() -> None:
    """Make what is missing. Raises OSError."""
    for folder in (RUN, _JOBS):
        folder.mkdir(mode=0o700, exist_ok=True)


# --- jobs ----------------------------------------------------------------------------------


def load(key: str) -> Job | None:
    """Return the unfinished job, None when there is none; what is no job is put aside.

    Raises OSError when it cannot be read just now, as without descriptors: then it stays.
    """
    file = _JOBS / f"{key}.json"
    try:
        return replace(Job.load(files.read_plain(file)), life=key)
    except FileNotFoundError:
        return None
    except (ValueError, files.NotPlainError) as e:
        _log.error("job file %s is not valid, renamed to %s.bad: %s", file, key, e)
        file.replace(file.with_suffix(".bad"))
        return None


def keep(job: Job) -> None:
    """Write the job to its file, or remove the file when nothing is left to do.

    When the disk is full the work goes on: only if it is killed then, something is lost.
    """
    if not job.pending:
        drop(job.key)
        return
    target = _JOBS / f"{job.key}.json"
    temporary = target.with_suffix(".new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(job.dump())
        temporary.replace(target)
    except OSError as e:
        _log.error("cannot save the job of %s: %s", guest(job.name, job.domid), e)


def drop(key: str) -> None:
    """Remove the job's file, if there is one."""
    with suppress(OSError):
        (_JOBS / f"{key}.json").unlink(missing_ok=True)


def peek(key: str) -> Job | None:
    """Return the job as far as it can be read."""
    with suppress(OSError, ValueError):
        return Job.load(files.read_plain(_JOBS / f"{key}.json"))
    return None


def unfinished() -> list[str]:
    """Return the keys of the jobs."""
    with suppress(FileNotFoundError):
        names = os.listdir(_JOBS)  # noqa: PTH208
        return [match[1] for name in names if (match := _FILE.fullmatch(name))]
    return []


# --- locks ---------------------------------------------------------------------------------


@contextmanager
def working_on(key: str) -> Iterator[bool]:
    """Hold the job's lock for the block; yields False, at once, when another process has it."""
    with _lock_file() as fd:
        yield locks.acquire(fd, start=_place(key), length=1)


def is_worked_on(key: str) -> bool:
    """Whether another process holds the job's lock."""
    with _lock_file() as fd:
        return locks.holder(fd, start=_place(key), length=1) is not None


@contextmanager
def _lock_file() -> Iterator[int]:
    fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _place(key: str) -> int:
    """Return the job's byte; should two share one, they only wait for each other."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
