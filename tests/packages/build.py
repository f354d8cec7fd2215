# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's packages, built by build.sh in a fresh root that has what debian/control asks for."""

import re
import shutil
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError
from tests.pristine.root import REPO, fresh, run

HERE = Path(__file__).parent.relative_to(REPO)
#: Where the scripts leave and find the packages, inside of a root.
REPOSITORY = "srv/repository"
TOOLS = ("build-essential", "lintian")
#: What of the checkout makes a difference to them, or to the source archive beside them.
SOURCES = (
    *("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in", "Makefile"),
    *("xlmt", "cdefs", "hooks", "man", "kernel", "docs", "debian", "tests/packages"),
)


def packages_of(release: str) -> Path:
    """A folder with the packages and apt's index of them, built without the unit tests.

    Raises LabError with the build's output when something does not build.
    """
    key = cache.digest(release, *(REPO / name for name in SOURCES))

    def make(target: Path) -> None:
        if not built(release, target, "nocheck"):
            raise LabError(f"the packages of {release} do not build")

    return cache.entry("packages", key, f"building the packages of {release}", make, keep=4)


def built(release: str, target: Path, *options: str) -> bool:
    """Have `target` be what build.sh leaves: apt's repository, a source archive, a wheel.

    False: it has failed, and has said why. What was in `target` stays then.
    """
    needed = build_depends((REPO / "debian/control").read_text())
    with fresh(release, (*TOOLS, *needed)) as root:
        if run(root, ["sh", str(HERE / "build.sh"), f"/{REPOSITORY}", *options]):
            return False
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(root / REPOSITORY, target)
    return True


def build_depends(control: str) -> list[str]:
    """The names of what debian/control has Build-Depends on; debhelper by its own."""
    field = re.search(r"^Build-Depends:(.*\n(?: .*\n)*)", control, re.MULTILINE)
    if not field:
        raise LabError("debian/control has no Build-Depends")
    names = [words.split()[0] for words in field[1].split(",") if words.split()]
    return [name.replace("debhelper-compat", "debhelper") for name in names]
