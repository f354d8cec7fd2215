# SPDX-License-Identifier: LGPL-2.1-or-later
"""A running Xen host, and commands run in its dom0.

One trip: Lab makes or finds the layers in the cache, takes the lock that keeps a second VM off
this machine, starts QEMU, and waits for the agent. A command goes to the agent over a
virtio-serial port, runs in dom0, and its exit status and output come back the same way; consoles
are never parsed for a verdict. Leaving the `with` kills QEMU: everything in dom0 was in memory.
"""

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from tests.lab import cache, qemu
from tests.lab.channel import Channel
from tests.lab.emulator import emulator
from tests.lab.errors import CommandFailed, CommandTimeout, LabLost
from tests.lab.initrd import boot_files
from tests.lab.kernels import Choice, kernel_in
from tests.lab.product import installed_layer, product_layers
from tests.lab.release import Release, chosen
from tests.lab.root import GUEST, base_root, require

Daemon = Literal["c", "ocaml"]
BOOT_DEADLINES_S = (360.0, 720.0)  # until dom0's first program runs: the first time, another time
UP_DEADLINE_S = 90.0  # from there to a Xen host
DOWN_DEADLINE_S = 90.0  # for systemd to shut it down
VM_LOCK_DEADLINE_S = 3600.0  # another whole test run
PATIENCE = 4.0  # so many times longer is every deadline: for what hangs, not for what is slow
KEPT_RUNS = 5
TRACE = "/run/trace"  # xenstored's own log of every request


@dataclass(frozen=True)
class Result:
    """What a command in dom0 left: exit status, stdout, stderr."""

    rc: int
    out: str
    err: str


@dataclass(frozen=True)
class HypervisorDomain:
    """A row of the hypervisor's own list; flags as in `xl list`: r, b, p, s, d."""

    domid: int
    flags: str


class Lab:
    """A Xen host with the `daemon` xenstored, and with xlmt unless `product` is False.

    With `systemd` that boots it, as Debian's packages have it, ours among them, of which nothing is
    set up. It then has a disk, on which what is written outlasts a reboot.

    Dom0 is made of `release`, the chosen one by default. With `kernel` it runs that one, which goes
    with one release. `early` has xen_mtwatch loaded before xenstored is there, as modules-load.d
    does. `cpus` are the machine's, all of them dom0's; with `pvh` that is a PVH domain. `terminal`
    gives dom0's console to the terminal of this process. Entering raises LabUnavailable when this
    machine cannot run a lab, LabError when something does not build, LabLost when the VM does not
    come up. Every method raises LabLost when the VM is gone.
    """

    logs: Path  # Xen's and dom0's console, QEMU's complaints: kept for a look afterwards

    def __init__(
        self,
        daemon: Daemon = "c",
        *,
        release: Release | None = None,
        kernel: Choice | None = None,
        product: bool = True,
        early: bool = False,
        terminal: bool = False,
        systemd: bool = False,
        cpus: int = 2,
        pvh: bool = False,
    ) -> None:
        self.daemon: Daemon = daemon
        self.release = kernel.release if kernel else release or chosen()
        self._kernel = kernel
        self._product = product
        self._early = early
        self._terminal = terminal
        self._systemd = systemd
        self._cpus = cpus
        self._pvh = pvh
        self._spawned = 0
        self._held = ExitStack()  # the VM
        self._disk = ExitStack()

    def __enter__(self) -> Self:
        with self._disk:
            self._machine = self._systemd_machine() if self._systemd else self._bare_machine()
            try:
                self._start(BOOT_DEADLINES_S[0])
            except LabLost as lost:  # in one boot of thirty QEMU fails an assertion, or dom0 hangs
                cache.say(f"booting again: {lost}")
                self._start(BOOT_DEADLINES_S[1])
            self._disk = self._disk.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._disk:
            self._held.close()

    def run(
        self, command: str, timeout: float = 60.0, *, check: bool = False, stdin: str = ""
    ) -> Result:
        """Run a shell command (bash) as root in dom0.

        Raises CommandTimeout after PATIENCE times `timeout` seconds, CommandFailed with `check`
        when the exit status is not 0.
        """
        timeout *= PATIENCE
        rc, out, err = self._call(command, timeout, stdin)
        said = f"\nstdout: {out}\nstderr: {err}"
        if rc is None:
            raise CommandTimeout(f"{command!r} ran for more than {timeout:.0f} s{said}")
        if check and rc:
            raise CommandFailed(f"{command!r}: exit status {rc}{said}")
        return Result(rc, out, err)

    def wait_for(self, condition: str, timeout: float = 60.0) -> None:
        """Return once the shell command `condition` succeeds; CommandTimeout when it never did."""
        wait = "do sleep $pause; pause=0.4; done"
        self.run(f"pause=0.1\nuntil {{ {condition}\n}} > /dev/null 2>&1\n{wait}", timeout)

    def spawn(self, command: str) -> "Background":
        """Start a command in dom0 and return at once; its output goes to a file there."""
        self._spawned += 1
        output = f"/run/lab/spawn-{self._spawned}"
        script = f"( {command}\n) > {output} 2>&1 < /dev/null; echo $? > {output}.tmp; "
        script += f"mv {output}.tmp {output}.rc"
        started = self.run(f"setsid bash -c {shlex.quote(script)} > /dev/null 2>&1 & echo $!")
        return Background(self, int(started.out), output)

    def push(self, path: str, text: str, *, executable: bool = False) -> str:
        """Write a file in dom0; returns `path`."""
        quoted = shlex.quote(path)
        mode = "755" if executable else "644"
        self.run(f"cat > {quoted} && chmod {mode} {quoted}", check=True, stdin=text)
        return path

    def read(self, path: str) -> str:
        """A file's contents in dom0. Raises CommandFailed when it is not there."""
        return self.run(f"cat {shlex.quote(path)}", check=True).out

    def trace(self) -> str:
        """Every request that xenstored has logged, in its own words and order."""
        return self.read(TRACE)

    def log_requests(self, wanted: bool) -> None:
        """Whether the C xenstored logs requests from now on, as it does after a boot.

        It writes its log a character at a time, and a request takes two to seven times as long.
        """
        self.run(f"xenstore-control log {'on' if wanted else 'off'}", check=True)

    def console(self) -> str:
        """What Xen and dom0 printed so far."""
        return (self.logs / "console").read_text(errors="replace")

    def guest_console(self, name: str) -> str:
        """What a guest printed so far, empty when it printed nothing."""
        return self.run(f"cat /var/log/xen/console/guest-{shlex.quote(name)}.log").out

    def xen_domains(self) -> list[HypervisorDomain]:
        """The hypervisor's list, asked by hypercall: neither libxl nor xenstored is involved."""
        rows = self.run("xendoms", check=True).out.splitlines()
        return [HypervisorDomain(int(domid), flags) for domid, flags in map(str.split, rows)]

    def wait_end(self) -> None:
        """With `terminal`: return when the person has left."""
        self._qemu.wait()

    def reboot(self) -> None:
        """Have systemd shut the host down, and boot it again. Raises LabLost: it does not end."""
        with suppress(LabLost):  # it may end before it has answered
            self.run("systemctl --no-block poweroff")
        try:
            self._qemu.wait(DOWN_DEADLINE_S * PATIENCE)
        except subprocess.TimeoutExpired:
            raise self._post_mortem(LabLost("the host does not end")) from None
        self._held.close()
        self._start(BOOT_DEADLINES_S[1])

    def _systemd_machine(self) -> qemu.Machine:
        require("setpriv")
        root = base_root(self.release)
        kernel = kernel_in(root)
        boot = boot_files(root, kernel, kernel, disk=True)
        words = f"{self._words()} lab.init=/sbin/init"
        layers = [GUEST / "dom0", *([installed_layer(root, self.release)] if self._product else [])]
        folder = tempfile.TemporaryDirectory(dir=cache.folder(), prefix="disk-")
        disk = Path(self._disk.enter_context(folder)) / "disk.img"
        empty = ["cp", "--sparse=always", str(root / "disk.img"), str(disk)]
        subprocess.run(empty, check=True, timeout=60)
        return qemu.Machine(
            emulator=emulator(),
            boot=boot,
            layers=[*layers, boot / "layer", root],
            words=words,
            cpus=self._cpus,
            disk=disk,
        )

    def _bare_machine(self) -> qemu.Machine:
        require("setpriv")
        root = base_root(self.release)
        kernel = kernel_in(self._kernel.layer(root) if self._kernel else root)
        ours = None if self._kernel and not self._kernel.module else kernel
        product = product_layers(root, ours) if self._product else []
        boot = boot_files(root, kernel, kernel_in(root))
        words = self._words()
        if self._kernel:
            words += f" {self._kernel.words}"
        if self._early:
            words += " lab.early"
        below = [root] if kernel.home == root else [kernel.home, root]
        layers = [GUEST / "dom0", *product, boot / "layer", *below]
        return qemu.Machine(
            emulator=emulator(),
            boot=boot,
            layers=layers,
            words=words,
            cpus=self._cpus,
            pvh=self._pvh,
        )

    def _words(self) -> str:
        """What dom0's command line says on either host."""
        words = f"lab.daemon={self.daemon}"
        if self._terminal:
            size = shutil.get_terminal_size()
            words += f" lab.shell={size.lines}x{size.columns}"
        return words

    def _start(self, boot_s: float) -> None:
        with ExitStack() as held:
            held.enter_context(cache.locked("vm", VM_LOCK_DEADLINE_S))
            self._boot(held, boot_s)
            self._held = held.pop_all()

    def _boot(self, held: ExitStack, boot_s: float) -> None:
        self.logs = _new_run()
        file = str(self.logs / "console").replace(",", ",,")
        console = f"stdio,signal=off,logfile={file}" if self._terminal else f"file,path={file}"
        ours, theirs = socket.socketpair()
        held.enter_context(ours)
        with theirs:
            self._qemu = qemu.start(self._machine, theirs, self.logs / "qemu.log", console)
        held.callback(self._qemu.wait)
        held.callback(self._qemu.kill)
        self._channel = Channel(ours)
        lasts = "about a minute" if self._systemd else "about 20 s"
        with cache.progress(f"booting a Xen host: {self.release} ({lasts})"):
            self._wait_up(boot_s)

    def _wait_up(self, boot_s: float) -> None:
        try:
            self._channel.wait_for_agent(boot_s)
        except LabLost as lost:
            raise self._post_mortem(lost) from None
        try:
            up = "systemctl is-active multi-user.target" if self._systemd else "test -e /run/lab/up"
            self.wait_for(up, UP_DEADLINE_S)
        except CommandTimeout:
            processes = self.run("ps axf -o pid,stat,wchan:24,args | grep -v ' \\['").out
            raise self._post_mortem(LabLost(f"dom0 does not get up:\n{processes}")) from None

    def _call(self, command: str, timeout: float, stdin: str) -> tuple[int | None, str, str]:
        try:
            return self._channel.call(command, timeout, stdin)
        except LabLost as lost:
            raise self._post_mortem(lost) from None

    def _post_mortem(self, lost: LabLost) -> LabLost:
        last = "\n".join(self.console().splitlines()[-15:])
        qemu_said = (self.logs / "qemu.log").read_text(errors="replace").strip()
        return LabLost(f"{lost}\n{qemu_said}\nthe console ended with:\n{last}\n(logs: {self.logs})")


@dataclass(frozen=True)
class Background:
    """A command that Lab.spawn started; `pid` leads its own session and process group."""

    lab: Lab
    pid: int
    file: str

    def output(self) -> str:
        """Stdout and stderr so far."""
        return self.lab.run(f"cat {self.file}").out

    def rc(self) -> int | None:
        """The exit status, None while it runs."""
        text = self.lab.run(f"cat {self.file}.rc").out
        return int(text) if text else None

    def wait(self, timeout: float = 60.0) -> Result:
        """The result, once it has ended. Raises CommandTimeout."""
        self.lab.wait_for(f"test -e {self.file}.rc", timeout)
        rc = self.rc()
        assert rc is not None
        return Result(rc, self.output(), "")

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to the whole process group."""
        self.lab.run(f"kill -{signal} -- -{self.pid}")


def _new_run() -> Path:
    runs = cache.folder() / "runs"
    new = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns()}"
    new.mkdir(parents=True)
    for old in sorted(runs.iterdir())[:-KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return new
