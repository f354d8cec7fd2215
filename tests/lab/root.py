# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dom0's root: a Debian 12 folder with Xen's tools, a compiler, Xen and the kernels in it.

Everything is Debian's own, fetched from the mirrors this machine already uses, and stays in the
cache folder: /boot of this machine is never touched.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabUnavailable
from tests.lab.kernels import HEADERS

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
GUEST = Path(__file__).parent / "guest"
PACKAGES = (
    # Xen: the tools of dom0, and what xlmt is compiled against
    *("xen-utils-4.17", "xenstore-utils", "libxen-dev"),
    # building xlmt and the kernel module inside
    *("python3", "python3-venv", "python3-dev", "gcc", "libc6-dev", "make", *HEADERS),
    # what hotplug scripts, the scenarios and a person at the console use
    *("busybox-static", "iproute2", "procps", "kmod", "ethtool", "dmsetup", "strace"),
    *("less", "man-db"),
    # libvirt's daemon, without the package that would have it started by systemd
    *("libvirt-daemon", "libvirt-daemon-driver-xen", "libvirt-clients"),
)
TRIMMED = (
    *("/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"),
    # libvirtd loads whatever driver it finds: only Xen's own is wanted here
    "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_[!l]*",
)


def base_root() -> Path:
    """The root folder, made at the first call: about a minute and 1 GB.

    Raises LabUnavailable when a tool or the privilege to make it is missing.
    """
    key = cache.digest(SUITE, *PACKAGES, *TRIMMED, GUEST / "root-hook.sh", GUEST / "xendoms.c")
    label = "building the dom0 root (once, about a minute)"
    return cache.entry("root", key, label, _dom0, keep=2)


def _dom0(target: Path) -> None:
    hook = f'--customize-hook=sh {GUEST / "root-hook.sh"} "$1" {GUEST / "xendoms.c"}'
    excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in TRIMMED]
    debootstrap("root", target, PACKAGES, "--variant=minbase", hook, *excluded)


def debootstrap(
    what: str, target: Path, packages: Iterable[str], *options: str, sources: Sequence[str] = ()
) -> None:
    """Make a folder of Debian 12 with these packages in it; `what` names the log.

    `sources` are lines of sources.list, otherwise this machine's. Raises LabUnavailable when a
    tool or the privilege to do so is missing.
    """
    require("mmdebstrap", "unshare", "setpriv")
    require_root()
    sources = sources or mirror_lines()
    argv = ["mmdebstrap", f"--include={','.join(packages)}", *options]
    argv += [SUITE, str(target), *(["-"] if sources else [])]
    log = cache.folder() / f"{what}.log"
    log.unlink(missing_ok=True)
    cache.contained(argv, log, stdin="".join(f"{line}\n" for line in sources))


def mirror_lines() -> list[str]:
    """This machine's own sources of Debian 12, as lines of sources.list; others are left out.

    Empty on another distribution: mmdebstrap then uses its default mirror.
    """
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CODENAME)|$(ARCHITECTURE)"
    argv = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages", "Origin: Debian"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return []
    rows = [line.split("|") for line in sorted(set(done.stdout.splitlines()))]
    return [
        f"deb {uri} {release} {component}"
        for uri, release, component, codename, arch in rows
        if codename.startswith(SUITE) and arch == "amd64"
    ]


def mirror() -> str:
    """Where this machine has Debian 12 itself from, else Debian's own mirror."""
    lines = (line.split() for line in mirror_lines())
    return next((uri for _, uri, release, _ in lines if release == SUITE), MIRROR)


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
