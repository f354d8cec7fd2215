# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files that toolstacks call: none of them may hold up, fail or change what they do.

They run as shipped, in a mount namespace in which /usr/local is a folder of the test; xlmt,
logger and xl are stand-ins in there.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.repo.test_units import require_namespaces, unit, wait_for
from tests.repo.tree import ROOT, tool
from xlmt.nodes import toolstacks

LIBVIRT = ROOT / "hooks/libvirt/50-xlmt"
XAPI = ROOT / "hooks/xapi/50-xlmt"
HOTPLUG = ROOT / "hooks/hotplug/xlmt-script"
XL = ROOT / "hooks/xl"
SCRIPTS = [LIBVIRT, XAPI, HOTPLUG, XL / "under-hook", XL / "xl"]
DROP_INS = sorted(XL.glob("*.conf"))
LONGEST_SCRIPT = 30

XML = "<domain type='xen' id='7'>\n  <name>web</name>\n</domain>\n"
STARTED = ("web", "started", "begin", "-")

#: Goes on for as long as xlmt.wait exists; what it says and its status are xlmt's worst.
_XLMT = """\
#!/bin/sh
cat >"$0.in"
printf '[%s]' "$@" "$XENBUS_PATH" >>"$0.calls"
while [ -e "$0.wait" ]; do sleep 0.02; done
echo "on stdout"
echo "xlmt: node 7 added" >&2
exit 1
"""
_LOGGER = """\
#!/bin/sh
printf '[%s]' "$@" >>"$0.calls"
cat >"$0.tmp"
mv "$0.tmp" "$0.in"
"""
_XL = """\
#!/bin/sh
echo "$$ $0 ${LD_PRELOAD-none} $*"
exit 3
"""
_ENTER = """\
set -e
mount --bind "$1/local" /usr/local
[ ! -e "$1/xl" ] || mount --bind "$1/xl" /usr/sbin/xl
shift
exec "$@"
"""


@dataclass(frozen=True)
class Dom0:
    """What a toolstack's host has of its own: /usr/local, and /usr/sbin/xl."""

    folder: Path

    def put(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
        return file

    def install(self, source: Path, name: str) -> Path:
        return self.put(name, source.read_text())

    def seen(self, name: str) -> str:
        """What a stand-in has written; waits for it to."""
        file = self.folder / f"local/bin/{name}"
        wait_for(file, filled=True)
        return file.read_text()

    def start(self, *argv: str | Path, **environ: str) -> subprocess.Popen[str]:
        enter = ["unshare", "--map-root-user", "--mount", "sh", "-c", _ENTER, "enter"]
        return subprocess.Popen(
            [*enter, str(self.folder), *map(str, argv)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} | environ,
        )

    def run(self, *argv: str | Path, xml: str = "", **environ: str) -> tuple[int, str, str]:
        """Run to its end, which is also the end of its output; return status and output."""
        with self.start(*argv, **environ) as process:
            out, err = process.communicate(xml, timeout=60)
        return process.returncode, out, err

    def hang_xlmt(self) -> None:
        self.put("local/bin/xlmt.wait", "")

    def release_xlmt(self) -> None:
        (self.folder / "local/bin/xlmt.wait").unlink(missing_ok=True)

    def logged(self) -> str:
        """What reached syslog by the time that xlmt has ended."""
        self.release_xlmt()
        return self.seen("logger.in")


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    require_namespaces()
    for name in ("setsid", "timeout"):
        tool(name)
    host = Dom0(tmp_path)
    host.put("local/bin/xlmt", _XLMT)
    host.put("local/bin/logger", _LOGGER)
    return host


@pytest.fixture(params=["libvirt", "xapi", "hotplug"])
def event(request: pytest.FixtureRequest, dom0: Dom0) -> list[str | Path]:
    """A call of each toolstack's, for which there is something to do."""
    match request.param:
        case "libvirt":
            return [dom0.install(LIBVIRT, "hooks/libxl.d/50-xlmt"), *STARTED]
        case "xapi":
            script = dom0.install(XAPI, "xapi.d/vm-post-resume/50-xlmt")
            return [script, "-vmuuid", "u", "-reason", "none", "-vmdomid", "7"]
        case _:
            dom0.put("scripts/vif-bridge", "#!/bin/sh\n")
            return [dom0.install(HOTPLUG, "scripts/vif-bridge-xlmt"), "online", "type_if=vif"]


# --- all of them ---------------------------------------------------------------------------


def test_a_toolstack_need_not_wait_for_xlmt(dom0: Dom0, event: list[str | Path]) -> None:
    dom0.hang_xlmt()
    assert dom0.run(*event, xml=XML) == (0, "", "")
    assert dom0.seen("xlmt.calls")
    assert not (dom0.folder / "local/bin/logger.in").exists()  # it still hangs
    assert dom0.logged() == "on stdout\nxlmt: node 7 added\n"
    assert dom0.seen("logger.calls") == "[-t][xlmt]"


def test_without_xlmt_the_toolstack_goes_on_and_syslog_has_it(
    dom0: Dom0, event: list[str | Path]
) -> None:
    (dom0.folder / "local/bin/xlmt").unlink()
    assert dom0.run(*event, xml=XML) == (0, "", "")
    assert "xlmt" in dom0.logged()


def test_an_xlmt_that_hangs_is_ended(dom0: Dom0, event: list[str | Path]) -> None:
    script = dom0.folder / event[0]
    text = script.read_text()
    assert "timeout 60 xlmt" in text
    script.write_text(text.replace("timeout 60 xlmt", "timeout 0.3 xlmt"))
    dom0.put("local/bin/logger", '#!/bin/sh\ncat >>"$0.in"; echo over >>"$0.in"\n')
    dom0.hang_xlmt()
    assert dom0.run(*event, xml=XML) == (0, "", "")
    assert dom0.seen("logger.in") == "over\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_is_short_strict_and_can_be_run(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert len(lines) <= LONGEST_SCRIPT
    assert lines[0] == "#!/bin/sh"
    assert "set -eu" in lines
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("folder", sorted({path.parent for path in SCRIPTS}), ids=lambda p: p.name)
def test_a_folder_says_in_three_lines_how_it_is_installed(folder: Path) -> None:
    lines = (folder / "README").read_text().splitlines()
    assert len(lines) == 4  # and its licence
    named = set(re.findall(r"hooks/\w+/([\w-]+)(?![\w$.-])", "\n".join(lines)))
    assert named == {path.name for path in SCRIPTS if path.parent == folder}


# --- libvirt -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web", "web 7", "--", "$(touch x) `y`; 'z"])
def test_libvirts_words_and_xml_arrive_as_they_are(dom0: Dom0, name: str) -> None:
    assert dom0.run(LIBVIRT, name, "stopped", "end", "-", xml=XML) == (0, "", "")
    assert dom0.seen("xlmt.calls") == f"[hook][libvirt][{name}][stopped][end][-][]"
    assert dom0.seen("xlmt.in") == XML.rstrip("\n")


@pytest.mark.parametrize("operation", ["prepare", "start", "migrate", "restore", ""])
def test_for_other_operations_of_libvirt_nothing_is_started(dom0: Dom0, operation: str) -> None:
    assert dom0.run(LIBVIRT, "web", operation, "begin", "-", xml=XML) == (0, "", "")
    assert dom0.run(LIBVIRT, *STARTED, xml=XML) == (0, "", "")
    assert dom0.seen("xlmt.calls") == "[hook][libvirt][web][started][begin][-][]"


@pytest.mark.parametrize("operation", ["started", "migrate"])
def test_all_of_libvirts_input_is_taken(dom0: Dom0, operation: str) -> None:
    with dom0.start(LIBVIRT, "web", operation, "begin", "-") as process:
        assert process.stdin
        process.stdin.write(XML + " " * 1_000_000)  # raises if nobody reads it
        process.stdin.close()
        assert process.wait(60) == 0


def test_libvirts_hook_acts_on_what_xlmt_acts_on() -> None:
    taken = re.findall(r"'(\w+) (\w+)'", LIBVIRT.read_text())
    assert {(operation, sub) for operation, sub in taken} == toolstacks.LIBVIRT


def test_the_calls_that_libvirt_does_not_make_are_no_failure_either(dom0: Dom0) -> None:
    assert dom0.run(LIBVIRT) == (0, "", "")
    assert dom0.run(LIBVIRT, "web") == (0, "", "")


# --- xapi ----------------------------------------------------------------------------------


def test_a_link_in_a_folder_of_xapi_tells_of_the_folders_event(dom0: Dom0) -> None:
    script = dom0.install(XAPI, "local/lib/xlmt/xapi-hook")
    link = dom0.folder / "xapi.d/vm-post-destroy/50-xlmt"
    link.parent.mkdir(parents=True)
    link.symlink_to(script)
    assert dom0.run(link, "-vmuuid", "u", "-reason", "clean-shutdown") == (0, "", "")
    called = "[hook][xapi][vm-post-destroy][-vmuuid][u][-reason][clean-shutdown][]"
    assert dom0.seen("xlmt.calls") == called


def test_the_folders_are_those_that_xlmt_knows() -> None:
    named = set(re.findall(r"\bvm-[a-z-]+", (XAPI.parent / "README").read_text()))
    assert named == toolstacks.XAPI_THERE | toolstacks.XAPI_TO_COME


# --- hotplug scripts -----------------------------------------------------------------------


def test_the_real_hotplug_script_has_the_last_word(dom0: Dom0) -> None:
    real = '#!/bin/sh\necho "$0 $* $XENBUS_PATH $PATH"\necho no bridge >&2\nexit 4\n'
    script = dom0.put("scripts/vif-bridge", real)
    wrapper = dom0.install(HOTPLUG, "scripts/vif-bridge-xlmt")
    path = "backend/vif/7/0"
    status, out, err = dom0.run(wrapper, "online", "type_if=vif", PATH="/bin", XENBUS_PATH=path)
    assert (status, out) == (4, f"{script} online type_if=vif {path} /bin\n")
    assert err == "no bridge\n"
    assert dom0.seen("xlmt.calls") == f"[hook][hotplug][online][{path}]"


def test_a_hotplug_script_by_another_name_does_not_run_itself_for_ever(dom0: Dom0) -> None:
    status, _, err = dom0.run(HOTPLUG, "online")
    assert status == 1
    assert "-xlmt" in err


# --- under the hook ------------------------------------------------------------------------


_AS_XLMT = '#!/bin/sh\nshift 2\nLD_PRELOAD=/a.so:/b.so exec "$@" 2>/dev/null\n'


def test_a_program_is_run_under_the_hook_by_the_same_process(dom0: Dom0) -> None:
    dom0.put("local/bin/xlmt", _AS_XLMT)
    program = dom0.put("program", _XL)
    with dom0.start(XL / "under-hook", program, "a b", "--", "-c") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (
        3,
        f"{process.pid} {program} /a.so:/b.so a b -- -c\n",
    ), err


def test_sockets_of_systemd_get_through(dom0: Dom0) -> None:
    dom0.put("local/bin/xlmt", _AS_XLMT)
    program = dom0.put("program", "#!/bin/sh\nexec cat <&3\n")
    command = f"exec 3<{ROOT / 'LICENSE'} {XL / 'under-hook'} {program}"
    _, out, _ = dom0.run("sh", "-c", command)
    assert out == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("xlmt", [None, "#!/nowhere/python\n", _XLMT], ids=["none", "broken", "1"])
def test_a_program_runs_without_the_hook_rather_than_not(dom0: Dom0, xlmt: str | None) -> None:
    (dom0.folder / "local/bin/xlmt").unlink()
    if xlmt:
        dom0.put("local/bin/xlmt", xlmt)
    program = dom0.put("program", _XL)
    status, out, _ = dom0.run(XL / "under-hook", program, "-d")
    assert (status, out.split()[1:]) == (3, [str(program), "none", "-d"])
    assert f"[{program} runs without the hook: " in dom0.seen("logger.calls")


def test_the_real_xlmt_is_asked_in_the_right_way(dom0: Dom0) -> None:
    dom0.put("local/bin/xlmt", f'#!/bin/sh\nexec {tool("xlmt")} "$@"\n')
    _, out, _ = dom0.run(XL / "under-hook", "printenv", "LD_PRELOAD")
    assert re.fullmatch(r"/\S+/xlmt/libxlmt-preload\.so\n", out)


@pytest.mark.parametrize("installed", [True, False])
def test_xl_is_run_under_the_hook_if_that_is_installed(dom0: Dom0, installed: bool) -> None:
    if not Path("/usr/sbin/xl").exists():
        pytest.skip("this machine has no /usr/sbin/xl")
    dom0.put("local/bin/xlmt", _AS_XLMT)
    if installed:
        dom0.install(XL / "under-hook", "local/lib/xlmt/under-hook")
    dom0.put("xl", _XL)
    shim = dom0.install(XL / "xl", "local/sbin/xl")
    status, out, _ = dom0.run(shim, "create", "a b")
    hooked = "/a.so:/b.so" if installed else "none"
    assert (status, out.split(maxsplit=1)[1]) == (3, f"/usr/sbin/xl {hooked} create a b\n")


# --- systemd -------------------------------------------------------------------------------


def verify(folder: Path, drop_in: Path, spoiled: str = "") -> str:
    """What systemd-analyze finds in the drop-in, were under-hook installed."""
    name = f"{drop_in.stem}.service"
    (folder / name).write_text("[Service]\nType=notify\nExecStart=true\nExecStop=true\n")
    (folder / f"{name}.d").mkdir()
    text = drop_in.read_text().replace("/usr/local/lib/xlmt/under-hook", "/usr/bin/env")
    (folder / f"{name}.d/xlmt.conf").write_text(text + spoiled)
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", folder / name],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:", "SYSTEMD_LOG_COLOR": "0"},
    )
    said = (done.stdout + done.stderr).splitlines()
    ours = [line for line in said if drop_in.stem in line]
    return "\n".join(said if done.returncode and not ours else ours)


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.stem)
def test_systemd_is_content_with_a_drop_in(tmp_path: Path, drop_in: Path) -> None:
    assert verify(tmp_path, drop_in) == ""


def test_systemd_would_not_be_content_with_another(tmp_path: Path) -> None:
    assert "xlmt.conf" in verify(tmp_path, XL / "libvirtd.conf", "Type=weekly\n")


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.stem)
def test_a_drop_in_runs_the_same_program_under_the_hook(drop_in: Path) -> None:
    for key in ("ExecStart", "ExecStop"):
        commands = re.findall(rf"^{key}=(.*)$", drop_in.read_text(), re.MULTILINE)
        assert [bool(command) for command in commands] in ([], [False, True])  # reset, then ours
    command = unit(drop_in)["Service"]["ExecStart"].split()
    assert command[0] == "/usr/local/lib/xlmt/under-hook"
    assert Path(command[1]).name == drop_in.stem


def test_the_units_run_what_xen_and_libvirt_have_them_run() -> None:
    started = {path.stem: unit(path)["Service"]["ExecStart"].split()[1:] for path in DROP_INS}
    assert started == {
        "libvirtd": ["/usr/sbin/libvirtd", "$LIBVIRTD_ARGS"],
        "virtxend": ["/usr/sbin/virtxend", "$VIRTXEND_ARGS"],
        "xendomains": ["xendomains", "start"],  # found in PATH: tests/stack/test_xendomains.py
    }
