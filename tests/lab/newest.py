# SPDX-License-Identifier: LGPL-2.1-or-later
"""The newest kernel that Debian has for its stable release, from the backports, for dom0."""

import shutil
from pathlib import Path

from tests.lab import cache
from tests.lab.kernels import Choice
from tests.lab.release import TRIXIE
from tests.lab.root import DRIVERS, GUEST, debootstrap, in_root

SUITE = f"{TRIXIE.codename}-backports"
PACKAGES = tuple(f"linux-{what}-amd64/{SUITE}" for what in ("image", "headers"))
SCRIPT = GUEST / "newest-kernel.sh"


def newest_kernel(root: Path) -> Path:
    """A layer with the kernel and its headers: those that the archive had at the first call.

    Raises LabUnavailable when a tool or the privilege to make it is missing.
    """
    key = cache.digest(root.name, *PACKAGES, *DRIVERS, SCRIPT)
    label = f"fetching the newest kernel for {TRIXIE} (once, two minutes)"
    return cache.entry("newest-kernel", key, label, lambda tmp: _fetch(root, tmp), keep=2)


def _fetch(root: Path, tmp: Path) -> None:
    packages = tmp / "packages"
    extract = "--variant=extract"
    debootstrap("newest-kernel", TRIXIE.codename, packages, PACKAGES, extract, backports=True)
    (modules,) = (packages / "usr/lib/modules").iterdir()
    for what in DRIVERS:
        shutil.rmtree(modules / "kernel" / what, ignore_errors=True)
    in_root(root, SCRIPT, {tmp: "/layer"}, cache.folder() / "newest-kernel.log")
    shutil.rmtree(packages)


NEWEST = Choice(TRIXIE, newest_kernel)
