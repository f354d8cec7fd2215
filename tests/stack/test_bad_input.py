# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bad input: one line that names the thing, and the documented exit status."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack.daemon import xen_release
from tests.stack.hypervisor import RUNNING, XS_DOMAIN
from tests.stack.product import complaint, create, ok, set_xl_conf
from tests.stack.stack import Stack

XLMT = Path(sys.executable).parent / "xlmt"


def test_a_configuration_that_does_not_exist(stack: Stack) -> None:
    done = stack.xlmt("create", "/no/such.cfg")
    assert done.returncode == 2
    assert "/no/such.cfg: No such file or directory" in complaint(done)


def test_a_syntax_error_with_xls_own_file_and_line(stack: Stack) -> None:
    config = stack.workdir / "bad.cfg"
    config.write_text('name="g1"\nmemory=\n')
    done = stack.xlmt("create", config)
    assert done.returncode == 2
    assert f"{config}:1: config parsing error" in complaint(done)  # xl counts like that


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["create", "-Z"], "-Z"),
        (["create"], "configuration"),
        (["create", "a.cfg", "b.cfg"], "a.cfg, b.cfg"),
        (["destroy"], "DOMAIN"),
        (["frobnicate"], "frobnicate"),
        (["list", "-o", "xml"], "xml"),
        (["exec"], "command"),
        (["kernel", "unload", "--timeout", "nan"], "nan is no number of seconds"),
        (["supervise", "--restart-window", "inf"], "inf is no number of seconds"),
    ],
)
def test_usage_errors(stack: Stack, arguments: list[str], reason: str) -> None:
    done = stack.xlmt(*arguments)
    assert done.returncode == 2
    assert reason in complaint(done)


def test_a_domain_that_nobody_knows(stack: Stack) -> None:
    for command in ("destroy", "list"):
        done = stack.xlmt(command, "nobody")
        assert done.returncode == 1
        assert "nobody" in complaint(done)


def test_domain_0_is_refused_by_number_and_by_name_even_with_force(stack: Stack) -> None:
    for name in ("0", "Domain-0"):
        done = stack.xlmt("destroy", "-f", name)
        assert done.returncode == 4
        assert "domain 0" in complaint(done)
    assert 0 in stack.domains()


def test_a_name_that_is_another_domains_domid(stack: Stack) -> None:
    create(stack, "web")
    create(stack, "1")
    done = stack.xlmt("destroy", "1")
    assert done.returncode == 2
    assert "domid of web" in complaint(done)
    assert {1, 2} <= set(stack.domains())
    ok(stack.xlmt("destroy", "2"))
    assert set(stack.domains()) == {0, 1}


def test_one_bad_name_among_good_ones_destroys_nothing(stack: Stack) -> None:
    create(stack)
    assert stack.xlmt("destroy", "g1", "nobody").returncode == 1
    assert 1 in stack.domains()


def test_a_name_that_is_no_utf8_is_no_traceback(stack: Stack) -> None:
    config = stack.workdir / "latin1.cfg"
    config.write_bytes(b'name="caf\xe9"\nkernel="/etc/hostname"\nmemory=16\n')
    done = stack.xlmt("create", "-q", config)
    assert done.returncode == 2
    assert f'{config}:1: this is no UTF-8, which libxl\'s JSON cannot hold: name="caf\\xe9"' in (
        complaint(done)
    )
    assert set(stack.domains()) == {0}


def test_a_setting_that_is_no_utf8_is_named(stack: Stack) -> None:
    done = stack.xlmt("create", "-q", stack.guest("g1"), 'extra="caf\udce9"')
    assert done.returncode == 2
    assert 'extra="caf\\xe9": this is no UTF-8' in complaint(done)


def test_a_byte_that_is_no_utf8_in_a_comment_is_nobodys_trouble(stack: Stack) -> None:
    config = stack.guest("g1")
    config.write_bytes(b"# caf\xe9\n" + config.read_bytes())
    ok(stack.xlmt("create", "-qe", config))


def test_a_configuration_can_be_a_descriptor(stack: Stack) -> None:
    for number, name in enumerate(["/dev/stdin", "/dev/fd/0", "/dev/fd/3"]):
        config = stack.guest(f"g{number}")
        done = stack.run("sh", "-c", f"exec {XLMT} create -qe {name} <{config} 3<{config}")
        assert ok(done).stderr == ""
    assert len(stack.domains()) == 4


def test_a_broken_xl_conf_is_not_said_to_be_the_guests_file(stack: Stack) -> None:
    set_xl_conf(stack, "lockfile = = 3\n")
    done = stack.xlmt("create", "-q", stack.guest("g1"))
    assert done.returncode == 1
    assert "/etc/xen/xl.conf" in complaint(done)
    assert "g1.cfg" not in complaint(done)


def test_a_lock_in_a_folder_that_is_missing_is_named(stack: Stack) -> None:
    set_xl_conf(stack, 'autoballoon="on"\nlockfile="/no/such/lock"\n')
    done = stack.xlmt("create", "-q", stack.guest("g1"))
    assert done.returncode == 1
    assert "/no/such/lock: No such file or directory" in complaint(done)


def test_quiet_is_quiet_before_the_command_as_well(stack: Stack) -> None:
    assert ok(stack.xlmt("-q", "create", "-e", stack.guest("g1"))).stderr == ""
    assert ok(stack.xlmt("create", "-qe", stack.guest("g2"))).stderr == ""


def test_xenstores_own_domain_is_refused(stack: Stack) -> None:
    stack.hypervisor.add(5, flags=RUNNING | XS_DOMAIN)
    with stack.client() as client:
        client.write("/local/domain/5/name", "xenstore")
    for name in ("5", "xenstore"):
        done = stack.xlmt("destroy", name)
        assert done.returncode == 4
        assert "xenstore's own" in complaint(done)
    assert 5 in stack.domains()


@pytest.mark.parametrize("path", ["", ":/usr/bin:/bin", "/usr/bin::/bin", ".:/usr/bin:/bin"])
def test_xl_is_never_looked_for_where_one_happens_to_be(stack: Stack, path: str) -> None:
    shutil.copy("/bin/echo", stack.workdir / "xl")  # which says something else than the real one
    command = f"cd {stack.workdir}; PATH='{path}' exec {XLMT} create -qe {stack.guest('g1')}"
    ok(stack.run("/bin/sh", "-c", command))
    assert set(stack.domains()) == {0, 1}


@pytest.mark.parametrize("charset", ["ISO-8859-1", "ISO-8859-15"])
def test_an_8_bit_locale_spoils_no_name(stack: Stack, charset: str) -> None:
    locales = stack.workdir / "locales"
    locales.mkdir()
    argv: list[str | Path] = ["localedef", "-c", "-i", "de_DE", "-f", charset, locales / "de_DE"]
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(argv, capture_output=True, check=False, timeout=60)
    if not (locales / "de_DE").exists():
        pytest.skip("no localedef, or nothing to make a locale of")
    env = {"LOCPATH": str(locales), "LC_ALL": "de_DE"}
    disk = stack.workdir / "gäst.img"
    disk.write_bytes(bytes(4096))
    with stack.backends(), stack.client() as client:
        config = stack.guest("gäst", disk=[f"{disk},raw,xvda,w,script=/bin/true"])
        ok(stack.xlmt("create", "-qe", config, env=env))
        assert client.read("/local/domain/1/name") == "gäst"
        assert "gäst" in ok(stack.xlmt("list", env=env)).stdout
        ok(stack.xlmt("destroy", "gäst", env=env))
    assert set(stack.domains()) == {0}


def test_what_xl_warns_of_is_passed_on(stack: Stack) -> None:
    done = ok(stack.xlmt("create", "-e", stack.guest("g1", device_model="old")))
    assert "device_model" in done.stderr


def test_sxp_in_xl_conf(stack: Stack) -> None:
    set_xl_conf(stack, 'output_format="sxp"\n')
    done = stack.xlmt("create", stack.guest("g1"))
    assert done.returncode == 1
    assert 'output_format="json"' in complaint(done)


@pytest.mark.parametrize("command", ["list", "destroy g1", "create g1.cfg"])
def test_xenstored_down(stack: Stack, command: str) -> None:
    config = stack.guest("g1")
    stack.kill_daemon()
    done = stack.xlmt(*command.replace("g1.cfg", str(config)).split(), timeout=30)
    assert done.returncode == 5
    assert "xenstored" in complaint(done)


@pytest.mark.parametrize("command", ["list", "destroy g1", "create g1.cfg"])
def test_a_frozen_xenstored(stack: Stack, command: str) -> None:
    config = stack.guest("g1")
    stack.freeze_daemon()
    try:
        done = stack.xlmt(*command.replace("g1.cfg", str(config)).split(), timeout=60)
    finally:
        stack.thaw_daemon()
    assert done.returncode == 5
    assert "xenstored" in complaint(done)


@pytest.mark.parametrize(
    "command", [["list"], ["destroy", "g1"], ["create", "/dev/null"], ["kernel", "load"]]
)
def test_no_xen_at_all(stack: Stack, command: list[str]) -> None:
    """xenstored answers, but there is no hypervisor: nothing is preloaded."""
    done = stack.run(XLMT, *command, preload=False)
    assert done.returncode == 5
    assert "no Xen here" in complaint(done)


def test_not_root(stack: Stack) -> None:
    reader = stack.path("/run/xenstored/socket")
    reader.chmod(0o600)
    done = stack.run("setpriv", "--reuid=65534", "--clear-groups", XLMT, "list")
    assert done.returncode == 1
    assert "root" in complaint(done)


@pytest.mark.parametrize(
    ("running", "what_to_do"),
    [
        pytest.param("4.99", "; build it for this Xen: in its sources", id="newer"),
        pytest.param("4.9", "; boot Xen {ours}, or build xlmt for this Xen: in its", id="older"),
    ],
)
def test_an_extension_for_another_xen_than_the_one_that_is_running(
    stack: Stack, running: str, what_to_do: str
) -> None:
    """The older one: the host has been upgraded, and not been rebooted yet."""
    done = stack.xlmt("list", env={"FAKEHV_XEN_VERSION": running})
    assert done.returncode == 1
    ours = xen_release()
    assert f"Xen {running} is running, but xlmt was built for Xen {ours}" in complaint(done)
    assert what_to_do.format(ours=ours) in complaint(done)


def test_an_extension_whose_libxl_is_gone(stack: Stack) -> None:
    """Somebody has upgraded Xen: hide the library that the extension needs."""
    library = next(Path("/usr").glob(f"lib*/**/libxenlight.so.{xen_release()}"))
    ok(stack.run("mount", "--bind", "/dev/null", library))
    done = stack.xlmt("list")
    assert done.returncode == 1
    assert f"{sys.prefix}/bin/pip install --force-reinstall ." in complaint(done)


def test_help_needs_no_xen() -> None:
    done = subprocess.run([XLMT, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    for command in ("create", "destroy", "list", "xl", "exec"):
        assert command in done.stdout
