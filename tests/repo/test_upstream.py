# SPDX-License-Identifier: LGPL-2.1-or-later
"""Patches for other projects (kernel/upstream) are in the form that these take."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, files, read

FOLDER = Path("kernel/upstream")
PATCHES = [path for path in files(".patch") if path.is_relative_to(FOLDER)]


def test_there_are_patches() -> None:
    assert PATCHES


@pytest.mark.parametrize("path", PATCHES, ids=str)
def test_a_patch_has_a_message_as_the_kernel_wants_it(path: Path) -> None:
    message, _, change = read(path).partition("\n---\n")
    subject, *lines = message.splitlines()
    assert re.fullmatch(r"Subject: \[PATCH\] [\w/-]+: [A-Z].{10,60}[^.]", subject)
    assert lines[0] == ""
    assert [line for line in lines if len(line) > 75] == []
    assert re.search(r'^Fixes: [0-9a-f]{12} \(".+"\)$', message, re.MULTILINE)
    assert change.lstrip().startswith("drivers/")


@pytest.mark.parametrize("path", PATCHES, ids=str)
def test_a_patch_is_well_formed(path: Path) -> None:
    """Its hunks have as many lines as they say, and its summary counts them."""
    done = subprocess.run(
        ["git", "apply", "--numstat", str(ROOT / path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    added, removed, name = done.stdout.split()
    assert f" {name} | " in read(path)
    assert f" {added} insertions(+), {removed} deletions(-)" in read(path)
