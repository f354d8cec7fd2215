# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can go wrong, each with the exit status that a user's script sees.

The message of every error is one line: the thing, the reason, the way out.
"""


class XlmtError(Exception):
    """Something failed; the base of all that xlmt raises on purpose."""

    exit_status = 1


class UsageError(XlmtError):
    """The command line asks for something that cannot be meant."""

    exit_status = 2


class OutOfOrderError(XlmtError):
    """Nothing failed, but there is something to be done, which we were only asked to find."""

    exit_status = 3


class RefusedError(XlmtError):
    """The safety gate keeps us from doing what was asked."""

    exit_status = 4


class NoXenError(XlmtError):
    """The hypervisor or xenstored is out of reach."""

    exit_status = 5


class ExposedError(XlmtError):
    """Nothing is stuck, but no kernel half is at work: one stuck guest would take the host."""

    exit_status = 6


class XenstoreError(XlmtError):
    """xenstored refused a request; `errno` is its reason."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class XenstoreUnreachableError(NoXenError):
    """No xenstored, a connection that ended, or no answer before the deadline."""


class LibxlError(XlmtError):
    """A libxl call failed; carries what libxl itself said, newest last."""

    def __init__(self, what: str, rc: int, name: str, said: tuple[str, ...] = ()) -> None:
        reason = "; ".join(said) if said else "libxl gave no reason"
        super().__init__(f"{what}: {reason} ({name}, rc {rc})")
        self.rc = rc
        self.name = name
        self.said = said

    @property
    def is_for_want(self) -> bool:
        """Whether it failed for want of space, memory or descriptors, which may be there later."""
        return any(word in line for line in self.said for word in _WANTS)


#: Of strerror(3): libxl has no error codes for these.
_WANTS = (
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Cannot allocate memory",
    "Too many open files",
    "Resource temporarily unavailable",
)


class WantError(XlmtError):
    """There is not enough of something now: space, memory, descriptors."""


class UnreadableError(XlmtError):
    """What was kept on the disk is not what we have written."""


class NoSuchDomainError(XlmtError):
    """No domain has this name or domid."""


class TimedOutError(XlmtError):
    """A wait reached its deadline."""


class ClockError(TimedOutError):
    """The clock was set back, by which something else than our own deadlines goes."""


#: What may be over when it is tried again.
PASSING = (NoXenError, TimedOutError, WantError)
