# SPDX-License-Identifier: LGPL-2.1-or-later
"""What builds packages and the lab's own copy agrees with what it builds from."""

import re
from pathlib import Path

from tests.lab.product import SOURCES
from tests.packages.build import build_depends
from tests.repo.tree import ROOT, files, read
from xlmt import built

RULES = read(Path("debian/rules"))


def test_all_that_the_build_reads_is_handed_to_the_lab() -> None:
    named = re.findall(r'"([\w.-]+)(?:/[\w.*/-]*)?(?::ffi)?"', read(Path("setup.py")))
    folders = {path.parts[0] for path in files() if len(path.parts) > 1}
    assert {"hooks", "cdefs", "kernel"} <= folders.intersection(named) <= set(SOURCES)


def test_the_package_decides_on_constants_that_there_are() -> None:
    decided = set(re.findall(r"^export XLMT_(\w+) =", RULES, re.MULTILINE))
    assert decided == {name for name in vars(built) if name.isupper()}


def test_no_place_of_pip_is_left_in_the_package() -> None:
    assert built.LIBEXEC not in RULES
    assert "export XLMT_LIBEXEC = /usr/libexec/xlmt\n" in RULES


def test_files_that_the_package_names_are_there() -> None:
    named = [
        line
        for path in ("xlmt.docs", "xen-mtwatch-dkms.manpages")
        for line in read(Path("debian", path)).split()
    ]
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_what_a_build_needs_is_read_from_debians_own_file() -> None:
    control = (
        "Build-Depends: debhelper-compat (= 13),\n               a <!nocheck>,\n b\nOther: c\n"
    )
    assert build_depends(control) == ["debhelper", "a", "b"]
