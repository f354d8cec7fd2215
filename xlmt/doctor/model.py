# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one look at a host gave, as values. Pure."""

from enum import StrEnum
from typing import NamedTuple

from xlmt.doctor.findings import Finding
from xlmt.kernel.diagnose import View

#: These never change; each is a section of xlmt-doctor(8).
IDS = {
    "xenstored": "XLMT-2001",
    "nodes": "XLMT-2002",
    "zombies": "XLMT-2003",
    "supervisor": "XLMT-2004",
    "interposer": "XLMT-2005",
    "drivers": "XLMT-2006",
    "hotplug": "XLMT-2007",
    "hung tasks": "XLMT-2008",
    "persistent grants": "XLMT-2009",
    "guard": "XLMT-2010",
    "rescue": "XLMT-2011",
}


class State(StrEnum):
    OK = "ok"
    PROBLEM = "problem"
    SKIPPED = "skipped"


class Check(NamedTuple):
    """What came of one check, in a sentence, and what to type."""

    name: str
    state: State
    status: str
    actions: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return IDS[self.name]


class Zombie(NamedTuple):
    """A domain that is destroyed and still there: what keeps it, and how much memory that is."""

    domid: int
    memory_kb: int
    backends: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()


class Domains(NamedTuple):
    """What the look at all domains gave: two checks, and the zombies."""

    checks: tuple[Check, ...]
    zombies: tuple[Zombie, ...]


class Host(NamedTuple):
    """What was seen: the kernel's threads, all that is stuck, and what came of the checks.

    `at` is when, in seconds since the epoch.
    """

    view: View
    findings: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    zombies: tuple[Zombie, ...] = ()
    at: float = 0.0
