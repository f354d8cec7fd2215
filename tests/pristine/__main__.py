# SPDX-License-Identifier: LGPL-2.1-or-later
"""python -m tests.pristine test [RELEASE...] | run RELEASE COMMAND...

test  the tiers without a VM in a fresh root of each release, then Debian's packages, then the lab,
      which has them installed; one table at the end, and exit status 0 when all of it passed. One
      after the other: beside a VM, on two processors, the deadlines of either would decide about
      the other.
run   a command in a fresh root, in its copy of the checkout
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.cache import say
from tests.lab.debian import STABLE
from tests.lab.errors import LabError
from tests.pristine.program import end_with
from tests.pristine.root import CHECKOUT, REPO, fresh, run
from tests.pristine.summary import Run, read, table

XML = "results.xml"
LAB = ("-m", "not long", "tests/lab")


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["test", *releases]:
            return test(releases or STABLE)
        case ["run", release, *command] if command:
            with fresh(release) as root:
                return run(root, command)
    sys.stderr.write(f"usage: {(__doc__ or '').splitlines()[0]}\n")
    return 2


def test(releases: Sequence[str]) -> int:
    """Run all there is, whatever fails on the way."""
    runs = [*map(tiers, releases), *map(packages, releases), lab()]
    sys.stdout.write(f"\n{table(runs)}\n")
    return 0 if all(run.good for run in runs) else 1


def tiers(release: str) -> Run:
    """The tiers without a VM, in a fresh root."""
    say(f"the tests without a VM, in a fresh root of {release}")
    try:
        with fresh(release) as root:
            xml = root / CHECKOUT.lstrip("/") / XML
            argv = ["make", "test-tiers", f"PYTEST=--junitxml={XML}"]
            return measured(release, xml, lambda: run(root, argv))
    except LabError as error:
        say(str(error))
        return Run(release, 1)


def packages(release: str) -> Run:
    """Debian's packages, which has a script in place of pytest: it passes or fails as a whole."""
    argv = [sys.executable, "-m", "tests.packages", "try", release]
    begin = time.monotonic()
    status = subprocess.run(argv, cwd=REPO, check=False).returncode
    lasted = time.monotonic() - begin
    return Run(f"packages of {release}", status, passed=int(status == 0), seconds=lasted)


def lab() -> Run:
    """The lab's short tests, on this machine, which has a cache of what is slow to make."""
    say("the tests in the lab")
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / XML
        argv = [sys.executable, "-m", "pytest", f"--junitxml={xml}", *LAB]
        return measured("lab", xml, lambda: subprocess.run(argv, cwd=REPO, check=False).returncode)


def measured(name: str, xml: Path, work: Callable[[], int]) -> Run:
    begin = time.monotonic()
    status = work()
    text = xml.read_text() if xml.exists() else None
    return read(name, status, time.monotonic() - begin, text)


if __name__ == "__main__":
    end_with(main, "No pristine root can be made here")
