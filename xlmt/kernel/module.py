# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module xen_mtwatch: what the kernel tells of it, and how it comes and goes."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from xlmt import built, files
from xlmt.errors import TimedOutError, XlmtError
from xlmt.kernel import modprobe, places
from xlmt.kernel import status as mtwatch
from xlmt.kernel.status import MODULE, Status

#: modprobe may have to wait for other modules and for the kernel's grace periods.
_MODPROBE_S = 30.0
#: So many records of the log are read for the last word on a module; there are a few at most.
_RECORDS = 10_000


def loaded() -> bool:
    return places.module().is_dir()


def version() -> str | None:
    return _read(places.module() / "version")


def in_use() -> bool:
    """Whether something holds the module, as each of its threads does."""
    return _read(places.module() / "refcnt") not in {"0", None}


def parameters() -> dict[str, str]:
    """Return those that can be read."""
    values = {key: _read(places.module() / "parameters" / key) for key in modprobe.PARAMETERS}
    return {key: value for key, value in values.items() if value is not None}


def set_parameter(key: str, value: str) -> None:
    """Set a parameter of the module that is loaded. Raises XlmtError with the kernel's reason."""
    try:
        (places.module() / "parameters" / key).write_text(value)
    except OSError as e:
        raise XlmtError(f"cannot set {key}={value} of {MODULE}: {e.strerror}") from None


def status() -> Status:
    """Return what the module says of itself. Raises XlmtError, which says what is in the way."""
    path = places.debugfs() / MODULE / "status"
    try:
        return mtwatch.parse(path.read_text(errors="replace"))
    except PermissionError:
        raise XlmtError(f"only root can read {path}") from None
    except FileNotFoundError:
        if not os.path.ismount(places.debugfs()):
            why = f"debugfs is not mounted: mount -t debugfs none {places.debugfs()}"
        elif _read(places.module() / "initstate") == "coming":
            why = f"{MODULE} is still being loaded; try again in a few seconds"
        else:
            why = f"{path} is not there"
        raise XlmtError(why) from None
    except OSError as e:
        raise XlmtError(f"cannot read {path}: {e.strerror}") from None


def insert(parameters: Mapping[str, str]) -> None:
    """Load the module. Raises XlmtError with the reason, TimedOutError when there is no end."""
    log = _open_log()
    try:
        code, said = _run(modprobe.command(parameters))
        if code and not (loaded() and "already in kernel" in said):  # somebody else was faster
            raise modprobe.refusal(said, _last_word(log))
    finally:
        if log is not None:
            os.close(log)


def remove() -> None:
    """Unload the module. Raises XlmtError with the reason, TimedOutError when there is no end.

    modprobe needs the module's file, which is not there for one that was loaded by insmod, or whose
    package is gone. rmmod needs none, but does not know what modprobe.d wants done.
    """
    program = "modprobe"
    code, said = _run([program, "-r", MODULE])
    if code and "not found" in said and loaded():
        program = "rmmod"
        code, said = _run([program, MODULE])
    if code and loaded():
        lines = said.splitlines() or [f"{program} does not say why"]
        raise XlmtError(f"cannot unload {MODULE}: {lines[-1].removeprefix(f'{program}: ')}")


def _run(argv: Sequence[str]) -> tuple[int, str]:
    """Run modprobe or rmmod; return its status and what it said.

    One that is past its deadline is left alone after SIGKILL: it may be blocked in the kernel,
    and to wait for its end, as subprocess.run() does, would have no end either.
    """
    path = files.program(argv[0])
    if path is None:
        raise XlmtError(f"there is no {argv[0]} here: {built.packaged('kmod')}")
    child = subprocess.Popen(
        [path, *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},  # its words are looked at
    )
    try:
        _, said = child.communicate(timeout=_MODPROBE_S)
    except subprocess.TimeoutExpired:
        why = modprobe.hang(_stack(child.pid), child.pid)
        child.kill()
        raise TimedOutError(
            f"{' '.join(argv)} has not finished within {_MODPROBE_S:.0f} s; {why}"
        ) from None
    return child.returncode, said.strip()


def _stack(pid: int) -> str:
    """Return where it is in the kernel; nothing when that is not told."""
    try:
        return (places.processes() / str(pid) / "stack").read_text(errors="replace")
    except OSError:
        return ""


# --- the kernel's log ----------------------------------------------------------------------


def _open_log() -> int | None:
    """Return the kernel's log, from here on; None where we may not read it."""
    try:
        fd = os.open(places.log(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        return None
    return fd


def _last_word(log: int | None) -> str | None:
    """Return the last that the module has said since the log was opened."""
    said = None
    if log is None:
        return None
    for _ in range(_RECORDS):
        try:
            said = modprobe.message(os.read(log, 8192)) or said
        except BrokenPipeError:  # a record that was overwritten before we came to it
            continue
        except OSError:  # no more
            break
    return said


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None
