# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every linter is a test. Each looks at what git knows, so that build leftovers do not count."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.product import KERNEL_SOURCES
from tests.repo.tree import ROOT, files, man_pages, must_pass, read, shell_scripts, tool

#: -O2, not -fsyntax-only: the analyzer and half of the warnings look at optimized code.
CFLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fanalyzer", "-c", "-o", "/dev/null")
WIDEST = 100


def test_ruff_check_is_content() -> None:
    must_pass("ruff", "check", *files(".py", ".pyi"))


def test_ruff_format_would_change_nothing() -> None:
    must_pass("ruff", "format", "--check", *files(".py", ".pyi"))


def test_mypy_strict_is_content() -> None:
    must_pass("mypy", "--strict", *files(".py", ".pyi"))


def test_import_contracts_hold() -> None:
    must_pass("lint-imports", "--no-cache")


def test_shellcheck_is_content() -> None:
    # SC2187 says that busybox's ash is checked as dash, which is what we want
    must_pass("shellcheck", "--external-sources", "--exclude=SC2187", *shell_scripts())


def test_mandoc_is_content() -> None:
    must_pass("mandoc", "-Tlint", "-Wwarning", *man_pages())


@pytest.mark.parametrize("source", sorted(path.name for path in (ROOT / "hooks").glob("*.c")))
def test_gcc_and_its_analyzer_are_content(source: str) -> None:
    must_pass("gcc", *CFLAGS, "-Ihooks", f"hooks/{source}")


def test_no_line_of_a_kernel_module_is_too_wide() -> None:
    """As checkpatch has it, which needs the lab's sources: a line that ends in a string may be."""
    too_wide = [
        f"{path}:{number}"
        for path in files(".c", ".h")
        if str(path.parent) in KERNEL_SOURCES
        for number, line in enumerate(read(path).splitlines(), 1)
        if len(line.expandtabs(8)) > WIDEST and not re.search(r'"[,;)]*$', line)
    ]
    assert not too_wide


def test_the_analyzer_really_runs(tmp_path: Path) -> None:
    bad = tmp_path / "bad.c"
    bad.write_text("#include <stdlib.h>\nvoid f(void *p);\nvoid f(void *p) { free(p); free(p); }\n")
    done = subprocess.run([tool("gcc"), *CFLAGS, bad], capture_output=True, text=True, check=False)
    assert "analyzer-double-free" in done.stderr


def test_the_files_that_are_linted_are_found() -> None:
    assert Path(".ci/run") in shell_scripts()
    assert any(path.suffix == ".sh" for path in shell_scripts())
    assert Path("xlmt/nodes/plan.py") in files(".py")
    assert Path("hooks/interposer.c") in files(".c")
    assert Path("man/xlmt.8") in man_pages()
