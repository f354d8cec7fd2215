# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completion in shells: it knows what the program knows, and believes no guest's name."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.repo.test_docs import COMMANDS, GROUP, flags_of
from tests.repo.tree import ROOT, must_pass, tool

FOLDER = ROOT / "hooks/completion"
COMPLETE = FOLDER / "complete"
INSTALLED = "/usr/local/lib/xlmt/complete"
NAMES = {"1": "web1", "22": "db-2.example", "3": "$(touch broken)", "4": "two words", "5": "-rf"}

_LIST = "#!/bin/sh\n[ $1 = /local/domain ] && printf '%s\\n' 0 1 22 3 4 5 007 x\n"
_IN_BASH = """
COMP_WORDS=(xlmt "$@"); COMP_CWORD=$#; _xlmt
printf '%s\\n' "${COMPREPLY[@]}"
"""
_READ = "#!/bin/sh\nfor path; do case $path in\n{}esac; done\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder with stand-ins for xenstore's clients."""
    cases = "".join(f"*/{domid}/name) echo '{name}' ;;\n" for domid, name in NAMES.items())
    for name, text in {"xenstore-list": _LIST, "xenstore-read": _READ.format(cases)}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def environment(host: Path) -> dict[str, str]:
    own = {"PATH": f"{host}:{os.defpath}", "XLMT_CONFIGURATIONS": str(host)}
    return {**os.environ, **own}


def complete(host: Path, *words: str) -> list[str]:
    argv = ["sh", str(COMPLETE), *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, env=environment(host), timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def below() -> dict[str, Any]:
    """Every command, those of `kernel` by both names."""
    kernel = getattr(COMMANDS["kernel"], "commands", {})
    return {**COMMANDS, **{f"kernel {name}": command for name, command in kernel.items()}}


def test_it_is_called_by_the_name_that_the_build_decides() -> None:
    for wrapper in ("xlmt.bash", "_xlmt", "xlmt.fish"):
        assert f"{INSTALLED} " in (FOLDER / wrapper).read_text()


def test_the_first_word_is_a_command(host: Path) -> None:
    assert sorted(complete(host, "")) == sorted(COMMANDS)
    assert complete(host, "-v", "re") == [name for name in COMMANDS if name.startswith("re")]


def test_options_before_the_command_are_those_of_the_program(host: Path) -> None:
    assert set(complete(host, "-")) == flags_of(GROUP)


@pytest.mark.parametrize("command", below())
def test_the_options_are_those_of_the_command(host: Path, command: str) -> None:
    assert set(complete(host, *command.split(), "-")) == flags_of(below()[command])


@pytest.mark.parametrize("command", below())
def test_an_option_with_a_choice_has_its_values(host: Path, command: str) -> None:
    for option in below()[command].params:
        if choices := getattr(option.type, "choices", None):
            for flag in option.opts:
                words = [getattr(choice, "value", choice) for choice in choices]
                assert complete(host, *command.split(), flag, "") == words


@pytest.mark.parametrize("command", ["destroy", "list", "repair", "release"])
def test_a_guest_is_offered_by_domid_and_by_a_name_that_is_plain(host: Path, command: str) -> None:
    found = complete(host, command, "")
    assert found == ["1", "22", "3", "4", "5", "web1", "db-2.example"]
    assert complete(host, command, "w") == ["web1"]


def test_a_xenstored_that_is_stuck_is_not_waited_for(host: Path) -> None:
    (host / "xenstore-list").write_text("#!/bin/sh\nexec sleep 50\n")
    begin = time.monotonic()
    assert complete(host, "destroy", "") == []
    assert time.monotonic() - begin < 20


def test_where_there_is_no_xenstored_nothing_is_offered(host: Path) -> None:
    (host / "xenstore-list").write_text("#!/bin/sh\necho no xenstored >&2\nexit 1\n")
    assert complete(host, "list", "") == []


def test_configurations_are_offered_and_any_other_file(host: Path) -> None:
    (host / "web1.cfg").touch()
    (host / "xl.conf").touch()
    assert complete(host, "create", "") == [str(host / "web1.cfg"), "//"]
    assert complete(host, "create", "-f", "/no") == ["//"]


def in_bash(host: Path, *words: str) -> list[str]:
    bash = tool("bash")
    text = (FOLDER / "xlmt.bash").read_text().replace(INSTALLED, f"sh {COMPLETE}")
    argv = [bash, "--norc", "-c", f"{text}{_IN_BASH}", "bash", *words]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        env=environment(host),
        cwd=host,
        check=True,
        timeout=60,
    )
    return done.stdout.split("\n")[:-1]


def test_bash_offers_what_it_is_told_and_runs_none_of_it(host: Path) -> None:
    assert in_bash(host, "destroy", "") == complete(host, "destroy", "")
    assert not (host / "broken").exists()
    assert in_bash(host, "kernel", "load", "mo") == ["mode="]


def test_bash_offers_files(host: Path) -> None:
    (host / "a b.cfg").touch()
    assert in_bash(host, "create", "-f", "a") == ["a b.cfg"]


@pytest.mark.parametrize(
    ("shell", "file"), [("bash", "xlmt.bash"), ("zsh", "_xlmt"), ("fish", "xlmt.fish")]
)
def test_a_shell_takes_its_file(shell: str, file: str) -> None:
    if not shutil.which(shell) and os.environ.get("CI") != "true":
        pytest.skip(f"{shell} is not installed")
    must_pass(shell, "-n", FOLDER / file)
