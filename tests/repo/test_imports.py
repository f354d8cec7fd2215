# SPDX-License-Identifier: LGPL-2.1-or-later
"""The import contracts of pyproject.toml notice what they are there for."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, files, read, tool

#: What pyproject.toml calls pure, one of each kind.
PURE = ["errors", "paths", "text", "model", "nodes/model", "nodes/plan", "nodes/render"]
PURE += ["nodes/toolstacks", "kernel/status", "kernel/diagnose", "kernel/modprobe"]
PURE += ["kernel/summary", "kernel/render", "supervise/policy", "supervise/restart_limit"]
PURE += ["guard/model", "guard/settings", "guard/plan", "guard/netlink", "guard/render"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, to be spoiled."""
    for path in [*files(".py"), Path("pyproject.toml")]:
        if path.parts[0] in ("xlmt", "pyproject.toml"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def found_in(copy: Path) -> str:
    """What lint-imports says of the copy; in one line, as it breaks long ones."""
    argv = [tool("lint-imports"), "--no-cache"]
    environ = {"PATH": str(Path(sys.executable).parent), "COLUMNS": "200"}
    done = subprocess.run(
        argv, cwd=copy, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split()) if done.returncode else ""


def test_the_copy_itself_is_in_order(copy: Path) -> None:
    assert found_in(copy) == ""


def test_what_is_pure_may_not_import_the_world(copy: Path) -> None:
    for module in PURE:
        with (copy / f"xlmt/{module}.py").open("a") as file:
            file.write("\nimport time\n")
    found = found_in(copy)
    for module in PURE:
        assert f"xlmt.{module.replace('/', '.')} is not allowed to import time:" in found


@pytest.mark.parametrize(
    ("file", "text", "broken"),
    [
        ("domains/render.py", "import os", "xlmt.domains.render is not allowed to import os"),
        ("kernel/plan.py", "import xlmt.locks", "xlmt.kernel.plan is not allowed to import os"),
        ("nodes/new.py", "import pyxs", "xlmt.nodes.new -> pyxs"),
        ("nodes/new.py", "import typer", "xlmt.nodes.new -> typer"),
        ("domains/new.py", "import xlmt.libxl.event", "xlmt.domains.new -> xlmt.libxl.event"),
        ("kernel/new.py", "import xlmt.nodes.plan", "xlmt.kernel is not allowed to import xlmt.n"),
        ("new/__init__.py", "", "xlmt.new"),
    ],
)
def test_a_forbidden_import_is_noticed(copy: Path, file: str, text: str, broken: str) -> None:
    target = copy / "xlmt" / file
    target.parent.mkdir(exist_ok=True)
    target.write_text(f"{target.read_text() if target.exists() else ''}\n{text}\n")
    assert broken in found_in(copy)


def test_a_circle_is_noticed(copy: Path) -> None:
    for one, other in (("nodes/one.py", "nodes.other"), ("nodes/other.py", "nodes.one")):
        (copy / "xlmt" / one).write_text(f"import xlmt.{other}\n")
    assert "no module imports itself by way of others BROKEN" in found_in(copy)


@pytest.mark.parametrize("text", ["from xlmt.libxl._libxl import lib", "import xlmt.libxl._libxl"])
@pytest.mark.parametrize(("file", "banned"), [("nodes/new", True), ("libxl/extension", False)])
def test_the_extension_itself_is_for_one_module(text: str, file: str, banned: bool) -> None:
    # it is no Python, so that the contracts do not see it
    argv = [tool("ruff"), "check", "--select", "TID251", "--stdin-filename", f"xlmt/{file}.py", "-"]
    done = subprocess.run(
        argv, cwd=ROOT, input=text + "\n", capture_output=True, text=True, check=False
    )
    assert ("TID251" in done.stdout) is banned


# --- only cli/ prints and exits ------------------------------------------------------------

#: docs/architecture.md has the reasons.
EXCEPTIONS = {
    "xlmt/session.py", "xlmt/doctor/bounded.py", "xlmt/domains/xl.py", "xlmt/supervise/daemon.py",
    "xlmt/supervise/launch.py", "xlmt/supervise/workers.py",
}  # fmt: skip
_PRINTS_OR_EXITS = re.compile(
    r"(?<![\w.])(print|exit|quit)\(|sys\.(exit|stdout|stderr)\b|os\._exit|os\.exec|SystemExit"
)


def those_that_print_or_exit() -> set[str]:
    product = (path for path in files(".py") if path.parts[0] == "xlmt")
    library = (path for path in product if path.parts[1] != "cli")
    return {str(path) for path in library if _PRINTS_OR_EXITS.search(read(path))}


def test_only_cli_prints_and_exits_but_for_the_exceptions() -> None:
    assert those_that_print_or_exit() == EXCEPTIONS


@pytest.mark.parametrize("module", sorted(EXCEPTIONS))
def test_an_exception_is_named_where_the_rule_is(module: str) -> None:
    rule = read(Path("docs/architecture.md")).partition("**Only `cli/` prints and exits.**")[2]
    assert f"`{module.removeprefix('xlmt/')}`" in rule.partition("## ")[0]
