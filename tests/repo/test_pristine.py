# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `make test` decides: what its roots see of this machine, and what its summary says."""

import subprocess
from pathlib import Path

import pytest

from tests.lab.debian import lines
from tests.pristine.root import CERTIFICATES_INSIDE, copy_checkout, environment
from tests.pristine.summary import Run, read, table

RESULTS = """\
<testsuites><testsuite>
<testcase classname="tests.a" name="test_good"/>
<testcase classname="tests.a" name="test_bad"><failure message="assert 1 ==\n 2"/></testcase>
<testcase classname="tests.a" name="test_worse"><error message="no fixture"/></testcase>
<testcase classname="tests.a" name="test_skipped"><skipped message="no root"/></testcase>
</testsuite></testsuites>
"""


def test_a_run_is_read_with_its_failures() -> None:
    run = read("trixie", 1, 90.0, RESULTS)
    assert (run.passed, run.failed, run.skipped, run.good) == (1, 2, 1, False)
    assert run.failures == (
        "tests.a::test_bad - assert 1 == 2",
        "tests.a::test_worse - no fixture",
    )


def test_the_last_line_counts_all_runs() -> None:
    said = table([Run("lab", 0, passed=3), read("trixie", 1, 90.0, RESULTS)]).splitlines()
    assert said[0] == "lab         3 passed   0 failed   0 skipped    0.0 min  ok"
    assert said[1] == "trixie      1 passed   2 failed   1 skipped    1.5 min  FAILED"
    assert said[-1] == "4 passed, 2 failed, 1 skipped"


@pytest.mark.parametrize(
    "run",
    [
        Run("trixie", 2),  # nothing was installed
        Run("trixie", 0),  # nothing was tested
        Run("trixie", 1, passed=5),  # all passed, and yet
        read("trixie", 0, 1.0, None),
        read("trixie", 0, 1.0, RESULTS),
    ],
)
def test_a_run_that_did_not_go_well_counts_as_failed(run: Run) -> None:
    assert not run.good
    assert ", 0 failed" not in table([Run("lab", 0, passed=3), run]).splitlines()[-1]


def test_a_root_sees_how_to_reach_the_archives_and_little_else() -> None:
    ours = {
        "PIP_RETRIES": "7",
        "PIP_FIND_LINKS": "/opt/here",
        "XLMT_LAB_CACHE": "/opt/cache",
        "XLMT_STRIDE": "1",
        "PYTHONUNBUFFERED": "1",
        "CI": "true",
        "HOME": "/home",
        "PATH": "/opt/bin",
    }
    seen = environment(ours)
    assert seen["PIP_RETRIES"] == "7"
    assert seen["PIP_CERT"] == CERTIFICATES_INSIDE
    assert seen["CI"] == "true"
    assert seen["XLMT_STRIDE"] == "1"
    assert {"PIP_FIND_LINKS", "XLMT_LAB_CACHE", "PYTHONUNBUFFERED"}.isdisjoint(seen)
    assert seen["HOME"] == "/root"
    assert "/opt/bin" not in seen["PATH"]


def test_only_what_git_knows_comes_along(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "build").mkdir(parents=True)
    for name, text in {".gitignore": "/build\n", "kept": "", "gone": "", "build/made": ""}.items():
        (source / name).write_text(text)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", source, *words], check=True, timeout=60)
    (source / "gone").unlink()
    (source / "new").write_text("")
    copy_checkout(source, tmp_path / "copy")
    there = {path.name for path in (tmp_path / "copy").iterdir()}
    assert there == {".git", ".gitignore", "kept", "new"}


ROWS = [
    ["http://mirror/debian/", "bookworm", "main", "amd64"],
    ["http://mirror/debian/", "bookworm", "main", "i386"],
    ["http://mirror/debian/", "bookworm-updates", "main", "amd64"],
    ["http://mirror/security/", "bookworm-security", "main", "amd64"],
    ["http://elsewhere/", "nodistro", "main", "amd64"],
]


def test_another_release_is_fetched_from_this_machines_mirrors() -> None:
    assert lines("trixie", ROWS, "bookworm") == [
        "deb http://mirror/debian/ trixie main",
        "deb http://mirror/debian/ trixie-updates main",
        "deb http://mirror/security/ trixie-security main",
    ]


def test_a_release_that_is_not_stable_is_one_suite() -> None:
    assert lines("sid", ROWS, "bookworm") == ["deb http://mirror/debian/ sid main"]


def test_a_machine_that_is_no_debian_has_no_mirrors() -> None:
    assert lines("trixie", [], "fedora") == []
