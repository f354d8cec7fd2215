# SPDX-License-Identifier: LGPL-2.1-or-later
"""Linux as Debian 12 patches it: the archive, and checkpatch.pl, which no smaller package has."""

import shutil
import tarfile
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError
from tests.lab.release import BOOKWORM
from tests.lab.root import debootstrap

PACKAGE = "linux-source-6.1"
ARCHIVE = f"{PACKAGE}.tar.xz"
CHECKPATCH = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")


def linux_source() -> Path:
    """A folder with ARCHIVE and the files of CHECKPATCH; about a minute and 140 MB at first.

    Raises LabUnavailable when a tool or the privilege to make it is missing.
    """
    key = cache.digest(PACKAGE, *CHECKPATCH)
    return cache.entry("source", key, "fetching Linux' source (once, about a minute)", _fetch)


def _fetch(tmp: Path) -> None:
    packages = tmp / "packages"
    debootstrap("source", BOOKWORM.codename, packages, [PACKAGE], "--variant=extract")
    (packages / "usr/src" / ARCHIVE).rename(tmp / ARCHIVE)
    shutil.rmtree(packages)
    # One file after the other: the archive is too big to be looked through twice.
    with tarfile.open(tmp / ARCHIVE, "r|xz") as archive:
        for member in archive:
            name = Path(member.name).name
            if member.name.endswith(f"/scripts/{name}") and name in CHECKPATCH:
                archive.makefile(member, tmp / name)
    if missing := [name for name in CHECKPATCH if not (tmp / name).exists()]:
        raise LabError(f"{ARCHIVE} lacks {', '.join(missing)}")
