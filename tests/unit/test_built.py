# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the build has made is where xlmt looks for it, and as it has to be."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from xlmt import built
from xlmt.domains import xl
from xlmt.setup import plan, shipped


def test_the_interposer_is_named_after_no_version_of_python() -> None:
    assert xl.preload_library().name == "libxlmt-preload.so"


def test_nothing_in_the_interposer_can_be_rewritten_once_it_is_loaded() -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("readelf is not installed")
    argv = [readelf, "--wide", "--dynamic", "--program-headers", str(xl.preload_library())]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "GNU_RELRO" in said
    assert "BIND_NOW" in said


def test_all_that_setup_may_install_comes_with_it() -> None:
    assert set(shipped.read()) == set(plan.SHIPPED)


@pytest.mark.parametrize("by", ["apt", "pip"])
def test_what_is_said_of_a_missing_program_fits_how_xlmt_was_installed(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built, "INSTALLED_BY", by)
    assert ("apt install kmod" in built.packaged("kmod")) == (by == "apt")
