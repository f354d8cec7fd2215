# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU, from Debian 13 whatever dom0 is made of, with the libraries that it runs on.

Debian 12's, 7.2, cannot be used, whoever installs it: two emulated CPUs race when
one of them changes code that the other is about to run, so that a kernel which patches itself, as
it does whenever tracing is switched, ends in "Oops: int3". QEMU 8.1 mended that (its commit
deba78709ae8, "accel/tcg: Always lock pages before translation").
"""

from pathlib import Path

from tests.lab import cache
from tests.lab.release import TRIXIE
from tests.lab.root import debootstrap

PACKAGE = "qemu-system-x86"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def emulator() -> list[str]:
    """The beginning of a command line that runs QEMU; fetched at the first call, 160 MB.

    Raises LabUnavailable when a tool or the privilege to fetch it is missing.
    """
    key = cache.digest(TRIXIE.codename, PACKAGE)
    home = cache.entry("qemu", key, "fetching QEMU (once, about ten seconds)", _fetch, keep=1)
    # Its own loader: another libc's does not load this one.
    libraries = str(home / LIBRARIES)
    argv = [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries]
    argv += [str(home / "usr/bin/qemu-system-x86_64")]
    for firmware in ("qemu", "seabios"):
        argv += ["-L", str(home / "usr/share" / firmware)]
    return argv


def _fetch(target: Path) -> None:
    debootstrap("qemu", TRIXIE.codename, target, [PACKAGE], "--variant=extract")
