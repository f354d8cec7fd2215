# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernels that dom0 can run: Debian 12's own, the newer one it also offers, a debug kernel.

A guest always runs the default one: it is dom0's kernel that xlmt has to do with.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError

DEFAULT = "6.1"
STOCK = (DEFAULT, "6.12")
DEBUG = "debug"  # see debug_kernel.py
HEADERS = ("linux-headers-amd64", "linux-headers-6.12-amd64")  # Debian's names for these


@dataclass(frozen=True)
class Kernel:
    """A kernel below `home`: dom0's root, or a layer over it."""

    release: str
    home: Path

    @property
    def image(self) -> Path:
        return self.home / f"boot/vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.home / "usr/lib/modules" / self.release


def stock_kernel(root: Path, name: str = DEFAULT) -> Kernel:
    """The kernel of the series `name`, one of STOCK. Raises LabError for another name."""
    if name not in STOCK:
        raise LabError(f"no kernel {name!r}: there are {', '.join([*STOCK, DEBUG])}")
    releases = [path.name for path in (root / "usr/lib/modules").iterdir()]
    (release,) = (release for release in releases if release.startswith(f"{name}."))
    return Kernel(release, root)
