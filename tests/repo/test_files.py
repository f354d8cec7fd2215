# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds for every file: a licence, a size one can read."""

import ast
import re
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, files, read

#: What becomes part of a kernel.
KERNEL_SOURCES = (Path("kernel"), Path("tests/lab/kmod"), Path("tests/lab/guest/kernel"))
#: Whose C is compiled together with the module's own.
MODEL = Path("tests/model")
#: The texts of licences, and files whose form has no place for a comment.
UNLICENSED = {
    *map(Path, ("LICENSE", "kernel/LICENSE", ".gitignore", "debian/source/format")),
    *map(Path, ("debian/changelog", "debian/copyright")),
    *map(Path, ("debian/xlmt.docs", "debian/xen-mtwatch-dkms.manpages")),
}

LONGEST_MODULE = 350
LONGEST_FUNCTION = 40
#: "file" or "file:function": why it may be longer.
LONGER: dict[str, str] = {}


def texts() -> list[Path]:
    """Every file with something in it that people read."""
    return [path for path in files() if b"\0" not in (ROOT / path).read_bytes()]


def lacks_licence(path: Path, text: str) -> bool:
    if path in UNLICENSED or path.suffix in {".json", ".patch"} or not text:
        return False
    module = any(path.is_relative_to(folder) for folder in KERNEL_SOURCES)
    module |= path.is_relative_to(MODEL) and path.suffix in {".c", ".h"}
    licence = "GPL-2.0-only" if module else "LGPL-2.1-or-later"
    spdx = re.compile(
        rf"SPDX-License-Identifier: {re.escape(licence)}(?![\w.+-])(?! (OR|AND|WITH))"
    )
    return not any(spdx.search(line) for line in text.splitlines()[:3])


def test_every_file_names_its_licence() -> None:
    without = [str(path) for path in texts() if lacks_licence(path, read(path))]
    assert not without


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "x = 1\n"),
        ("a.py", "\n\n\n# SPDX-License-Identifier: LGPL-2.1-or-later\n"),
        ("a.py", "# SPDX-License-Identifier: GPL-2.0-only\n"),
        ("kernel/a.c", "/* SPDX-License-Identifier: LGPL-2.1-or-later */\n"),
        ("kernel/a.c", "/* SPDX-License-Identifier: GPL-2.0-only OR MIT */\n"),
        ("tests/lab/kmod/Kbuild", "# SPDX-License-Identifier: LGPL-2.1-or-later\n"),
    ],
)
def test_a_missing_or_wrong_licence_is_noticed(name: str, text: str) -> None:
    assert lacks_licence(Path(name), text)


def too_long(path: Path) -> list[str]:
    """The module and its functions that are over the limit; signatures do not count."""
    text = read(path)
    sizes = {str(path): (len(text.splitlines()), LONGEST_MODULE)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.body[-1].end_lineno or 0) - node.body[0].lineno + 1
            sizes[f"{path}:{node.name}"] = (lines, LONGEST_FUNCTION)
    return [what for what, (lines, limit) in sizes.items() if lines > limit]


def long_ones() -> set[str]:
    product = (path for path in files(".py") if path.parts[0] == "xlmt")
    return {what for path in product for what in too_long(path)}


def test_modules_and_functions_are_short() -> None:
    assert long_ones() - set(LONGER) == set()


def test_every_exception_from_that_is_still_needed() -> None:
    assert set(LONGER) - long_ones() == set()
