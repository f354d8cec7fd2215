# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the host looks like, as values: observed, judged by the plan, printed. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from xlmt.model import Domain, ShutdownReason, Thread


class Life(StrEnum):
    """What the hypervisor says of a domid."""

    ALIVE = "alive"
    DYING = "dying"
    ABSENT = "absent"


class State(StrEnum):
    """What a domid's node is to its domain; `plan.state_of` decides."""

    OK = "ok"
    MISSING = "missing"
    TRANSITION = "transition"
    LINGERING = "lingering"
    ORPHAN = "orphan"
    UNPROTECTED = "unprotected"
    FOREIGN = "foreign"


class Verb(StrEnum):
    """What is to be done to a node."""

    ADD = "add"
    REPAIR = "repair"
    REMOVE = "remove"


class Result(StrEnum):
    """What became of an action."""

    PLANNED = "planned"
    DONE = "done"
    CONFLICT = "conflict"
    FAILED = "failed"
    UNNEEDED = "unneeded"  # its reason was gone when it was looked at again


class Contents(NamedTuple):
    """What a node holds beside its name; `permissions` as in xenstore, the owner first."""

    permissions: tuple[str, ...]
    value: str = ""
    children: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """One look at the host. A source that could not be read is None, and `problems` says why.

    Read in this order, so that a node whose domid `domains` lacks is no domain being born:
    nodes, hypervisor, xenstore homes, kernel. The first four decide about nodes; threads, whose
    vifs are guarded, names and contents are there when somebody asked for them.
    """

    nodes: frozenset[str] | None = frozenset()
    domains: Mapping[int, Domain] | None = MappingProxyType({})
    homes: frozenset[int] | None = frozenset()
    backends: Mapping[int, tuple[str, ...]] | None = MappingProxyType({})
    threads: Mapping[int, Thread] | None = MappingProxyType({})
    guarded: Mapping[int, bool] = MappingProxyType({})
    names: Mapping[int, str] = MappingProxyType({})
    contents: Mapping[int, Contents] = MappingProxyType({})
    problems: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every source that decides about nodes was read."""
        return None not in (self.nodes, self.domains, self.homes, self.backends)


class Row(NamedTuple):
    """A domid of `xlmt list`: what was seen, and what it means.

    What could not be read is None. `state` is None where that leaves it open, and for a dying
    domain that has neither node nor backend: nothing of it is any concern. `guarded` is None
    where the kernel has no vif for the domid.
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
    shutdown: ShutdownReason | None = None
    half_made: bool = False
    guarded: bool | None = None


class Listing(NamedTuple):
    """Every domid that has a domain, a node or a kernel backend; and what else is there."""

    rows: tuple[Row, ...]
    foreign: tuple[str, ...]
    problems: tuple[str, ...]


class Action(NamedTuple):
    """One change of one child of mtwatch; `domid` is None for a foreign one.

    `state` is what the child was when it was planned.
    """

    verb: Verb
    node: str
    domid: int | None
    state: State
    reason: str


class Kept(NamedTuple):
    """A node that has to stay although its domain is gone."""

    domid: int
    state: State
    reason: str


class Plan(NamedTuple):
    """What one look at the host asks for: adds first, then repairs, then removals, by domid.

    `refusal` says why the safety gate is against the removals. Without a `complete` snapshot
    there are none, and `problems` says what could not be read; `blind` is when that includes the
    hypervisor. `unsettled`: some of it will change without an event, so it pays to look again.
    """

    actions: tuple[Action, ...] = ()
    kept: tuple[Kept, ...] = ()
    foreign: tuple[str, ...] = ()
    refusal: str | None = None
    complete: bool = True
    blind: bool = False
    problems: tuple[str, ...] = ()
    unsettled: bool = False

    @property
    def allowed(self) -> tuple[Action, ...]:
        """The actions that the gate lets through."""
        if self.refusal is None:
            return self.actions
        return tuple(action for action in self.actions if action.verb is not Verb.REMOVE)


class Outcome(NamedTuple):
    """What became of an action; `error` is for CONFLICT and FAILED."""

    action: Action
    result: Result
    error: str | None = None
