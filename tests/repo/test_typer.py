# SPDX-License-Identifier: LGPL-2.1-or-later
"""The range of typer that pyproject.toml allows: its ends, really installed, and what they cost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.repo.tree import ROOT

XLMT = Path(sys.executable).parent / "xlmt"
#: What the older end had beside it; see pyproject.toml. Debian 12's does not ask for rich.
ITS_CLICK = "click<8.2"
NO_RICH = "raise ImportError\n"


def allowed() -> tuple[str, str]:
    """Return the oldest version, and the first that is not allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (typer,) = (line for line in project["dependencies"] if line.startswith("typer"))
    match = re.fullmatch(r"typer>=([\d.]+),<([\d.]+)", typer)
    assert match, typer
    return match[1], match[2]


def installed(folder: Path, *requirements: str) -> Path:
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--target", str(folder), *requirements]
    subprocess.run(pip, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module", params=["oldest", "newest"])
def typer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    oldest, beyond = allowed()
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "oldest":
        (installed(folder, f"typer=={oldest}", ITS_CLICK) / "rich.py").write_text(NO_RICH)
        return folder
    return installed(folder, f"typer<{beyond}")


def xlmt(typer: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(typer), "NO_COLOR": "1", "COLUMNS": "100"}
    return subprocess.run(
        [XLMT, *arguments], capture_output=True, text=True, env=env, timeout=60, check=False
    )


def test_it_is_the_typer_that_is_used(typer: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(typer)}
    argv = [sys.executable, "-c", "import typer; print(typer.__file__)"]
    said = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60, check=True)
    assert said.stdout.startswith(str(typer))


def test_every_command_has_its_help(typer: Path) -> None:
    said = xlmt(typer, "--help")
    assert (said.returncode, said.stderr) == (0, "")
    commands = ("create", "destroy", "list", "repair", "reconcile", "supervise", "hook", "kernel")
    for command in commands:
        assert re.search(rf"^ +{command} ", said.stdout, re.MULTILINE), said.stdout
        assert xlmt(typer, command, "--help").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["destroy"], "DOMAIN..."),
        (["nonsense"], "nonsense"),
        (["list", "--nonsense"], "--nonsense"),
        (["supervise", "--restart-window", "nan"], "nan"),
        (["reconcile", "-o", "nonsense"], "nonsense"),
    ],
)
def test_a_wrong_use_is_said_in_one_line(typer: Path, arguments: list[str], named: str) -> None:
    said = xlmt(typer, *arguments)
    assert said.returncode == 2
    assert named in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_count_has_no_default_to_be_told(typer: Path) -> None:
    """Some releases print it with a backslash."""
    said = xlmt(typer, "--help").stdout
    assert "--verbose" in said
    assert "default" not in said
