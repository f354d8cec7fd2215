# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's own checkpatch.pl is content with our modules. No VM."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab.errors import LabUnavailable
from tests.lab.product import KERNEL_SOURCES, REPO
from tests.lab.source import linux_source
from tests.repo.tree import files, tool

#: Only --strict has something against this.
BAD = """\
// SPDX-License-Identifier: GPL-2.0-only
int f(int *x)
{
\treturn x == NULL;
}
"""

#: What has to be as it is: a module out of the tree knows versions, TRACE_EVENT() looks like that.
IGNORED = {
    "compat.h": "LINUX_VERSION_CODE,CONSTANT_COMPARISON",
    "trace.h": "OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT",
    "mtwcrash.c": "AVOID_BUG",  # which is what it is for
}


@pytest.fixture(scope="module")
def checkpatch() -> list[str]:
    """The command line, without the files to look at."""
    try:
        script = linux_source() / "checkpatch.pl"
    except LabUnavailable as lack:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the lab is unavailable: {lack}")
    return [tool("perl"), str(script), "--strict", "--no-tree", "--terse", "--no-summary"]


def sources() -> list[Path]:
    """What of ours goes into a kernel module."""
    return [path for path in files(".c", ".h") if str(path.parent) in KERNEL_SOURCES]


def said(command: list[str], path: Path) -> str:
    ignore = [f"--ignore={IGNORED[path.name]}"] if path.name in IGNORED else []
    done = subprocess.run(
        [*command, *ignore, "-f", str(path)], cwd=REPO, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_checkpatch_is_content(checkpatch: list[str]) -> None:
    assert "".join(said(checkpatch, path) for path in sources()) == ""


def test_checkpatch_really_looks(checkpatch: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.c"
    bad.write_text(BAD)
    assert "Comparison to NULL" in said(checkpatch, bad)
