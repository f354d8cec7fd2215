# SPDX-License-Identifier: LGPL-2.1-or-later
"""python -m tests.headers [RELEASE...]: the module against the headers of Debian's kernels.

In a fresh root of each release, for its own kernel and the newest of its backports, for amd64 and,
by a cross compiler, for arm64. Exit status 0 when it was built for all of them without a warning.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import say
from tests.lab.debian import STABLE
from tests.pristine.program import end_with
from tests.pristine.root import REPO, fresh, run

SCRIPT = (Path(__file__).parent / "build.sh").relative_to(REPO)


def main(releases: Sequence[str]) -> int:
    failed = [release for release in releases or STABLE if not built(release)]
    say(f"the module and Debian's headers: {'FAILED' if failed else 'ok'} {' '.join(failed)}")
    return int(bool(failed))


def built(release: str) -> bool:
    say(f"the module and the headers of {release} and its backports")
    with fresh(release) as root:
        return run(root, ["sh", str(SCRIPT), release]) == 0


if __name__ == "__main__":
    end_with(main, "No root of Debian can be made here")
