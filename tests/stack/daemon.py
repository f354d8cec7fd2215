# SPDX-License-Identifier: LGPL-2.1-or-later
"""The xenstore daemon of a stack: either of the two, its configuration and its logs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from tests.stack import trace
from tests.stack.trace import Request

Daemon = Literal["c", "ocaml"]
DAEMONS: dict[Daemon, str] = {"c": "xenstored", "ocaml": "oxenstored"}
RUNDIR = "/run/xenstored"
DOM0 = {
    "/local/domain/0/name": "Domain-0",
    "/local/domain/0/domid": "0",
    "/libxl/0/type": "pv",
    "/local/pool/0/name": "Pool-0",
}
OXENSTORED_CONF = """\
pid-file = /run/xenstored.pid
merge-activate = true
perms-activate = true
quota-activate = true
persistent = false
test-eagain = {test_eagain}
xenstored-log-file = /var/log/xen/xenstored.log
access-log-file = {trace}
access-log-nb-files = {files}
access-log-nb-lines = 100000000
access-log-nb-chars = 0
access-log-read-ops = true
access-log-transactions-ops = true
access-log-special-ops = true
xenstored-kva = /run/xsd_kva
xenstored-port = /run/xsd_port
"""


def xen_release() -> str | None:
    """The Xen whose libxl is installed, like "4.20": its library is named after it."""
    name = re.compile(r"libxenlight\.so\.(\d+\.\d+)$")
    folders = [*Path("/usr").glob("lib*"), *Path("/usr/lib").glob("*-linux-*")]
    found = (name.match(file) for folder in folders for file in os.listdir(folder))  # noqa: PTH208
    return next((match[1] for match in found if match), None)


def xen_bin() -> Path | None:
    """Where the real xl and the daemons are: what is in PATH on Debian is a wrapper."""
    names = (f"lib/xen-{xen_release()}", "lib/xen", "lib64/xen", "libexec/xen")
    folders = (Path("/usr") / name / "bin" for name in names)
    return next((folder for folder in folders if (folder / "xl").exists()), None)


def missing(daemon: Daemon = "c") -> str | None:
    """What this machine lacks to run a stack, or None."""
    if os.geteuid() != 0:
        return "root (for a mount namespace)"
    where = xen_bin() or Path("/usr/lib/xen/bin")
    needed = [where / "xl", where / DAEMONS[daemon], Path("/usr/include/xenguest.h")]
    for file in needed:
        if not file.exists():
            return str(file)
    for program in ("unshare", "nsenter", "gcc"):
        if not shutil.which(program):
            return program
    trial = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False, timeout=10)
    return "permission to make mount namespaces" if trial.returncode else None


@dataclass(frozen=True)
class Options:
    """oxenstored can fail one commit in three; without traces both daemons are faster."""

    test_eagain: bool = False
    traced: bool = True


class Host(Protocol):
    """What a daemon needs of the stack that it runs in."""

    @property
    def workdir(self) -> Path: ...
    @property
    def xen_bin(self) -> Path: ...
    def path(self, inside: str) -> Path: ...
    def env(self, extra: Mapping[str, str] | None = None) -> dict[str, str]: ...
    def enter(self, *argv: str | Path) -> list[str]: ...


class DaemonProcess:
    """Can be started again after a kill; each start has a trace of its own."""

    def __init__(self, kind: Daemon, host: Host, options: Options) -> None:
        self._kind: Daemon = kind
        self._host = host
        self._options = options
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._starts += 1
        with (self._host.workdir / f"xenstored-{self._starts}.out").open("wb") as log:
            self._process = subprocess.Popen(
                self._host.enter(*self._command()),
                env=self._host.env({"FAKEHV_XENSTORED": "1"}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        log = self._trace_file(self._starts)
        program = str(self._host.xen_bin / DAEMONS[self._kind])
        if self._kind == "c":
            return [program, "-N", *(["-T", str(log)] if self._options.traced else [])]
        self._host.path("/run/xsd_port").write_text("1")  # a newline would not be a number
        self._host.path("/run/xsd_kva").write_bytes(bytes(4096))
        conf = self._host.workdir / "oxenstored.conf"
        conf.write_text(
            OXENSTORED_CONF.format(
                test_eagain=str(self._options.test_eagain).lower(),
                trace=log,
                files=int(self._options.traced),
            )
        )
        return [program, "--no-fork", "--config-file", str(conf)]

    def check(self) -> None:
        """Raises RuntimeError when it has ended by itself."""
        if self._process and self._process.poll() is not None:
            raise RuntimeError(f"{DAEMONS[self._kind]} ended: {self._process.returncode}")

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None
        self._host.path(f"{RUNDIR}/socket").unlink(missing_ok=True)

    def send_signal(self, number: int) -> None:
        assert self._process, "the daemon is not running"
        self._process.send_signal(number)

    def _trace_file(self, start: int) -> Path:
        return self._host.workdir / f"trace-{start}.log"

    def trace(self) -> list[Request]:
        """What all starts have logged so far."""
        numbers = range(1, self._starts + 1)
        return [request for start in numbers for request in self._trace_of(start)]

    def _trace_of(self, start: int) -> list[Request]:
        file = self._trace_file(start)
        text = file.read_text(errors="replace") if file.exists() else ""
        return [request.of_start(start) for request in trace.PARSERS[self._kind](text)]
