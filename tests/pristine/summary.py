# SPDX-License-Identifier: LGPL-2.1-or-later
"""What several runs of pytest say together. Pure: of the XML that each has written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree


@dataclass(frozen=True)
class Run:
    """One run of pytest: its counts, and the tests that failed, each with its first line."""

    name: str
    status: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it ended well, and something was tested."""
        return self.status == 0 and self.failed == 0 and self.passed > 0


def read(name: str, status: int, seconds: float, xml: str | None) -> Run:
    """A run that ended with `status`; without its XML nothing was tested."""
    if not xml:
        return Run(name, status, seconds=seconds)
    cases = list(ElementTree.fromstring(xml).iter("testcase"))
    bad = [case for case in cases if _has(case, "failure") or _has(case, "error")]
    skipped = [case for case in cases if _has(case, "skipped") and case not in bad]
    passed = len(cases) - len(bad) - len(skipped)
    failures = tuple(map(_failure, bad))
    return Run(name, status, passed, len(bad), len(skipped), seconds, failures)


def _has(case: ElementTree.Element, what: str) -> bool:
    return case.find(what) is not None


def _failure(case: ElementTree.Element) -> str:
    what = case.find("failure")
    what = case.find("error") if what is None else what
    said = "" if what is None else re.sub(r"\s+", " ", what.get("message", ""))[:200]
    return f"{case.get('classname')}::{case.get('name')} - {said}"


def table(runs: Sequence[Run]) -> str:
    """A line for each run, what failed, and a closing line with the counts of all together."""
    width = max(len(run.name) for run in runs)
    lines = [
        f"{run.name:{width}}  {run.passed:5} passed {run.failed:3} failed {run.skipped:3} skipped"
        f"  {run.seconds / 60:5.1f} min  {_verdict(run)}"
        for run in runs
    ]
    lines += [f"FAILED {run.name}: {failure}" for run in runs for failure in run.failures]
    passed, skipped = sum(run.passed for run in runs), sum(run.skipped for run in runs)
    # A run that did not even get to its tests must not read as none that failed.
    failed = sum(run.failed or (not run.good) for run in runs)
    return "\n".join([*lines, f"{passed} passed, {failed} failed, {skipped} skipped"])


def _verdict(run: Run) -> str:
    if run.good:
        return "ok"
    return "FAILED" if run.failed else f"FAILED with exit status {run.status}"
