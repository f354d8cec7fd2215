# SPDX-License-Identifier: LGPL-2.1-or-later
"""The repository's own files, and the tools that look at them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_SHEBANG = re.compile(r"#!.*\b(ba|da)?sh\b")


def files(*suffixes: str) -> list[Path]:
    """Return every file that git tracks or would add, relative to ROOT; those of the suffixes."""
    # git refuses to look into a checkout that belongs to another user, as CI likes to have it
    git = [tool("git"), "-c", f"safe.directory={ROOT}"]
    command = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = {Path(name) for name in done.stdout.split("\0") if name}
    chosen = (path for path in found if not suffixes or path.suffix in suffixes)
    return sorted(path for path in chosen if (ROOT / path).is_file())


def read(path: Path) -> str:
    """Return a file's text; what is not UTF-8 becomes replacement characters."""
    return (ROOT / path).read_text(errors="replace")


def shell_scripts() -> list[Path]:
    """Return what a shell runs, by its first line or by its name."""
    return [path for path in files() if path.suffix == ".sh" or _SHEBANG.match(read(path))]


def man_pages() -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / "man").iterdir())


def tool(name: str) -> str:
    """Return the path of a program, the one beside this Python first.

    Without it the test is skipped, or fails on CI, where everything has to be there.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=f"{beside}:{os.environ.get('PATH', os.defpath)}")
    if found:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed", pytrace=False)
    pytest.skip(f"{name} is not installed")


def must_pass(*command: str | Path) -> None:
    """Run a tool in ROOT; fail with what it printed unless it is content."""
    argv = [tool(str(command[0])), *map(str, command[1:])]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=540)
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()
        pytest.fail(f"{command[0]} exits with {done.returncode}:\n{said}", pytrace=False)
