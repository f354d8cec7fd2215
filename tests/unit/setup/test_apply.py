# SPDX-License-Identifier: LGPL-2.1-or-later
"""Steps on a host that is a folder: what is done is undone, and nothing else is touched."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from xlmt.cli.main import app
from xlmt.errors import XlmtError
from xlmt.kernel import manage, places
from xlmt.setup import apply, host, plan, record
from xlmt.setup.model import Enable, Load, Put

PUT = Put("/etc/systemd/system/x.service.d/xlmt.conf", b"[Service]\n", "why")
SCRIPT = Put("/usr/local/lib/xlmt/under-hook", b"#!/bin/sh\n", "why", 0o755)
ENABLE = Enable("xlmt-supervise.service", "why")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with systemd and an xl; its systemctl writes down how it is called."""
    there = tmp_path / "host"
    for folder in ("run/systemd/system", "etc/systemd/system", "usr/sbin", "bin"):
        (there / folder).mkdir(parents=True)
    (there / "usr/sbin/xl").write_text("#!/bin/sh\n")
    monkeypatch.setattr(host, "ROOT", there)
    monkeypatch.setenv("PATH", str(there / "bin"), prepend=":")
    program(there, "systemctl", "case $1 in show) echo LoadState=not-found;; esac")
    program(there, "modinfo", "exit 1")
    return there


def program(root: Path, name: str, does: str) -> None:
    file = root / "bin" / name
    file.write_text(f'#!/bin/sh\necho "$*" >>{root.parent}/calls\n{does}\n')
    file.chmod(0o755)


def calls(root: Path) -> list[str]:
    return [c for c in (root.parent / "calls").read_text().splitlines() if not c.startswith("show")]


def tree(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


def test_what_is_done_is_undone(root: Path) -> None:
    before = tree(root)
    outcomes = [*apply.carry_out([PUT, SCRIPT, ENABLE], systemd=True)]
    assert not any(outcome.error for outcome in outcomes)
    assert host.below(SCRIPT.path).stat().st_mode & 0o777 == 0o755
    assert calls(root) == ["daemon-reload", f"enable --now {ENABLE.unit}", "daemon-reload"]
    assert not any(outcome.error for outcome in apply.undo(systemd=True))
    assert calls(root)[3:] == [f"disable --now {ENABLE.unit}", "daemon-reload"]
    left = {path for path in tree(root) if path not in before}
    assert left <= {"var", "var/lib", "var/lib/xlmt"}
    assert record.load() == []


def test_a_file_that_was_changed_since_is_kept(root: Path) -> None:
    [*apply.carry_out([PUT], systemd=False)]
    host.below(PUT.path).write_text("by hand")
    (told,) = apply.undo(systemd=False)
    assert "changed since" in told.what
    assert host.below(PUT.path).read_text() == "by hand"


def test_what_others_have_put_beside_ours_is_kept(root: Path) -> None:
    [*apply.carry_out([PUT], systemd=False)]
    other = host.below(PUT.path).with_name("other.conf")
    other.write_text("mine")
    [*apply.undo(systemd=False)]
    assert other.read_text() == "mine"
    assert not host.below(PUT.path).exists()


def test_a_step_that_fails_does_not_keep_the_others(root: Path) -> None:
    program(root, "systemctl", "echo no >&2; exit 1")
    first, second = apply.carry_out([ENABLE, PUT], systemd=True)
    assert "no" in (first.error or "")
    assert second.error is None


def test_a_unit_has_longer_to_start_than_systemctl_to_answer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = (Path(__file__).parents[3] / "hooks/systemd/xlmt-supervise.service").read_text()
    assert "TimeoutStartSec=2min" in unit
    assert host.JOB_S > 120
    monkeypatch.setattr(apply, "JOB_S", 30.0)
    program(root, "systemctl", '[ "$1" != enable ] || sleep 1')
    monkeypatch.setattr(host.systemctl, "__kwdefaults__", {"seconds": 0.5})
    (outcome,) = apply.carry_out([ENABLE], systemd=True)
    assert outcome.error is None


def test_one_that_was_cut_off_is_undone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(root)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "chmod", cut)
    with pytest.raises(KeyboardInterrupt):
        [*apply.carry_out([PUT], systemd=False)]
    monkeypatch.undo()
    monkeypatch.setattr(host, "ROOT", root)
    [*apply.undo(systemd=False)]
    left = {path for path in tree(root) if path not in before}
    assert {Path(path).name for path in left} <= {"var", "lib", "xlmt"}


def test_a_new_release_replaces_its_own_file_and_undoes_both(root: Path) -> None:
    [*apply.carry_out([PUT], systemd=False)]
    [*apply.carry_out([PUT._replace(content=b"new\n")], systemd=False)]
    assert host.below(PUT.path).read_bytes() == b"new\n"
    assert len(record.load()) == 1
    [*apply.undo(systemd=False)]
    assert not host.below(PUT.path).parent.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"done": 3}', '{"done": [{"path": 1}]}', "\0"])
def test_a_record_that_cannot_be_read_is_named(root: Path, text: str) -> None:
    file = host.below(record.PATH)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(XlmtError, match=record.PATH):
        record.load()


def test_the_module_is_loaded_by_who_does_that(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[dict[str, str]] = []
    monkeypatch.setattr(manage, "load", loads.append)
    [*apply.carry_out([Load("why")], systemd=False)]
    assert loads == [{}]
    assert record.load() == []


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["setup", *words], standalone_mode=False)
    if isinstance(done.exception, XlmtError):
        return done.exception.exit_status, done.output + str(done.exception)
    assert done.exception is None
    return int(done.return_value or 0), done.output


def test_a_host_that_does_not_run_xen_yet_has_no_step_that_fails(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "ROOT", root)
    (root / "proc").mkdir()
    program(root, "modinfo", "exit 0")
    program(root, "systemctl", SYSTEMCTL)
    status, said = run("--yes")
    assert status == 0
    assert host.below(plan.MODULES).exists()
    assert "left out: loading the module now: this is not domain 0 of a Xen that runs" in said
    assert "to see how this host is, once it is booted with Xen: xlmt doctor" in said


def test_whether_this_is_domain_0_is_the_kernels_word(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "ROOT", root)
    assert not host.look().dom0
    (root / "sys/hypervisor/properties").mkdir(parents=True)
    (root / "sys/hypervisor/type").write_text("xen\n")
    features = root / "sys/hypervisor/properties/features"
    features.write_text("00000800\n")
    assert host.look().dom0
    features.write_text("00000000\n")
    assert not host.look().dom0


def test_the_command_shows_does_and_undoes(root: Path) -> None:
    status, said = run("--dry-run")
    assert status == 3
    assert f"install {plan.SHIM}" in said
    assert "left out: the kernel half" in said
    assert not host.below(plan.SHIM).exists()
    status, said = run()
    assert (status, host.below(plan.SHIM).exists()) == (4, False)
    program(root, "systemctl", SYSTEMCTL)
    status, said = run("--yes")
    assert status == 0
    assert host.below(plan.SHIM).exists()
    status, said = run()
    assert (status, "nothing to do" in said) == (0, True)
    status, said = run("--undo", "--yes")
    assert (status, host.below(plan.SHIM).exists()) == (0, False)
    assert run("--undo") == (0, "nothing to undo\n")


#: Our unit is known, and enabled once somebody has done that.
SYSTEMCTL = """case "$1 $3" in
"show xlmt-supervise.service")
    echo LoadState=loaded
    grep -q '^enable' "$(dirname "$0")/../../calls" && echo UnitFileState=enabled;;
"show "*) echo LoadState=not-found;;
esac
exit 0"""
