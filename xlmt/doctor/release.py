# SPDX-License-Identifier: LGPL-2.1-or-later
"""End a stall: carry out what doctor says, the mildest first, and look whether the thread goes on.

What an action takes down is put back whatever happens: the interface, and with it the addresses
and routes that the kernel drops when it goes down. Every command has a deadline; one that does
not end, as the lock it needs is taken, is left behind.
"""

import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from xlmt import files
from xlmt.doctor import host
from xlmt.doctor.actions import Action, Level
from xlmt.doctor.findings import Finding
from xlmt.doctor.model import Host
from xlmt.errors import TimedOutError, XlmtError
from xlmt.kernel import places, proc

_COMMAND_S = 10.0
#: So long after an action it may take until the thread goes on: netback looks every 10 s.
_TO_GO_ON_S = 12.0
_PAUSE_S = 0.25
#: What held packets once may hold more of them, for the next queue of the same guest.
_MOST_TRIES = 3
#: A guest may have several devices, and each may hold its own.
_MOST_ROUNDS = 16


class Step(NamedTuple):
    """An action for a task that is stuck."""

    finding: Finding
    action: Action


def steps(seen: Host, domid: int | None, most: Level) -> list[Step]:
    """Return what can be done for the threads that are stuck, or for those of a domid."""
    return [
        Step(finding, action)
        for finding in stuck(seen, domid)
        for action in finding.actions
        if action.level <= most
    ]


def stuck(seen: Host, domid: int | None) -> list[Finding]:
    return [f for f in seen.findings if f.is_stuck and domid in {None, f.domid}]


def release(
    domid: int | None,
    most: Level,
    wanted: Callable[[Step], bool],
    done: Callable[[Step, bool], None],
) -> Host:
    """Do what helps, until nothing is stuck or nothing is left to be done; return the last look.

    `wanted` is asked before each step, and `done` told after it, with whether the thread went on.
    Raises XlmtError: a command failed, and what it had taken down was put back.
    """
    left: Counter[Action] = Counter()  # how often each may be done
    for _ in range(_MOST_ROUNDS):
        seen = host.look(checked=False)
        open_ = [s for s in steps(seen, domid, most) if left.setdefault(s.action, _MOST_TRIES) > 0]
        if not open_:
            break
        step = open_[0]
        if not wanted(step):
            left[step.action] = 0
            continue
        went_on = _carry_out(step)
        left[step.action] = left[step.action] - 1 if went_on else 0
        done(step, went_on)
    return host.look(checked=False)


def _carry_out(step: Step) -> bool:
    """Carry an action out; return whether the thread has gone on."""
    pid = step.finding.trace.pid
    before = proc.switches(pid) if pid else ()
    with ExitStack() as undo:
        if step.action.interface and step.action.undo:
            undo.enter_context(_kept_addresses(step.action))
        for command in step.action.undo:
            undo.callback(_put_back, command)
        for command in step.action.commands:
            _run(command)
    return _goes_on(pid, before)


def _put_back(command: Sequence[str]) -> None:
    try:
        _run(command)
    except XlmtError as e:
        raise XlmtError(f"{e}; to put it back: {shlex.join(command)}") from None


def _goes_on(pid: int | None, before: tuple[str, ...]) -> bool:
    until = time.monotonic() + _TO_GO_ON_S
    while pid and proc.switches(pid) == before:
        if time.monotonic() > until:
            return False
        time.sleep(_PAUSE_S)
    return True


# --- interfaces ----------------------------------------------------------------------------


@contextmanager
def _kept_addresses(action: Action) -> Iterator[None]:
    """Have an interface have the addresses and routes after the block that it had before it."""
    enter = _enter(action.pid)
    family = ("-4", "-6")
    saved = {
        f: _run((*enter, "ip", f, "route", "save", "table", "all", "dev", action.interface or ""))
        for f in family
    }
    with _keep_ipv6(action):
        yield
    for f, routes in saved.items():
        if routes:
            with suppress(XlmtError):  # those that are back by themselves are refused
                _run((*enter, "ip", f, "route", "restore"), routes)


@contextmanager
def _keep_ipv6(action: Action) -> Iterator[None]:
    """IPv6 addresses go with the interface, unless this says otherwise.

    The file is that of whose network namespace opens it: see net/sysctl_net.c.
    """
    setting = f"{places.processes()}/sys/net/ipv6/conf/{action.interface}/keep_addr_on_down"
    enter, before = _enter(action.pid), b""
    with suppress(XlmtError):  # a kernel without IPv6
        before = _run((*enter, "cat", setting))
        _run((*enter, "tee", setting), b"1")
    try:
        yield
    finally:
        if before:
            _run((*enter, "tee", setting), before)


def _enter(pid: int | None) -> tuple[str, ...]:
    return ("nsenter", "-n", "-t", str(pid)) if pid else ()


def _run(command: Sequence[str], given: bytes = b"") -> bytes:
    """Run a command; return what it printed. Raises XlmtError."""
    program = files.program(command[0])
    if program is None:
        raise XlmtError(f"there is no {command[0]} here")
    child = subprocess.Popen(
        [program, *command[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is for us: what was taken down is to come up again
    )
    try:
        out, err = child.communicate(given, timeout=_COMMAND_S)
    except subprocess.TimeoutExpired:
        child.kill()  # in state D it ends later, or never; nobody waits for it
        raise TimedOutError(f"{' '.join(command)} does not end") from None
    if child.returncode:
        said = " ".join(err.decode(errors="replace").split())
        name = Path(program).name
        raise XlmtError(
            f"{' '.join(command)}: {said or f'{name} failed with status {child.returncode}'}"
        )
    return out
