# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernels that dom0 can run: its release's own, or a Choice.

Those are one with many checkers (debug_kernel.py), one with the patches of kernel/upstream
(upstream_kernel.py), and the newest that Debian has for a release (newest.py). A guest always runs
its release's: it is dom0's kernel that xlmt has to do with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.release import Release


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

    @property
    def to_build_modules(self) -> dict[Path, str]:
        """Folders of the layer, and where a build of modules for this kernel expects them."""
        folders = ("usr/lib/modules", "usr/src")
        return {self.home / name: f"/{name}" for name in folders if (self.home / name).exists()}


@dataclass(frozen=True)
class Choice:
    """A kernel for a dom0 of `release`, in a layer that `layer` makes from dom0's root.

    `words` are for its command line. Without `module` it has no need of ours.
    """

    release: Release
    layer: Callable[[Path], Path]
    words: str = ""
    module: bool = True


def kernel_in(home: Path) -> Kernel:
    """The one kernel of a root or a layer."""
    (modules,) = (home / "usr/lib/modules").iterdir()
    return Kernel(modules.name, home)
