# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a host has, and what is to be done to it, as values. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Put(NamedTuple):
    """A file that is to be there."""

    path: str
    content: bytes
    why: str
    mode: int = 0o644

    @property
    def told(self) -> str:
        return f"install {self.path}: {self.why}"


class Enable(NamedTuple):
    """A unit that is to be enabled and started."""

    unit: str
    why: str

    @property
    def told(self) -> str:
        return f"systemctl enable --now {self.unit}: {self.why}"


class Load(NamedTuple):
    """The module is to be loaded now; it stays when setup is undone."""

    why: str

    @property
    def told(self) -> str:
        return f"xlmt kernel load: {self.why}"


Step = Put | Enable | Load


class LeftOut(NamedTuple):
    """What cannot be done, and why."""

    what: str
    why: str


class Host(NamedTuple):
    """What was seen. `files` are the contents of those that may be installed, None of what is none.

    `units` are the services that systemd knows, `enabled` those of them that start at boot.
    `module` is whether this kernel has xen_mtwatch to be loaded, `at_work` whether a kernel half
    is; `dom0` whether this is domain 0 of a Xen that runs, and not a host that is to be one;
    `secure_boot` whether only a signed module can be loaded.
    """

    systemd: bool = False
    units: frozenset[str] = frozenset()
    enabled: frozenset[str] = frozenset()
    files: Mapping[str, bytes | None] = MappingProxyType({})
    folders: frozenset[str] = frozenset()
    module: bool = False
    at_work: bool = False
    dom0: bool = False
    secure_boot: bool = False


class Plan(NamedTuple):
    """The steps that are missing, what is there already, and what cannot be done."""

    steps: tuple[Step, ...] = ()
    there: tuple[Step, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    afterwards: tuple[str, ...] = ()
