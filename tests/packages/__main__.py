# SPDX-License-Identifier: LGPL-2.1-or-later
"""python -m tests.packages build | test | try [RELEASE...]

build  the packages of each release, into packages/RELEASE
test   the same, and each installed, tried and purged
try    the same, in short, with those that the lab installs, built without the unit tests
"""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import say
from tests.lab.debian import STABLE
from tests.packages.build import HERE, REPOSITORY, built, packages_of
from tests.pristine.program import end_with
from tests.pristine.root import PACKAGES, REPO, fresh, run

RESULTS = REPO / "packages"


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["build" | "test" | "try" as what, *releases]:
            # All of them, whatever fails on the way.
            return max([_status(what, release) for release in releases or STABLE])
    sys.stderr.write(f"usage: {(__doc__ or '').splitlines()[0]}\n")
    return 2


def _status(what: str, release: str) -> int:
    begin = time.monotonic()
    match what:
        case "build":
            done = build(release)
        case "test":
            done = build(release) and check(release, RESULTS / release)
        case _:
            done = check(release, packages_of(release), "short")
    minutes = (time.monotonic() - begin) / 60
    say(f"packages of {release}: {'ok' if done else 'FAILED'}, {minutes:.1f} min")
    return 0 if done else 1


def build(release: str) -> bool:
    """Build them; keep them in RESULTS."""
    say(f"the packages of {release}: build")
    return built(release, RESULTS / release)


def check(release: str, packages: Path, *options: str) -> bool:
    """Install, try and purge these packages."""
    say(f"the packages of {release}: install, try, purge")
    with fresh(release, PACKAGES) as root:
        shutil.copytree(packages, root / REPOSITORY)
        return run(root, ["sh", str(HERE / "check.sh"), f"/{REPOSITORY}", *options]) == 0


if __name__ == "__main__":
    end_with(main, "The packages cannot be built here")
