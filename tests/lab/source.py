# SPDX-License-Identifier: LGPL-2.1-or-later
"""Linux as Debian patches it: the archive, and checkpatch.pl, which no smaller package has."""

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError
from tests.lab.release import BOOKWORM, TRIXIE, Release
from tests.lab.root import debootstrap


@dataclass(frozen=True)
class Source:
    """The source package of a release, or of its backports."""

    release: Release
    package: str
    backports: bool = False


OF_BOOKWORM = Source(BOOKWORM, "linux-source-6.1")
#: What kernel/upstream is for. Its package ends when the backports have a newer one.
NEWEST_OF_TRIXIE = Source(TRIXIE, "linux-source-7.3", backports=True)
CHECKPATCH = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")


def linux_source(source: Source = OF_BOOKWORM) -> Path:
    """A folder with the archive and the files of CHECKPATCH; a minute and 140 MB at first.

    Raises LabUnavailable when a tool or the privilege to make it is missing.
    """
    key = cache.digest(source.package, *CHECKPATCH)
    label = "fetching Linux' source (once, about a minute)"
    return cache.entry("source", key, label, lambda tmp: _fetch(source, tmp))


def _fetch(source: Source, tmp: Path) -> None:
    packages = tmp / "packages"
    name, codename = source.package, source.release.codename
    wanted = f"{name}/{codename}-backports" if source.backports else name
    extract = "--variant=extract"
    debootstrap("source", codename, packages, [wanted], extract, backports=source.backports)
    file = tmp / f"{name}.tar.xz"
    (packages / "usr/src" / file.name).rename(file)
    shutil.rmtree(packages)
    # One file after the other: the archive is too big to be looked through twice.
    with tarfile.open(file, "r|xz") as archive:
        for member in archive:
            name = Path(member.name).name
            if member.name.endswith(f"/scripts/{name}") and name in CHECKPATCH:
                archive.makefile(member, tmp / name)
    if missing := [name for name in CHECKPATCH if not (tmp / name).exists()]:
        raise LabError(f"{file.name} lacks {', '.join(missing)}")
