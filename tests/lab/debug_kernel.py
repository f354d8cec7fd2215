# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel for dom0 with many checkers in it: lockdep, kmemleak, fault injection, ...

Built from Debian 12's source with the configuration in guest/debug-kernel: a PV dom0 for this lab
and nothing else, so that it takes minutes. That says why KASAN is not among them. In its place all
memory has red zones, and is poisoned when it is freed: who uses it afterwards finds 0x6b in it, who
writes to it is found out.
"""

import shutil
from pathlib import Path

from tests.lab import cache
from tests.lab.kernels import Kernel, kernel_in
from tests.lab.release import BOOKWORM
from tests.lab.root import GUEST, debootstrap, in_root
from tests.lab.source import linux_source

RECIPE = GUEST / "debug-kernel"
TOOLS = (
    *("gcc", "libc6-dev", "make", "flex", "bison", "bc", "perl-base", "kmod", "patch", "xz-utils"),
    *("libelf-dev", "libssl-dev"),  # for objtool, and for the scripts that sign modules
)
RELEASE = BOOKWORM  # whose Linux it is, and whose compiler it is built by
WORDS = "slub_debug=FZPU"  # for dom0's command line
DEADLINE_S = 3 * 3600.0  # two slow cores, and other work on them


def debug_kernel() -> Kernel:
    """The kernel, in a layer of its own; half an hour of two cores at the first call.

    Raises LabUnavailable when a tool or the privilege to make it is missing, LabError with the
    build's output when it does not build.
    """
    source = linux_source()
    key = cache.digest(source.name, *TOOLS, RECIPE)
    label = "building the debug kernel (once, 15 to 30 minutes)"
    layer = cache.entry("debug-kernel", key, label, lambda tmp: _build(source, tmp), keep=2)
    return kernel_in(layer)


def _build(source: Path, tmp: Path) -> None:
    build = tmp / ".build"
    build.mkdir()
    binds = {source: "/source", RECIPE: "/recipe", build: "/build", tmp: "/layer"}
    log = cache.folder() / "debug-kernel.log"
    log.unlink(missing_ok=True)
    in_root(_tools(), RECIPE / "build.sh", binds, log, DEADLINE_S)
    shutil.rmtree(build)


def _tools() -> Path:
    """A root with what a kernel's build needs, and the folders that it is shown."""
    folders = '--customize-hook=mkdir "$1/source" "$1/recipe" "$1/build" "$1/layer"'

    def make(tmp: Path) -> None:
        debootstrap("kernel-tools", RELEASE.codename, tmp, TOOLS, "--variant=minbase", folders)

    return cache.entry(
        "kernel-tools", cache.digest(*TOOLS), "fetching a kernel's build tools", make
    )
