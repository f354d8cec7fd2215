# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual, the README and the program say the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.repo.tree import man_pages, read
from xlmt import errors, model, output
from xlmt.cli.main import app

GROUP = typer.main.get_command(app)
assert isinstance(GROUP, typer.core.TyperGroup)
COMMANDS = GROUP.commands
#: Exit statuses that are no XlmtError: done, Ctrl-C, a closed pipe.
OTHER_STATUSES = {0, 130, 141}

_OPTION_ITEM = re.compile(r"^\.It (Fl .*)", re.MULTILINE)
_FLAG = re.compile(r"\bFl (\S+)")
_IN_MANUAL = re.compile(r"(?:Ql|[#:]) xlmt ([a-z]+)|Nm xlmt Cm ([a-z]+)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_IN_README = re.compile(r"(?<![\w./-])xlmt (?:-{1,2}[a-z]+ )*([a-z]+)")


def page_of(command: str) -> Path:
    return Path("man/xlmt-xl.8" if command in ("xl", "exec") else f"man/xlmt-{command}.8")


def section(page: Path, title: str) -> str:
    match = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", read(page), re.MULTILINE | re.DOTALL)
    assert match, f"{page} has no {title}"
    return match[1]


def items(text: str) -> set[str]:
    return set(re.findall(r"^\.It (.+)$", text, re.MULTILINE))


def flags_in(page: Path) -> set[str]:
    """The options that a page explains."""
    explained = "\n".join(_OPTION_ITEM.findall(read(page)))
    return {f"-{flag}" for flag in _FLAG.findall(explained)}


def flags_of(command: Any) -> set[str]:
    """The options that a command of Typer's has; its class depends on Typer's release."""
    options = [p for p in command.params if p.param_type_name == "option"]
    flags = {flag for p in options for flag in (*p.opts, *p.secondary_opts)}
    return flags | ({"-h", "--help"} if command.add_help_option else set())


def readme() -> str:
    return read(Path("README.md"))


def commands_in_readme() -> set[str]:
    return {name for code in _CODE.findall(readme()) for name in _IN_README.findall(code)}


def test_the_program_has_commands_to_document() -> None:
    assert {"create", "destroy", "list", "repair", "reconcile", "xl", "exec"} <= set(COMMANDS)


def test_the_overview_lists_exactly_the_commands() -> None:
    listed = re.findall(
        r"^\.It Cm (\S+)$", section(Path("man/xlmt.8"), "DESCRIPTION"), re.MULTILINE
    )
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_a_page_that_shows_how_it_is_called(command: str) -> None:
    assert f"Nm xlmt Cm {command}\n" in section(page_of(command), "SYNOPSIS")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_explains_exactly_the_options_of_the_command(command: str) -> None:
    assert flags_in(page_of(command)) == flags_of(COMMANDS[command])


def test_the_overview_explains_exactly_the_options_before_the_command() -> None:
    assert flags_in(Path("man/xlmt.8")) == flags_of(GROUP)


def test_the_manual_lists_exactly_the_exit_statuses() -> None:
    raised = {e.exit_status for e in vars(errors).values() if isinstance(e, type(errors.XlmtError))}
    listed = items(section(Path("man/xlmt.8"), "EXIT STATUS"))
    assert listed == {str(status) for status in raised | OTHER_STATUSES}


@pytest.mark.parametrize("state", model.State)
def test_every_state_is_explained_and_has_a_way_out(state: model.State) -> None:
    assert state in items(section(Path("man/xlmt-list.8"), "DESCRIPTION"))
    assert state in items(section(Path("man/xlmt-mtwatch.7"), "DESCRIPTION"))


def test_every_json_field_of_list_is_explained() -> None:
    row = model.Row(1, None, None, None, None, None, None, (), model.Thread("n", 1, "S"))
    document = json.loads(output.list_json(model.Listing((row,), (), ())))
    explained = items(section(Path("man/xlmt-list.8"), "DESCRIPTION"))
    assert set(document) | set(document["domains"][0]) <= explained
    thread = document["domains"][0]["thread"]
    assert all(f".Ql {field}" in read(Path("man/xlmt-list.8")) for field in thread)


def test_every_json_field_and_value_of_reconcile_is_explained() -> None:
    action = model.Action(model.Verb.ADD, "1", 1, model.State.MISSING, "")
    plan = model.Plan(kept=(model.Kept(1, model.State.LINGERING, ""),))
    outcomes = [model.Outcome(action, model.Result.DONE)]
    document = json.loads(output.plan_json(plan, outcomes, dry_run=False))
    page = section(Path("man/xlmt-reconcile.8"), "DESCRIPTION")
    assert set(document) | set(document["actions"][0]) <= items(page)
    values = {*document["kept"][0], *model.Result, "add", "remove"} - {model.Result.UNNEEDED}
    assert all(f".Ql {value}" in page for value in values)


@pytest.mark.parametrize("page", man_pages(), ids=str)
def test_a_page_names_no_command_that_does_not_exist(page: Path) -> None:
    named = {word for match in _IN_MANUAL.findall(read(page)) for word in match if word}
    assert named <= set(COMMANDS)


def test_pages_refer_to_pages_that_exist() -> None:
    pages = {path.name for path in man_pages()}
    references = {
        f"{name}.{number}"
        for path in man_pages()
        for name, number in re.findall(r"^\.Xr (xlmt\S*) (\d)", read(path), re.MULTILINE)
    }
    assert references <= pages


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_shows_the_command(command: str) -> None:
    assert command in commands_in_readme()


def test_the_readme_shows_no_command_that_does_not_exist() -> None:
    assert commands_in_readme() <= set(COMMANDS)
