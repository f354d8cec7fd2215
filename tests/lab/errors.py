# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can go wrong with the lab, told apart: a lost VM is not a failed command."""


class LabError(Exception):
    """The lab itself failed."""


class LabUnavailable(LabError):  # noqa: N818
    """This machine lacks something the lab needs; the message names it."""


class LabLost(LabError):  # noqa: N818
    """The VM ended, or no longer answers: says nothing about what was being tested."""


class CommandFailed(LabError):  # noqa: N818
    """A command that was to succeed (check=True) did not."""


class TripleFault(LabError):  # noqa: N818
    """A guest fell over by a triple fault, as some do in this emulator; xlmt cannot cause one."""


class CommandTimeout(LabError):  # noqa: N818
    """A command in dom0 ran longer than it was given; the agent killed it (unless in state D)."""
