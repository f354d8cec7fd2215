# SPDX-License-Identifier: LGPL-2.1-or-later
"""End a stall: carry out what doctor says, the mildest first, and look whether the thread goes on.

What an action takes down is put back whatever happens: the interface, and with it the addresses
and routes that the kernel drops when it goes down. Signals wait until that is done. Every command
is run by bounded.py, with a deadline: one that does not end, as the lock it needs is taken, is
left behind.
"""

import shlex
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

from xlmt import files
from xlmt.doctor import host
from xlmt.doctor.actions import Action, Level
from xlmt.doctor.bounded import Asked
from xlmt.doctor.findings import Finding
from xlmt.doctor.model import Host
from xlmt.errors import TimedOutError, XlmtError
from xlmt.kernel import places, proc

_COMMAND_S = 10.0
#: So long after an action it may take until the thread goes on: netback looks every 10 s.
_TO_GO_ON_S = 12.0
#: So long an IPv6 address may take until its routes are accepted: while it is tentative.
_ROUTES_S = 5.0
_PAUSE_S = 0.25
#: What held packets once may hold more of them, for the next queue of the same guest.
_MOST_TRIES = 3
#: A guest may have several devices, and each may hold its own.
_MOST_ROUNDS = 16
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_FAMILIES = ("-4", "-6")


class Step(NamedTuple):
    """An action for a task that is stuck."""

    finding: Finding
    action: Action


class Outcome(NamedTuple):
    """What came of a step; `error` is why it could not be done."""

    went_on: bool
    error: str | None = None


def steps(seen: Host, domid: int | None, most: Level) -> list[Step]:
    """Return what can be done for the threads that are stuck, the mildest first."""
    found = [
        Step(finding, action)
        for finding in stuck(seen, domid)
        for action in finding.actions
        if action.level <= most
    ]
    return sorted(found, key=lambda step: step.action.level)


def stuck(seen: Host, domid: int | None) -> list[Finding]:
    """Return the threads that are stuck, or those that are because of a domid."""
    return [f for f in seen.findings if f.is_stuck and domid in {None, f.domid}]


def release(
    domid: int | None,
    most: Level,
    wanted: Callable[[Step], bool],
    done: Callable[[Step, Outcome], None],
) -> Host:
    """Do what helps, until nothing is stuck or nothing is left to be done; return the last look.

    `wanted` is asked before each step, and `done` told after it. A step that fails does not keep
    the next from being done. Raises XlmtError: what was taken down could not be put back.
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
        outcome = _carry_out(step)
        left[step.action] = left[step.action] - 1 if outcome.went_on else 0
        done(step, outcome)
    return host.look(checked=False)


def _carry_out(step: Step) -> Outcome:
    pid = step.finding.trace.pid
    before = proc.switches(pid) if pid else ()
    error = None
    with _undone_in_the_end(step.action):
        try:
            for command in step.action.commands:
                _run(command)
        except XlmtError as e:
            error = str(e)
    return Outcome(False, error) if error else Outcome(_goes_on(pid, before))


def _goes_on(pid: int | None, before: tuple[str, ...]) -> bool:
    until = time.monotonic() + _TO_GO_ON_S
    while pid and proc.switches(pid) == before:
        if time.monotonic() > until:
            return False
        time.sleep(_PAUSE_S)
    return True


# --- what is put back ----------------------------------------------------------------------


@contextmanager
def _undone_in_the_end(action: Action) -> Iterator[None]:
    """Put back after the block what the action takes down; no signal comes in between."""
    if not action.undo or action.interface is None:
        yield
        return
    routes = _Routes(action.interface)
    with _signals_wait():
        with _kept_ipv6(action.interface):
            try:
                yield
            finally:
                for command in action.undo:
                    _put_back(command)
        routes.restore()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Have those that ask us to end come after the block, for us and for what runs in it.

    What runs in it inherits the mask. We need more: another thread may get the signal, and Python
    handles it in the main one, wherever that is; where that is a hook of os.fork(), it is lost.
    """
    came: list[int] = []
    handlers = {
        each: signal.signal(each, lambda number, _: came.append(number)) for each in _SIGNALS
    }
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number in came:
            signal.raise_signal(number)


def _put_back(command: Sequence[str]) -> None:
    try:
        _run(command)
    except XlmtError as e:
        raise XlmtError(f"{e}; to put it back: {shlex.join(command)}") from None


class _Routes:
    """The routes over an interface, as they were."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._shown = self._show()
        self._saved = {
            family: _run(("ip", family, "route", "save", "table", "all", "dev", interface))
            for family in _FAMILIES
        }

    def restore(self) -> None:
        """Restore those that are missing. Raises XlmtError, which names the ones that still are."""
        until = time.monotonic() + _ROUTES_S
        while missing := self._shown - self._show():
            for family, saved in self._saved.items():
                with suppress(XlmtError):  # not yet, while its address is tentative
                    _run(("ip", family, "route", "restore"), saved)
            if time.monotonic() > until:
                told = "; ".join(sorted(missing))
                raise XlmtError(f"{self._interface} is up again, but these routes are lost: {told}")
            time.sleep(_PAUSE_S)

    def _show(self) -> set[str]:
        """Return them as text, without what changes by itself."""
        lines: set[str] = set()
        for family in _FAMILIES:
            told = _run(("ip", family, "route", "show", "table", "all", "dev", self._interface))
            for line in told.decode(errors="replace").splitlines():
                words = [w for w in line.split() if w not in {"linkdown", "dead"}]
                if "expires" not in words and words[:1] != ["multicast"]:
                    lines.add(" ".join(words))
        return lines


@contextmanager
def _kept_ipv6(interface: str) -> Iterator[None]:
    """IPv6 addresses go with the interface, unless this says otherwise."""
    setting = places.processes() / "sys/net/ipv6/conf" / interface / "keep_addr_on_down"
    before = ""
    with suppress(OSError):  # a kernel without IPv6
        before = setting.read_text()
        setting.write_text("1")
    try:
        yield
    finally:
        if before:
            with suppress(OSError):
                setting.write_text(before)


# --- commands ------------------------------------------------------------------------------


def _run(command: Sequence[str], given: bytes = b"") -> bytes:
    """Run a command; return what it printed. Raises XlmtError."""
    asked = Asked({"command": partial(_execute, command, given)})
    answer = asked.answers(_COMMAND_S)["command"]
    typed = shlex.join(command)
    if answer.value is None:
        if answer.late:
            raise TimedOutError(f"{typed} does not end; it may still be done later")
        raise XlmtError(f"{typed}: {answer.problem}")
    status, out, err = answer.value
    if status:
        said = " ".join(err.decode(errors="replace").split())
        raise XlmtError(f"{typed}: {said or f'status {status}'}")
    return bytes(out)


def _execute(command: Sequence[str], given: bytes) -> tuple[int, bytes, bytes]:
    program = files.program(command[0])
    if program is None:
        raise FileNotFoundError(f"there is no {command[0]} here")
    with tempfile.TemporaryFile() as stdin:  # ip route restore reads it three times
        stdin.write(given)
        stdin.seek(0)
        done = subprocess.run(
            [program, *command[1:]], stdin=stdin, capture_output=True, check=False
        )
    return done.returncode, done.stdout, done.stderr
