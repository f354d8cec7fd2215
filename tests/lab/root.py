# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dom0's root: a folder of Debian with Xen's tools, a compiler, Xen and the kernel in it.

Everything is the release's own, fetched from the mirrors this machine already uses, and stays in
the cache folder: /boot of this machine is never touched.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.lab import cache, debian
from tests.lab.errors import LabUnavailable
from tests.lab.release import Release

GUEST = Path(__file__).parent / "guest"
PACKAGES = (
    # Xen: the tools of dom0 (what provides them names Xen's version), what xlmt is compiled against
    *("xen-utils", "xenstore-utils", "libxen-dev"),
    # the device models of HVM guests
    "qemu-system-xen",
    # building xlmt and the kernel module inside
    *("python3", "python3-venv", "python3-dev", "gcc", "libc6-dev", "make"),
    *("linux-headers-amd64", "linux-image-amd64"),
    # what hotplug scripts, the scenarios and a person at the console use
    *("busybox-static", "iproute2", "procps", "kmod", "ethtool", "dmsetup", "strace"),
    *("e2fsprogs", "nbd-client", "nbd-server"),
    *("less", "man-db"),
    # a host that systemd boots, with a toolstack that it starts
    *("systemd-sysv", "udev", "dbus", "cron", "logrotate"),
    *("libvirt-daemon-system", "libvirt-daemon-driver-xen", "libvirt-clients"),
    # what our own packages depend on, so that these are all that apt has to install there
    *("python3-typer", "python3-pyxs", "python3-cffi-backend", "dkms"),
)
#: Drivers of what no machine has that the lab boots: most of the modules' size.
DRIVERS = (
    *("sound", "drivers/gpu", "drivers/media", "drivers/infiniband", "drivers/iio", "drivers/usb"),
    *("drivers/scsi", "drivers/net/wireless", "drivers/net/ethernet"),
)
TRIMMED = (
    *("/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"),
    *(f"{lib}/modules/*/kernel/{what}/*" for lib in ("/lib", "/usr/lib") for what in DRIVERS),
    # the kernel's package would have an initrd made, which takes a minute; the lab has its own
    "/etc/kernel/postinst.d/initramfs-tools",
    # libvirtd loads whatever driver it finds: only Xen's own is wanted here
    "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_[!l]*",
)


def base_root(release: Release) -> Path:
    """The root folder of a release, made at the first call: about a minute and 1.5 GB.

    /disk.img in it is an empty disk, for a host that systemd boots. Raises LabUnavailable when a
    tool or the privilege to make it is missing.
    """
    added = (GUEST / "root-hook.sh", GUEST / "systemd-hook.sh", GUEST / "xendoms.c")
    units = GUEST / "systemd"
    key = cache.digest(release.codename, *PACKAGES, *TRIMMED, *added, units)
    label = f"building a dom0 of {release} (once, about a minute)"

    def make(target: Path) -> None:
        hooks = [f'root-hook.sh "$1" {GUEST / "xendoms.c"}', f'systemd-hook.sh "$1" {units}']
        options = [f"--customize-hook=sh {GUEST}/{hook}" for hook in hooks]
        options += [f"--dpkgopt=path-exclude={pattern}" for pattern in TRIMMED]
        # Without an id of the machine, the first boot by systemd would set all units anew.
        options += ["--variant=minbase", "--skip=cleanup/reproducible/machine-id"]
        debootstrap("root", release.codename, target, PACKAGES, *options)

    return cache.entry("root", key, label, make)


def debootstrap(
    what: str,
    codename: str,
    target: Path,
    packages: Iterable[str],
    *options: str,
    backports: bool = False,
) -> None:
    """Make a folder of the release of this codename with these packages; `what` names the log.

    With `backports` packages of these can be named, as in "name/trixie-backports". Raises
    LabUnavailable when a tool or the privilege to do so is missing.
    """
    require("mmdebstrap", "unshare", "setpriv")
    require_root()
    lines = debian.sources(codename)
    if backports and not lines:
        raise LabUnavailable("Debian, whose mirrors have the backports")
    lines += debian.backports(codename) if backports else []
    argv = ["mmdebstrap", f"--include={','.join(packages)}", *options]
    argv += [codename, str(target), *(["-"] if lines else [])]
    log = cache.folder() / f"{what}.log"
    log.unlink(missing_ok=True)
    cache.contained(argv, log, stdin="".join(f"{line}\n" for line in lines))


def require(*programs: str) -> None:
    """Raise LabUnavailable unless all of these programs are installed."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        raise LabUnavailable(f"not installed: {', '.join(missing)}")


def require_root() -> None:
    """Raise LabUnavailable unless we are root."""
    if os.geteuid() != 0:
        raise LabUnavailable("root: building the lab's layers needs it (chroot, mounts)")


def in_root(
    root: Path,
    script: Path,
    binds: dict[Path, str],
    log: Path,
    deadline_s: float = cache.BUILD_DEADLINE_S,
) -> None:
    """Run the shell script `script` inside the root, which is read-only meanwhile.

    `binds` maps folders of this machine to where they are seen, writable, in there.
    """
    require("unshare", "setpriv")
    require_root()
    pairs = [f"{host}={inside}" for host, inside in binds.items()]
    argv = ["sh", str(GUEST / "chroot.sh"), str(root), *pairs, "--", str(script)]
    cache.contained(argv, log, deadline_s=deadline_s)
