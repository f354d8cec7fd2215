# SPDX-License-Identifier: LGPL-2.1-or-later
"""python -m tests.packages build [RELEASE...] | test [RELEASE...]

build  the packages of each release, into packages/RELEASE
test   the same, and each installed, tried and purged; exit status 0 when all of that went well
"""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import say
from tests.lab.debian import STABLE
from tests.packages.build import REPOSITORY, built
from tests.pristine.program import end_with
from tests.pristine.root import PACKAGES, REPO, fresh, run

HERE = Path(__file__).parent.relative_to(REPO)
RESULTS = REPO / "packages"
TOOLS = ("build-essential", "lintian")


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["build" | "test" as what, *releases]:
            failed = [r for r in releases or STABLE if not _all_went_well(r, what == "test")]
            return 1 if failed else 0
    sys.stderr.write(f"usage: {(__doc__ or '').splitlines()[0]}\n")
    return 2


def _all_went_well(release: str, tested: bool) -> bool:
    begin = time.monotonic()
    done = build(release) and (not tested or check(release))
    minutes = (time.monotonic() - begin) / 60
    say(f"packages of {release}: {'ok' if done else 'FAILED'}, {minutes:.1f} min")
    return done


def build(release: str) -> bool:
    """Build them; keep them in RESULTS."""
    say(f"the packages of {release}: build")
    return built(release, HERE / "build.sh", RESULTS / release, TOOLS)


def check(release: str) -> bool:
    """Install, try and purge what build() has made."""
    say(f"the packages of {release}: install, try, purge")
    with fresh(release, PACKAGES) as root:
        shutil.copytree(RESULTS / release, root / REPOSITORY)
        return run(root, ["sh", str(HERE / "check.sh"), f"/{REPOSITORY}"]) == 0


if __name__ == "__main__":
    end_with(main, "The packages cannot be built here")
