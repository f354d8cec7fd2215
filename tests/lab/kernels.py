# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernels that dom0 can run: its release's own, or a debug kernel (see debug_kernel.py).

A guest always runs the former: it is dom0's kernel that xlmt has to do with.
"""

from dataclasses import dataclass
from pathlib import Path


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


def kernel_in(home: Path) -> Kernel:
    """The one kernel of a root or a layer."""
    (modules,) = (home / "usr/lib/modules").iterdir()
    return Kernel(modules.name, home)
