# SPDX-License-Identifier: LGPL-2.1-or-later
"""Call traces as people paste them: from /proc/PID/stack, from dmesg, out of a mail. Pure.

One paste may hold several tasks. What the kernel printed a trace for matters as much as the trace:
a warning out of the very function that also stalls is no stall.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

#: More than a kernel prints of one task; longer input is no trace.
MOST_FRAMES = 200
MOST_TRACES = 1000


class Report(StrEnum):
    """What the kernel printed a trace for; `stack`: nothing, somebody has looked."""

    STACK = "stack"
    HUNG = "hung"  # khungtaskd, or sysrq-w, which lists what is in D
    CRASH = "crash"  # BUG, Oops, general protection fault: the task is gone
    WARNING = "warning"  # and what else is only a word: page allocation failures, lockdep


class Trace(NamedTuple):
    """Where a task was: `frames` are bare function names, the innermost first.

    `task` is the thread's name, empty where nothing tells it. `blocked_s` is from khungtaskd.
    """

    task: str
    frames: tuple[str, ...]
    report: Report = Report.STACK
    pid: int | None = None
    blocked_s: int | None = None


#: What syslog, journald, dmesg and mail programs put before a line of the kernel's.
_PREFIX = re.compile(
    r"^(?:[>|]\s?)*"
    r"(?:.*?\bkernel:\s?|[A-Z][a-z]{2}\s+\d+\s[\d:]{8}\s\S+\s(?=\[))?"
    r"(?:<\d>)?(?:\[\s*\d+\.\d+\]\s?)?(?:\[\s*[TC]\d+\]\s?)?(?:\(XEN\)\s?)?"
)
_FRAME = re.compile(
    r"^(?:RIP: (?:[0-9a-f]{4}:)?)?\s*(?:\[<[0-9a-f]+>\]\s*)*"
    r"(?P<unsure>\?\s+)?(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?(?:\s+\[[^\]]*\])?\s*$"
)
#: Names alone, as /proc/PID/stack looks after somebody has made it shorter.
_NAME = re.compile(r"^\s*(?:\[<[0-9a-f]+>\]\s*)?(?P<name>[A-Za-z_][\w.:~]*)\s*$")
#: What compilers make of a part of a function: .isra.0, .constprop.0, .part.12, .cold
_PART = re.compile(r"\.(?:isra|constprop|part|cold|llvm)\b.*")

_HUNG = re.compile(
    r"INFO: task (?P<task>.+):(?P<pid>\d+) (?:is )?blocked (?:on a \w+ )?(?:.*?)"
    r"for more than (?P<s>\d+) seconds"
)
_STATE = re.compile(r"^task:(?P<task>.+?)\s+state:(?P<state>\S)\b.*?\bpid:\s*(?P<pid>\d+)")
_OLD_STATE = re.compile(
    r"^(?P<task>\S.{0,14}?)\s+(?P<state>[RSDTZX])\s+(?:\d+|[0-9a-f]{8,16}|running task)"
    r"\s+\d+\s+(?P<pid>\d+)\s+\d+"
)
_CRASH = re.compile(
    r"kernel BUG at |^BUG: (?:unable|kernel|Bad)|general protection fault|Oops\b|divide error:|"
    r"Kernel panic"
)
_WARNING = re.compile(
    r"^WARNING: |^(?P<task>\S+): page allocation failure|possible recursive locking|"
    r"^INFO: possible |^BUG: (?:sleeping|scheduling|soft lockup|workqueue)"
)
_CPU = re.compile(r"^NMI backtrace for cpu \d+")
_COMM = re.compile(r"\bPID: (?P<pid>\d+)(?:\s+UID: \d+)?,? [Cc]omm: (?P<task>\S+)")
_OF_PROC = re.compile(r"^(?:[#$] )?(?:cat |==> )?/proc/(?P<pid>\d+)/(?:task/\d+/)?stack\b")
_OUTERMOST = {"kthread", "ret_from_fork", "ret_from_fork_asm", "child_rip", "kernel_thread_helper"}
_END = re.compile(r"---\[ end trace")


def read(text: str) -> tuple[Trace, ...]:
    """Return the traces in a text, in its order; none that has no function."""
    found = (drafted.finished() for drafted in _drafts(text))
    traces = [trace for trace in found if trace is not None]
    return tuple(traces[:MOST_TRACES])


def bare(name: str) -> str:
    """Return a function's name without what the compiler has added."""
    return _PART.sub("", name)


class _Draft:
    """A trace on its way: what was read of it so far."""

    def __init__(self) -> None:
        self.task, self.pid, self.blocked_s = "", None, None  # type: str, int | None, int | None
        self.report = Report.STACK
        self.frames: list[str] = []
        self.sure = self.ended = False

    def add(self, name: str, *, sure: bool) -> None:
        """Add a function; `sure` where the line can be nothing else, and not a word of a mail."""
        if sure and not self.sure:
            self.frames.clear()
        self.sure |= sure
        if len(self.frames) < MOST_FRAMES and not self.ended:
            name = bare(name)
            if self.frames[-1:] != [name]:  # a crash names its function twice: RIP, and the trace
                self.frames.append(name)

    @property
    def task_is_sure(self) -> bool:
        """Whether nobody else can be meant who is named from here on: his trace has begun."""
        return self.report is Report.HUNG or bool(self.frames)

    def of(self, match: re.Match[str]) -> None:
        self.task, self.pid = match["task"].strip(), int(match["pid"])

    def finished(self) -> Trace | None:
        if not self.frames or (not self.sure and len(self.frames) == 1):
            return None
        return Trace(self.task, tuple(self.frames), self.report, self.pid, self.blocked_s)


def _drafts(text: str) -> Iterator[_Draft]:
    draft = _Draft()
    for line in map(_without_prefix, text.splitlines()):
        if begun := _begun(line, draft):
            yield draft
            draft = begun
        elif match := _FRAME.match(line) or _NAME.match(line):
            name, sure = match["name"], match.re is _FRAME
            if match["unsure"] if sure else draft.sure:
                continue  # only left on the stack; or a word of a mail
            if draft.frames and draft.frames[-1] in _OUTERMOST and name not in _OUTERMOST:
                yield draft  # two stacks, one after the other, with no word between them
                draft = _Draft()
            draft.add(name, sure=sure)
        elif _END.match(line):
            draft.ended = bool(draft.frames)
        elif (match := _COMM.search(line)) and not draft.task_is_sure:
            draft.of(match)
    yield draft


def _begun(line: str, draft: _Draft) -> _Draft | None:
    """Return a new draft if the line is the head of another trace; else the line may add to it."""
    new = _Draft()
    if match := _HUNG.search(line):
        new.of(match)
        new.report, new.blocked_s = Report.HUNG, int(match["s"])
    elif match := _STATE.match(line) or _OLD_STATE.match(line):
        if draft.pid == int(match["pid"]) and not draft.frames:
            return None  # of the task that the line before has named
        new.of(match)
        new.report = Report.HUNG if match["state"] == "D" else Report.STACK
    elif _CRASH.search(line):
        if draft.report is Report.CRASH and not draft.frames:
            return None
        new.report = Report.CRASH
    elif match := _WARNING.search(line):
        new.report, new.task = Report.WARNING, match["task"] or ""
    elif match := _OF_PROC.match(line):
        new.pid = int(match["pid"])
    elif _CPU.match(line):  # of all of them, when one task is hung: of whoever runs there
        new.report = Report.STACK
    else:
        return None
    return new


def _without_prefix(line: str) -> str:
    return _PREFIX.sub("", line.rstrip(), count=1)
