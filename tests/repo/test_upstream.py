# SPDX-License-Identifier: LGPL-2.1-or-later
"""Patches for other projects (kernel/upstream) are in the form that these take."""

import re
import subprocess
from email import message_from_string
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, files, read

FOLDER = Path("kernel/upstream")
#: Alone, or a folder for a series, whose first is the letter to the others.
SINGLE = [path for path in files(".patch") if path.parent == FOLDER]
SERIES = [path for path in files(".patch") if FOLDER in path.parents and path not in SINGLE]
LETTERS = [path for path in SERIES if path.name == "0000-cover-letter.patch"]
PATCHES = [path for path in (*SINGLE, *SERIES) if path not in LETTERS]


def message(path: Path) -> tuple[str, str]:
    """The subject, and what is below it up to the summary of the change."""
    mail = message_from_string(read(path))
    text, _, _ = str(mail.get_payload()).partition("\n---\n")
    return re.sub(r"\n(?= )", "", mail["Subject"]), text


def test_there_are_patches() -> None:
    assert SINGLE
    assert len(LETTERS) == 1


@pytest.mark.parametrize("path", PATCHES, ids=str)
def test_a_patch_has_a_message_as_the_kernel_wants_it(path: Path) -> None:
    subject, text = message(path)
    assert re.fullmatch(r"\[PATCH( \d/\d)?\] [\w/-]+: [A-Z].{10,60}[^.]", subject)
    assert [line for line in text.splitlines() if len(line) > 75] == []
    if path in SINGLE:
        assert re.search(r'^Fixes: [0-9a-f]{12} \(".+"\)$', text, re.MULTILINE)
    else:
        # A person signs, with a name; the form is what can be prepared.
        assert text.rstrip().endswith("\nSigned-off-by: Your Name <you@example.org>")


@pytest.mark.parametrize("path", LETTERS, ids=str)
def test_the_letter_of_a_series_has_every_patch(path: Path) -> None:
    series = sorted(patch for patch in PATCHES if patch.parent == path.parent)
    subjects = [message(patch)[0] for patch in series]
    last = len(series)
    assert [subject.split("]")[0] for subject in subjects] == [
        f"[PATCH {number}/{last}" for number in range(1, last + 1)
    ]
    subject, text = message(path)
    assert subject.startswith(f"[PATCH 0/{last}] ")
    assert [line for line in text.splitlines() if len(line) > 75] == []
    told = [f"  {subject.split('] ')[1]}" for subject in subjects]
    assert [line for line in text.splitlines() if line in told] == told


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
    rows = [line.split() for line in done.stdout.splitlines()]
    names = [name for _, _, name in rows]
    summary = read(path).partition("\n---\n")[2].partition("\ndiff ")[0]
    for name in names:
        assert re.search(rf"[ /]{re.escape(Path(name).name)} +\| ", summary)
    added, removed = (sum(int(row[column]) for row in rows) for column in (0, 1))
    counted = re.search(r"(\d+) insertions?\(\+\)(?:, (\d+) deletions?\(-\))?", summary)
    assert counted
    assert (int(counted[1]), int(counted[2] or 0)) == (added, removed)
