# SPDX-License-Identifier: LGPL-2.1-or-later
"""The releases of Debian that dom0 is made of; Xen, Linux and Python are each release's own."""

import os
from dataclasses import dataclass

from tests.lab.errors import LabError

VARIABLE = "XLMT_LAB_RELEASE"


@dataclass(frozen=True)
class Release:
    """A release of Debian."""

    codename: str
    number: int

    def __str__(self) -> str:
        return f"Debian {self.number}"


TRIXIE = Release("trixie", 13)
BOOKWORM = Release("bookworm", 12)
RELEASES = (TRIXIE, BOOKWORM)  # the usual one first


def named(text: str) -> Release:
    """The release of this codename or number. Raises LabError for another one."""
    for release in RELEASES:
        if text in (release.codename, str(release.number)):
            return release
    known = " or ".join(f"{release.codename} ({release.number})" for release in RELEASES)
    raise LabError(f"no release {text!r}: {known}")


def chosen() -> Release:
    """The release that $XLMT_LAB_RELEASE names, by default the newest. Raises LabError."""
    return named(os.environ.get(VARIABLE) or RELEASES[0].codename)
