# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host looks like, as values: read by adapters, judged by the core, printed by the CLI."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Life(StrEnum):
    """What the hypervisor says of a domid."""

    ALIVE = "alive"
    DYING = "dying"
    ABSENT = "absent"


class State(StrEnum):
    """What a domid's node is to its domain; `reconcile.state_of` decides."""

    OK = "ok"
    MISSING = "missing"
    TRANSITION = "transition"
    LINGERING = "lingering"
    ORPHAN = "orphan"
    UNPROTECTED = "unprotected"


class ShutdownReason(StrEnum):
    """Why a domain shut down, in libxl's words (libxl_shutdown_reason)."""

    POWEROFF = "poweroff"
    REBOOT = "reboot"
    SUSPEND = "suspend"
    CRASH = "crash"
    WATCHDOG = "watchdog"
    SOFT_RESET = "soft_reset"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Domain:
    """A row of the hypervisor's list.

    `shutdown` is set from the moment the guest has shut down until somebody destroys it;
    `never_stop` marks the domain that xenstored itself runs in.
    """

    domid: int
    uuid: str = ""
    dying: bool = False
    paused: bool = False
    never_stop: bool = False
    shutdown: ShutdownReason | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """A kernel thread; `state` is the letter of proc(5): S sleeping, D blocked, R running."""

    name: str
    pid: int
    state: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the host. A source that could not be read is None, and `problems` says why.

    Read in this order, so that a node whose domid `domains` lacks is no domain being born:
    nodes, hypervisor, xenstore homes, kernel.
    """

    nodes: frozenset[str] | None = frozenset()
    domains: Mapping[int, Domain] | None = field(default_factory=dict)
    homes: frozenset[int] | None = frozenset()
    backends: Mapping[int, tuple[str, ...]] | None = field(default_factory=dict)
    threads: Mapping[int, Thread] | None = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A domid of `xlmt list`: what was seen, and what it means.

    What could not be read is None. `state` is None where that leaves it open, and for a dying
    domain that has neither node nor backend: nothing of it is any concern.
    """

    domid: int
    name: str | None
    uuid: str | None
    hypervisor: Life | None
    xenstore: bool | None
    node: bool | None
    state: State | None
    backends: tuple[str, ...] | None
    thread: Thread | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Every domid that has a domain, a node or a kernel backend; and what else is there."""

    rows: tuple[Row, ...]
    foreign: tuple[str, ...]
    problems: tuple[str, ...]
