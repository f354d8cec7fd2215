# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own daemon and its driver for Xen on a stack, from Debian's packages.

They are installed into a root of their own, with all that they depend on, and run from there by
this machine, which is of the same release. Two things stand in for a Xen host: the file by which
the driver knows that it is in dom0 is looked for below /run (the name is as long as the real one,
and written over it), and what the test installs into /etc and /usr/local is in layers of the
stack's mount namespace.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError
from tests.lab.root import debootstrap
from tests.stack.conftest import lacking
from tests.stack.product import ok
from tests.stack.stack import Stack, eventually

PACKAGES = ("libvirt-clients", "libvirt-daemon", "libvirt-daemon-driver-xen")
HOOKS = Path(__file__).parents[2] / "hooks"
SYSLOG = "/run/syslog"

_CAPABILITIES = (b"/proc/xen/capabilities\0", b"/run/fxen/capabilities\0")
_DOMAIN = """\
<domain type='xen'>
  <name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='xenpv'>linux</type><kernel>/etc/hostname</kernel></os>
</domain>
"""
_LAYERS = f"""\
set -e
mkdir /run/fxen /run/layer
echo control_d >/run/fxen/capabilities
mount -t tmpfs none /run/layer
mkdir /run/layer/etc /run/layer/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/layer/etc,workdir=/run/layer/work none /etc
mount -t tmpfs none /usr/local
mkdir /usr/local/bin
printf '#!/bin/sh\\nexec cat >>{SYSLOG}\\n' >/usr/local/bin/logger
chmod 755 /usr/local/bin/logger
"""


def installed() -> Path:
    """The root with libvirt in it; skips, naming the reason, if it cannot be had."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]

    def make(target: Path) -> None:
        debootstrap("libvirt", release, target / "root", PACKAGES, "--variant=minbase")

    try:
        key = cache.digest(release, *PACKAGES)
        return cache.entry("libvirt", key, "installing libvirt (once)", make) / "root"
    except LabError as e:
        lacking(f"no libvirt: {e}")


class Libvirt:
    """Debian's libvirtd on a stack, of which only the driver for Xen is loaded."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._files = installed()
        self._libraries = next(self._files.glob("usr/lib/*/libvirt.so.0")).parent
        self._lacking = stack.workdir / "lib"
        self._drivers = stack.workdir / "drivers"
        ok(stack.run("sh", "-c", _LAYERS))
        self._copy_driver()
        self._link_libraries()

    def _copy_driver(self) -> None:
        name = "libvirt_driver_libxl.so"
        text = (self._libraries / "libvirt/connection-driver" / name).read_bytes()
        assert _CAPABILITIES[0] in text
        self._drivers.mkdir()
        (self._drivers / name).write_bytes(text.replace(*_CAPABILITIES))

    def _link_libraries(self) -> None:
        """Only what this machine lacks: its own libc would not go with another one's loader."""
        self._lacking.mkdir()
        own = Path("/usr/lib") / self._libraries.name
        for library in self._libraries.glob("*.so*"):
            if not (own / library.name).exists():
                (self._lacking / library.name).symlink_to(library)

    def _env(self) -> dict[str, str]:
        return {
            "PATH": f"/usr/local/sbin:/usr/local/bin:{self.stack.xen_bin}:/usr/sbin:/usr/bin",
            "LD_LIBRARY_PATH": str(self._lacking),
            "LIBVIRT_DRIVER_DIR": str(self._drivers),
        }

    def install(self, source: Path, target: str) -> None:
        """Put a file where it belongs, as an administrator would."""
        ok(self.stack.run("install", "-D", source, target))

    def install_xlmt(self, text: str) -> None:
        file = self.stack.workdir / "xlmt.sh"
        file.write_text(text)
        self.install(file, "/usr/local/bin/xlmt")

    @contextmanager
    def running(self, *by: str) -> Iterator[None]:
        """The daemon, run by a program that becomes it, or by nothing else."""
        socket = self.stack.path("/run/libvirt/libvirt-sock")
        program = self._files / "usr/sbin/libvirtd"
        log = (self.stack.workdir / "libvirtd.log").open("a")
        with log:
            process = subprocess.Popen(
                self.stack.enter(*by, program),
                env=self.stack.env(self._env()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                eventually(socket.exists, 30, what=f"libvirtd listens, see {log.name}")
                yield
            finally:
                process.kill()
                process.wait(10)
                socket.unlink(missing_ok=True)

    def virsh(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        program = self._files / "usr/bin/virsh"
        return self.stack.run(program, "-c", "xen:///system", *arguments, env=self._env())

    def create(self, name: str) -> int:
        """A guest; returns its domid."""
        xml = self.stack.workdir / f"{name}.xml"
        xml.write_text(_DOMAIN.format(name=name))
        ok(self.virsh("create", xml))
        return int(ok(self.virsh("domid", name)).stdout)

    def logged(self) -> list[str]:
        file = self.stack.path(SYSLOG)
        return file.read_text().splitlines() if file.exists() else []
