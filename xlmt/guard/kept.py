# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of the guard on the disk: kept over reboots, changed by one at a time."""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xlmt import files, paths
from xlmt.errors import TimedOutError, UnreadableError
from xlmt.guard.settings import Settings

_LOCK_S = 5.0


def load() -> Settings:
    """Return the settings; nobody has made any, the guard is off. Raises UnreadableError."""
    try:
        return Settings.load(files.read_plain(paths.GUARD))
    except FileNotFoundError:
        return Settings()
    except OSError as e:
        raise UnreadableError(f"cannot read {paths.GUARD}: {e.strerror}") from None
    except ValueError as e:
        raise UnreadableError(
            f"{paths.GUARD} is not valid: {e}; to write it anew: xlmt guard on, or off"
        ) from None


def switch(names: Iterable[str], *, on: bool) -> Settings:
    """Change the settings of these guests, or of all without names; return all settings.

    What is not valid is replaced when all guests are meant. Raises UnreadableError, OSError.
    """
    wanted = frozenset(names)
    folder = Path(paths.GUARD).parent
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(folder):
        before = load() if wanted else Settings()
        after = before.switched(wanted, on=on)
        files.write_whole(paths.GUARD, after.dump())
    return after


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for the block. Raises TimedOutError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + _LOCK_S
        while not _lock(fd):
            if time.monotonic() > until:
                raise TimedOutError(f"another process has {folder} locked; see: fuser {folder}")
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
