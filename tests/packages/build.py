# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's packages, built by a script in a fresh root that has what debian/control asks for."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.lab.errors import LabError
from tests.pristine.root import REPO, fresh, run

#: Where the scripts leave and find the packages, inside of a root.
REPOSITORY = "srv/repository"


def built(release: str, script: Path, target: Path, tools: Sequence[str]) -> bool:
    """Run the script, of the checkout, and have `target` be what it has left in REPOSITORY.

    False: it has failed, and has said why. What was in `target` stays then.
    """
    needed = build_depends((REPO / "debian/control").read_text())
    with fresh(release, (*tools, *needed)) as root:
        if run(root, ["sh", str(script), f"/{REPOSITORY}"]):
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
