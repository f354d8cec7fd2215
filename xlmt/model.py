# SPDX-License-Identifier: LGPL-2.1-or-later
"""What adapters return, as values: a domain, a kernel thread, an interface."""

from enum import StrEnum
from typing import NamedTuple


class ShutdownReason(StrEnum):
    """Why a domain shut down, in libxl's words (libxl_shutdown_reason)."""

    POWEROFF = "poweroff"
    REBOOT = "reboot"
    SUSPEND = "suspend"
    CRASH = "crash"
    WATCHDOG = "watchdog"
    SOFT_RESET = "soft_reset"
    UNKNOWN = "unknown"


class Domain(NamedTuple):
    """A row of the hypervisor's list.

    `shutdown` is set from the moment the guest has shut down until somebody destroys it;
    `never_stop` marks the domain that xenstored itself runs in; `ran` is whether it ever had a CPU.
    `memory_kb` is what it has of the host's memory, in KiB.
    """

    domid: int
    uuid: str = ""
    dying: bool = False
    paused: bool = False
    never_stop: bool = False
    shutdown: ShutdownReason | None = None
    ran: bool = False
    memory_kb: int = 0

    @property
    def is_half_made(self) -> bool:
        """Whether nobody has let it run yet: so it is being made, or was left by who made it."""
        return self.paused and not (self.ran or self.dying or self.shutdown)


class Doing(NamedTuple):
    """The callback that a thread is in, for how long, and how many events wait behind it."""

    callback: str
    path: str | None
    age_s: float
    depth: int | None = None


class Thread(NamedTuple):
    """A kernel thread; `state` is the letter of proc(5): S sleeping, D blocked, R running.

    `stalled_s` is for how many seconds, at least, it has been in D without having run once.
    `doing` is there when the kernel half tells, and the thread is in a callback.
    """

    name: str
    pid: int
    state: str
    stalled_s: float = 0.0
    doing: Doing | None = None


class Spinner(NamedTuple):
    """A thread of netback's that waits for packets by running in circles.

    Since Linux 6.1 kthread_stop() keeps every interruptible wait of the thread that is to stop
    from sleeping. `cpu` is the share of one CPU that this costs.
    """

    name: str
    pid: int
    interface: str
    domid: int | None
    cpu: float


class Vif(NamedTuple):
    """netback's interface of a guest; `device` is its name on the bus, which no one can change."""

    ifindex: int
    interface: str
    domid: int
    device: str
