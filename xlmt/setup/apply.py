# SPDX-License-Identifier: LGPL-2.1-or-later
"""Carry a plan out, a step at a time, and undo what was done."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from xlmt.errors import XlmtError
from xlmt.kernel import manage
from xlmt.setup import record
from xlmt.setup.host import JOB_S, below, systemctl
from xlmt.setup.model import Enable, Load, Put, Step
from xlmt.setup.record import Done


class Outcome(NamedTuple):
    """What was done, in words; `error` is why it was not."""

    what: str
    error: str | None = None


def carry_out(steps: Sequence[Step], *, systemd: bool) -> Iterator[Outcome]:
    """Do the steps; one that fails does not keep the others from being done."""
    kept = record.load()
    reloaded = not systemd
    for step in steps:
        try:
            if isinstance(step, Enable) and not reloaded:
                systemctl("daemon-reload")
                reloaded = True
            _do(step, kept)
            yield Outcome(step.told)
        except (XlmtError, OSError) as e:
            yield Outcome(step.told, str(e))
    if systemd and any(isinstance(step, Put) for step in steps):
        with suppress(XlmtError):
            systemctl("daemon-reload")


def _do(step: Step, kept: list[Done]) -> None:
    match step:
        case Put(path, content, _, mode):
            _install(path, content, mode, kept)
        case Enable(unit):
            kept.append(Done(unit=unit))
            record.keep(kept)
            systemctl("enable", "--now", unit, seconds=JOB_S)
        case Load():
            manage.load({})


def _install(path: str, content: bytes, mode: int, kept: list[Done]) -> None:
    file = below(path)
    earlier = next((one for one in kept if one.path == path), None)
    missing = [folder for folder in file.parents if not folder.exists()]
    made = [f"/{folder.relative_to(below('/'))}" for folder in missing]
    if earlier:
        kept.remove(earlier)
        made += earlier.folders
    kept.append(Done(path, content, tuple(made)))
    record.keep(kept)  # before the step: what it leaves can be undone, however it ends
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = _unfinished(file)
    new.write_bytes(content)
    new.chmod(mode)
    new.replace(file)


def _unfinished(file: Path) -> Path:
    return file.with_name(f".{file.name}.xlmt")


def undo(*, systemd: bool) -> Iterator[Outcome]:
    """Undo all that was done, the last step first; a file that was changed since is kept."""
    kept = record.load()
    for one in reversed(kept[:]):
        try:
            what = _undo(one)
            kept.remove(one)
            record.keep(kept)
            yield Outcome(what)
        except (XlmtError, OSError) as e:
            yield Outcome(f"undo {one.path or one.unit}", str(e))
    if systemd:
        with suppress(XlmtError):
            systemctl("daemon-reload")


def _undo(one: Done) -> str:
    if one.unit:
        systemctl("disable", "--now", one.unit, seconds=JOB_S)
        return f"systemctl disable --now {one.unit}"
    assert one.path is not None
    file = below(one.path)
    _unfinished(file).unlink(missing_ok=True)
    there = file.read_bytes() if file.exists() else None
    if there is not None and there != one.content:
        return f"keep {one.path}: it was changed since"
    file.unlink(missing_ok=True)
    for folder in one.folders:  # the innermost first
        with suppress(OSError):  # somebody else has something in it
            below(folder).rmdir()
    return f"remove {one.path}"
