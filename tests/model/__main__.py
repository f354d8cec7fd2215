# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python -m tests.model [SECONDS]`: run it for so long under each sanitizer, on all processors.

`python -m tests.model mutants [SECONDS]`: take one guard after the other out of the module, and see
that the model finds it.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.model.build import HERE, MODULE, Model, Sanitizer, build
from tests.model.mutants import MUTANTS, Mutant, mutated

#: Where builds are kept, so that a failing seed's command line is good afterwards.
BUILDS = HERE.parents[1] / ".cache" / "model"
#: Seeds of one process are far from those of the others.
STRIDE = 10_000_000


def search(model: Model, seconds: int, first: int) -> list[subprocess.Popen[str]]:
    jobs = len(os.sched_getaffinity(0))
    return [
        subprocess.Popen(
            model.command("-t", str(seconds), "-s", str(first + job * STRIDE), "-f", "5"),
            stdout=subprocess.PIPE,
            text=True,
        )
        for job in range(jobs)
    ]


def hunt(seconds: int) -> int:
    first = int(time.time())
    failed = False
    for sanitizer in Sanitizer:
        model = build(BUILDS / sanitizer, sanitizer)
        for job in search(model, seconds, first):
            said, _ = job.communicate()
            print(f"{sanitizer}: {said}", end="")
            failed = failed or job.returncode != 0
    return int(failed)


def found(folder: Path, sources: Path, seconds: int, mutant: Mutant) -> str:
    first = mutant.sanitizer
    for sanitizer in (first, *(other for other in Sanitizer if other is not first)):
        model = build(folder / sanitizer, sanitizer, sources)
        done = subprocess.run(
            model.command("-t", str(seconds), *mutant.options),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and mutant.says in done.stderr:
            lines = [
                line for line in done.stderr.splitlines() if "FAIL" in line or "SUMMARY" in line
            ]
            seed = done.stdout.partition(" -s ")[2].split()[0]
            given = " ".join([seed, *mutant.options])
            return f"{sanitizer}, seed {given}: {lines[-1] if lines else done.stdout}"
    return ""


def try_mutants(seconds: int, only: Sequence[str]) -> int:
    missed = 0
    for mutant in MUTANTS:
        if only and not any(word in mutant.name for word in only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            sources = mutated(MODULE, mutant, Path(folder) / "kernel")
            how = found(Path(folder), sources, seconds, mutant)
        missed += not how
        print(f"{mutant.name}: {how or 'NOT FOUND'}", flush=True)
    print(f"{missed} mutants were not found")
    return int(missed > 0)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["mutants"]:
        numbers = [int(word) for word in arguments[1:] if word.isdigit()]
        return try_mutants(
            numbers[0] if numbers else 60, [w for w in arguments[1:] if not w.isdigit()]
        )
    return hunt(int(arguments[0]) if arguments else 600)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
