# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual, the README and the program say the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.repo.picture import PICTURE, session, svg
from tests.repo.tree import ROOT, files, man_pages, read
from xlmt import errors, model
from xlmt.cli.main import app
from xlmt.doctor import render as output_of_doctor
from xlmt.doctor.actions import Level
from xlmt.doctor.causes import Cause, Kind
from xlmt.doctor.causes import Verdict as Stall
from xlmt.doctor.findings import Finding
from xlmt.doctor.holders import Holder, What
from xlmt.doctor.model import IDS, Check, Host, State, Zombie
from xlmt.doctor.traces import Report, Trace
from xlmt.doctor.words import ADVICE
from xlmt.guard import model as guard
from xlmt.guard import render, settings
from xlmt.kernel import diagnose, modprobe
from xlmt.kernel import render as report
from xlmt.kernel import status as mtwatch
from xlmt.nodes import model as nodes
from xlmt.nodes import render as output

GROUP = typer.main.get_command(app)
assert isinstance(GROUP, typer.core.TyperGroup)
COMMANDS = GROUP.commands
HOLDER = Holder(What.QUEUE, "sink0", "netem")
#: Exit statuses that are no XlmtError: done, Ctrl-C, a closed pipe.
OTHER_STATUSES = {0, 130, 141}

_OPTION_ITEM = re.compile(r"^\.It (Fl .*)", re.MULTILINE)
_FLAG = re.compile(r"\bFl (\S+)")
_IN_MANUAL = re.compile(r"(?:Ql|[#:]) xlmt ([a-z]+)|Nm xlmt Cm ([a-z]+)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
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


def flags_of_all(command: Any) -> set[str]:
    """The same, with those of the commands that a command may have below itself."""
    below = getattr(command, "commands", {}).values()
    return flags_of(command).union(*map(flags_of, below))


def documents() -> list[Path]:
    """What people read beside the manual."""
    return [*map(Path, ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *files_in("docs")]


def files_in(folder: str) -> list[Path]:
    return [path for path in files(".md") if path.parts[0] == folder]


def commands_in(document: Path) -> set[str]:
    return {name for code in _CODE.findall(read(document)) for name in _IN_README.findall(code)}


def headings(document: Path) -> set[str]:
    """The ends of links to sections, as GitHub and others make them."""
    titles = re.findall(r"^#+ (.+)$", read(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


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
    assert flags_in(page_of(command)) == flags_of_all(COMMANDS[command])


def test_the_page_shows_every_command_below_kernel() -> None:
    synopsis = section(Path("man/xlmt-kernel.8"), "SYNOPSIS")
    below = COMMANDS["kernel"]
    assert isinstance(below, typer.core.TyperGroup)
    assert re.findall(r"^\.Cm (\w+)$", synopsis, re.MULTILINE) == list(below.commands)


def test_the_overview_explains_exactly_the_options_before_the_command() -> None:
    assert flags_in(Path("man/xlmt.8")) == flags_of(GROUP)


def test_the_manual_lists_exactly_the_exit_statuses() -> None:
    raised = {e.exit_status for e in vars(errors).values() if isinstance(e, type(errors.XlmtError))}
    listed = items(section(Path("man/xlmt.8"), "EXIT STATUS"))
    assert listed == {str(status) for status in raised | OTHER_STATUSES}


@pytest.mark.parametrize("state", nodes.State)
def test_every_state_is_explained_and_has_a_way_out(state: nodes.State) -> None:
    assert state in items(section(Path("man/xlmt-list.8"), "DESCRIPTION"))
    assert state in items(section(Path("man/xlmt-mtwatch.7"), "DESCRIPTION"))


def test_every_json_field_of_list_is_explained() -> None:
    thread = model.Thread("n", 1, "S", doing=model.Doing("c", None, 0.0))
    row = nodes.Row(1, None, None, None, None, None, None, (), thread)
    document = json.loads(output.list_json(nodes.Listing((row,), (), ())))
    explained = items(section(Path("man/xlmt-list.8"), "DESCRIPTION"))
    assert set(document) | set(document["domains"][0]) <= explained
    thread = document["domains"][0]["thread"]
    fields = {*thread, *thread["doing"]}
    assert all(f".Ql {field}" in read(Path("man/xlmt-list.8")) for field in fields)


def test_every_json_field_and_value_of_kernel_status_is_explained() -> None:
    document = json.loads(report.status_json(kernel_view()))
    page = section(Path("man/xlmt-kernel.8"), "DESCRIPTION")
    assert set(document) | set(diagnose.Verdict) <= items(page)
    objects = [document["kernel"], document["module"], document["xenwatch"]]
    objects += [document["threads"][0], document["spinning"][0]]
    objects += [document["threads"][0]["doing"], document["threads"][0]["longest"]]
    named = {*diagnose.Half, *(field for fields in objects for field in fields)}
    assert {name for name in named if f".Ql {name}" not in page} == set()


def test_every_json_field_of_guard_is_explained() -> None:
    row = guard.Row(model.Vif(7, "vif1.0", 1, "vif-1-0"), "web1", wanted=True, guarded=True)
    document = json.loads(render.document(guard.View(settings.Settings(), None, (row,))))
    explained = items(section(Path("man/xlmt-guard.8"), "DESCRIPTION"))
    assert set(document) | set(document["vifs"][0]) <= explained


def kernel_view() -> diagnose.View:
    """A host with one of everything."""
    text = section(Path("man/xen_mtwatch.4"), "STATUS").partition(".Bd -literal\n")[2]
    status = mtwatch.parse(text.partition(".Ed\n")[0].replace("\n  ", " "))
    threads = (model.Thread("xenwatch", 57, "S"), model.Thread("xen-mtwatch-1", 342, "D"))
    spinner = model.Spinner("vif1.0-q0-dealloc", 360, "vif1.0", 1, 0.98)
    half = diagnose.Half.MODULE
    return diagnose.View(half=half, status=status, threads=threads, spinners=(spinner,))


def test_the_example_of_the_module_s_status_is_one_and_every_field_of_it_is_explained() -> None:
    page = section(Path("man/xen_mtwatch.4"), "STATUS")
    status = kernel_view().status
    assert status
    assert None not in {status.module.passed, status.xenwatch.longest, status.domains[0].doing}
    fields = set(re.findall(r"(?<= )(\w+)=", page.partition(".Ed\n")[0]))
    assert {name for name in fields if f"Ql {name}" not in page} == set()


def test_every_parameter_of_the_module_is_explained() -> None:
    parameters = {f"Cm {name}" for name in modprobe.PARAMETERS}
    assert parameters <= items(section(Path("man/xen_mtwatch.4"), "PARAMETERS"))


def test_every_json_field_and_value_of_reconcile_is_explained() -> None:
    action = nodes.Action(nodes.Verb.ADD, "1", 1, nodes.State.MISSING, "")
    plan = nodes.Plan(kept=(nodes.Kept(1, nodes.State.LINGERING, ""),))
    outcomes = [nodes.Outcome(action, nodes.Result.DONE)]
    document = json.loads(output.plan_json(plan, outcomes, dry_run=False))
    page = section(Path("man/xlmt-reconcile.8"), "DESCRIPTION")
    assert set(document) | set(document["actions"][0]) <= items(page)
    values = {*document["kept"][0], *nodes.Result, "add", "remove"} - {nodes.Result.UNNEEDED}
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
    assert command in commands_in(Path("README.md"))


@pytest.mark.parametrize("document", documents(), ids=str)
def test_a_document_shows_no_command_that_does_not_exist(document: Path) -> None:
    assert commands_in(document) <= set(COMMANDS)


@pytest.mark.parametrize("document", documents(), ids=str)
def test_links_lead_to_what_is_there(document: Path) -> None:
    for target, section_ in _LINK.findall(read(document)):
        path = (ROOT / document.parent / target).resolve() if target else ROOT / document
        assert path.is_file(), target
        assert not section_ or section_ in headings(path.relative_to(ROOT)), f"{target}#{section_}"


def test_what_the_package_says_of_a_kernel_is_in_the_manual() -> None:
    said = re.search(r'echo "(.+? be built for Linux)', read(Path("debian/xen-mtwatch-dkms.build")))
    assert said
    assert said[1] in read(Path("man/xen_mtwatch.4"))


def test_what_doctor_tells_is_in_its_page_in_order() -> None:
    page = read(Path("man/xlmt-doctor.8"))
    listed = re.findall(r"^\.It (XLMT-\d+) \((.+)\)$", page, re.MULTILINE)
    told = [(advice.id, str(kind)) for kind, advice in ADVICE.items()]
    assert listed == sorted(told + [(number, check) for check, number in IDS.items()])


def test_every_json_field_and_verdict_of_doctor_is_explained() -> None:
    page = read(Path("man/xlmt-doctor.8"))
    finding = Finding(Trace("x", ()), Cause(Kind.UNKNOWN, Stall.NO), holders=(HOLDER,))
    check = Check("nodes", State.OK, "")
    main = model.Thread("xenwatch", 57, "S")
    host = Host(diagnose.View(threads=(main,)), (finding,), (check,), (Zombie(1, 1),))
    for field in fields_of(json.loads(output_of_doctor.host_json(host))):
        assert re.search(rf"\b{field}\b", page), field
    for word in (*diagnose.Verdict, *Stall, *State, *What, *Report):
        assert re.search(rf"\b{word}\b", page), word


def fields_of(document: Any) -> set[str]:
    """The names of all fields in a document, however deep."""
    if isinstance(document, list):
        return set().union(*map(fields_of, document))
    if isinstance(document, dict):
        return set(document) | set().union(*map(fields_of, document.values()))
    return set()


def test_every_level_of_release_is_explained() -> None:
    listed = items(section(Path("man/xlmt-release.8"), "DESCRIPTION"))
    assert {level.word for level in Level if level < Level.SAID} <= listed


def test_the_picture_is_of_the_session_in_the_readme() -> None:
    assert PICTURE.read_text() == svg(session(read(Path("README.md")))), (
        "python -m tests.repo.picture"
    )
