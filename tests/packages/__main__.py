# SPDX-License-Identifier: LGPL-2.1-or-later
"""python -m tests.packages build [RELEASE...] | test [RELEASE...]

build  the packages of each release, into packages/RELEASE
test   the same, and each installed, tried and purged; exit status 0 when all of that went well
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import say
from tests.lab.debian import STABLE
from tests.lab.errors import LabError
from tests.pristine.root import PACKAGES, REPO, fresh, run

HERE = Path(__file__).parent.relative_to(REPO)
RESULTS = REPO / "packages"
#: Where the scripts leave and find the packages, inside of a root.
REPOSITORY = "srv/repository"
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
    needed = build_depends((REPO / "debian/control").read_text())
    with fresh(release, (*TOOLS, *needed)) as root:
        if run(root, ["sh", str(HERE / "build.sh"), f"/{REPOSITORY}"]):
            return False
        target = RESULTS / release
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(root / REPOSITORY, target)
    return True


def check(release: str) -> bool:
    """Install, try and purge what build() has made."""
    say(f"the packages of {release}: install, try, purge")
    with fresh(release, PACKAGES) as root:
        shutil.copytree(RESULTS / release, root / REPOSITORY)
        return run(root, ["sh", str(HERE / "check.sh"), f"/{REPOSITORY}"]) == 0


def build_depends(control: str) -> list[str]:
    """The names of what debian/control has Build-Depends on; debhelper by its own."""
    field = re.search(r"^Build-Depends:(.*\n(?: .*\n)*)", control, re.MULTILINE)
    if not field:
        raise LabError("debian/control has no Build-Depends")
    names = [words.split()[0] for words in field[1].split(",") if words.split()]
    return [name.replace("debhelper-compat", "debhelper") for name in names]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (LabError, subprocess.SubprocessError) as error:
        sys.exit(f"The packages cannot be built here: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
