# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Xen host without Xen: libxl, xl and a xenstored, all real, on a fake hypervisor.

A holder process owns a private mount namespace in which the places Xen's programs write to are
empty tmpfs; the daemon and every command run in there, with the fake hypervisor preloaded. When
the holder's pipe closes, whatever still lives in the namespace is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

from tests.stack import hypervisor, standin
from tests.stack.daemon import DOM0, RUNDIR, Daemon, DaemonProcess, Options, missing, xen_bin
from tests.stack.holder import neighbours
from tests.stack.hypervisor import DomainFile, Hypervisor
from tests.stack.proxy import Proxy
from tests.stack.standin import Backends, Console
from tests.stack.trace import Request
from tests.stack.wire import MARK, Client

__all__ = ["BUS", "DEVICES", "MTWATCH", "Daemon", "Stack", "eventually", "missing", "xen_bin"]

T = TypeVar("T")


UNSHARE = ("unshare", "--mount", "--propagation", "private")
FAKEXEN = "/run/fakexen"
MTWATCH = "/local/domain/0/mtwatch"
DEVICES = f"/sys/{standin.DEVICES}"
BUS = f"/sys/{standin.BUS}"


def eventually(check: Callable[[], T], timeout: float = 10, what: str = "") -> T:
    """The first true value of `check`; raises TimeoutError. An OSError of it means not yet."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        with suppress(OSError):
            if value := check():
                return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what or check}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class Stack:
    """One host. A context manager; `workdir` keeps logs and traces, and must not be in /run.

    Commands start in "/", see `workdir` under its own name, and must be given absolute paths.
    """

    def __init__(
        self,
        daemon: Daemon,
        *,
        workdir: Path,
        test_eagain: bool = False,
        traced: bool = True,
    ) -> None:
        self.daemon: Daemon = daemon
        self.workdir = workdir.resolve()
        self._options = Options(test_eagain=test_eagain, traced=traced)
        self._proxies = 0
        where = xen_bin()
        if not where:
            raise FileNotFoundError("xl")
        self.xen_bin = where
        self.fakehv = hypervisor.build()
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self.workdir.mkdir(parents=True, exist_ok=True)
        try:
            self._holder = self._hold()
            self.hypervisor = Hypervisor(self.path(FAKEXEN))
            self.hypervisor.add(0, handle="0" * 32)
            self._daemon = DaemonProcess(self.daemon, self, self._options)
            self.start_daemon()
            self._exit.callback(self.kill_daemon)
            console = Console(self.socket)
            self._exit.callback(console.stop)
            console.start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _hold(self) -> subprocess.Popen[str]:
        holder = subprocess.Popen(
            [*UNSHARE, sys.executable, "-I", "-S", str(Path(__file__).with_name("holder.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._exit.callback(self._let_go, holder)
        assert holder.stdout
        if holder.stdout.readline() != "ready\n":
            raise RuntimeError("the namespace could not be set up")
        return holder

    @staticmethod
    def _let_go(holder: subprocess.Popen[str]) -> None:
        try:
            holder.communicate(timeout=15)  # closes its input: it kills all others and ends
        except subprocess.TimeoutExpired:
            holder.kill()
            holder.wait(5)

    # What is where

    def path(self, inside: str) -> Path:
        """A path in the stack as seen from outside. Use real paths: /run, not /var/run."""
        return Path(f"/proc/{self._holder.pid}/root{inside}")

    @property
    def socket(self) -> Path:
        return self.path(f"{RUNDIR}/socket")

    def client(self, *, marked: bool = True, timeout: float = 10) -> Client:
        """An independent xenstore client; the trace shows its requests if not marked."""
        return Client(self.socket, marked=marked, timeout=timeout)

    def env(
        self, extra: Mapping[str, str] | None = None, *, preload: bool = True
    ) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("XENSTORED_", "FAKE"))}
        env |= {
            "PATH": f"{self.xen_bin}:{env.get('PATH', '/usr/bin:/bin')}",
            "FAKEXEN_DIR": FAKEXEN,
            "XENSTORED_RUNDIR": RUNDIR,
        }
        if preload:
            env["LD_PRELOAD"] = str(self.fakehv)
        return env | dict(extra or {})

    def pids(self) -> list[int]:
        """Every process in here, the daemon and what daemonised itself included."""
        return neighbours(os.readlink(f"/proc/{self._holder.pid}/ns/mnt"))  # noqa: PTH115

    # Commands

    def popen(
        self,
        *argv: str | Path,
        env: Mapping[str, str] | None = None,
        preload: bool = True,
    ) -> subprocess.Popen[str]:
        """A command with three pipes. Its pid is the command's own, and leads a session."""
        return subprocess.Popen(
            self.enter(*argv),
            env=self.env(env, preload=preload),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def run(
        self,
        *argv: str | Path,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        preload: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; raises TimeoutExpired after killing the command's session."""
        with self.popen(*argv, env=env, preload=preload) as process:
            try:
                out, err = process.communicate(input, timeout=timeout)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def enter(self, *argv: str | Path) -> list[str]:
        """The command that runs `argv` in the namespace, in the same process."""
        mount = f"--mount=/proc/{self._holder.pid}/ns/mnt"
        return ["nsenter", mount, "--", *(str(a) for a in argv)]

    def xl(
        self, *args: str | Path, timeout: float = 60, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The real xl, unhooked."""
        return self.run(self.xen_bin / "xl", *args, timeout=timeout, env=env)

    def xlmt(
        self,
        *args: str | Path,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The product, from the environment that runs the tests."""
        program = Path(sys.executable).parent / "xlmt"
        return self.run(program, *args, timeout=timeout, env=env, input=input)

    def guest(self, name: str, kind: str = "pv", **settings: object) -> Path:
        """A config file for xl. Any file is a kernel here."""
        values = {"name": name, "type": kind, "kernel": "/etc/hostname", "memory": 16} | settings
        config = self.workdir / f"{name}.cfg"
        # Python's and xl's literals agree for numbers, strings and lists of them.
        config.write_text("".join(f"{k} = {_literal(v)}\n" for k, v in values.items()))
        return config

    # The daemon

    def start_daemon(self) -> None:
        """Start it and write what xen-init-dom0 writes."""
        self._daemon.start()
        eventually(self._write_dom0, what=f"xenstored answers, see {self.workdir}")

    def _write_dom0(self) -> bool:
        self._daemon.check()
        with self.client() as client:
            for path, value in DOM0.items():
                client.write(path, value)
        return True

    def kill_daemon(self) -> None:
        self._daemon.kill()

    def restart_daemon(self) -> None:
        """As after a crash: it knows nothing but dom0."""
        self.kill_daemon()
        self.start_daemon()

    def freeze_daemon(self) -> None:
        self._daemon.send_signal(signal.SIGSTOP)

    def thaw_daemon(self) -> None:
        self._daemon.send_signal(signal.SIGCONT)

    @contextmanager
    def proxy(self) -> Iterator[Proxy]:
        """A proxy before the daemon; give its `env` to the command that should go through it."""
        self._proxies += 1
        inside = f"/run/proxy-{self._proxies}"
        with Proxy(self.socket, self.path(inside), {"XENSTORED_PATH": inside}) as proxy:
            yield proxy

    # What happened

    def trace(self) -> list[Request]:
        """Every request so far, of all starts of the daemon, but those of this harness."""
        with suppress(OSError), self.client(timeout=5) as client:
            client.exists(MARK)  # answered: all before it is in the log
        return self._daemon.trace()

    def nodes(self) -> dict[str, str]:
        """The children of mtwatch and their permissions, like {"1": "n0"}.

        Those that are all there while it looks: one that somebody removes meanwhile is left out.
        """
        found = {}
        with self.client() as client, suppress(FileNotFoundError):
            for name in client.ls(MTWATCH):
                with suppress(FileNotFoundError):
                    found[name] = ",".join(client.perms(f"{MTWATCH}/{name}"))
        return found

    def homes_and_nodes(self) -> tuple[set[str], set[str]]:
        """The children of /local/domain and those of mtwatch, at one and the same moment."""

        def look(client: Client) -> tuple[set[str], set[str]]:
            with client.transaction() as tx:
                homes = set(client.ls("/local/domain", tx))
                nodes = set(client.ls(MTWATCH, tx)) if client.exists(MTWATCH, tx) else set()
            return homes, nodes

        with self.client() as client:  # an OSError is EAGAIN: what was read does not fit together
            return eventually(lambda: look(client), what="a look that nothing comes between")

    def domains(self) -> dict[int, DomainFile]:
        """All domains that the hypervisor lists, dom0 among them."""
        return self.hypervisor.domains()

    # What to make happen

    def add_domain(self, domid: int) -> None:
        """An unhooked, living domain that was introduced to the daemon."""
        self.add_domains([domid], introduce=True)

    def add_domains(self, domids: Iterable[int], *, introduce: bool = False) -> None:
        """Many of them. Without introduction the daemon announces neither coming nor going.

        The C daemon looks at, and traces, every introduced domain on each turn of its loop:
        2000 of them make gigabytes of log in seconds.
        """
        with self.client() as client:
            for domid in domids:
                self.hypervisor.add(domid)
                client.write(f"/local/domain/{domid}/name", f"d{domid}")
                client.write(f"/local/domain/{domid}/domid", str(domid))
                if introduce:
                    client.introduce(domid)

    def die(self, domid: int, reason: str = "poweroff") -> None:
        """The domain ends by itself: poweroff, reboot, suspend, crash, watchdog, soft_reset."""
        self.hypervisor.shut_down(domid, reason)

    def hold_device(self, domid: int, dev: str | None = None) -> None:
        """The kernel holds `dev`, as <type>-<domid>-<devid>."""
        standin.make_device(self.path("/sys"), dev or f"vif-{domid}-0")

    def begin_removal(self, domid: int, dev: str | None = None) -> None:
        """The kernel is inside the driver's remove(): it holds the device, but off its bus."""
        standin.begin_removal(self.path("/sys"), dev or f"vif-{domid}-0")

    def release_device(self, domid: int, dev: str | None = None) -> None:
        standin.remove_device(self.path("/sys"), dev or f"vif-{domid}-0")

    @contextmanager
    def kernel_holds(self, domid: int, dev: str | None = None) -> Iterator[None]:
        self.hold_device(domid, dev)
        try:
            yield
        finally:
            self.release_device(domid, dev)

    @contextmanager
    def backends(self) -> Iterator[Backends]:
        """The kernel's backend drivers, without which guests cannot have disks and vifs."""
        backends = Backends(self.socket, self.path("/sys"))
        backends.start()
        try:
            yield backends
        finally:
            backends.stop()


def _literal(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return str(value)
