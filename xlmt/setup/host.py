# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look at a host, for setup: what it has, and what is set up already."""

import subprocess
from contextlib import suppress
from pathlib import Path

from xlmt import files
from xlmt.errors import XlmtError
from xlmt.kernel import diagnose, manage, proc
from xlmt.setup import plan
from xlmt.setup.model import Host

#: Below which everything is looked for and installed; another folder in tests.
ROOT = Path("/")
_SECONDS = 20.0
#: A unit that is started or stopped; ours has two minutes for it.
JOB_S = 150.0
_FOLDERS = ("/etc/cron.d", "/etc/xapi.d", plan.LIBVIRT)
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def look() -> Host:
    """Take one look. Raises OSError."""
    systemd = (ROOT / "run/systemd/system").is_dir() and files.program("systemctl") is not None
    units = [*plan.UNDER, plan.SUPERVISOR]
    states = {unit: _state(unit) for unit in units} if systemd else {}
    return Host(
        systemd=systemd,
        units=frozenset(unit for unit, (load, _) in states.items() if load == "loaded"),
        enabled=frozenset(unit for unit, (_, state) in states.items() if state == "enabled"),
        files={path: _content(path) for path in plan.paths()},
        folders=frozenset(folder for folder in _FOLDERS if below(folder).is_dir()),
        module=_has_module(),
        at_work=_is_at_work(),
        dom0=proc.runs_on_xen() and not proc.is_guest(),
        secure_boot=_secure_boot(),
    )


def below(path: str) -> Path:
    return ROOT / path.lstrip("/")


def systemctl(*words: str, seconds: float = _SECONDS) -> str:
    """Return what systemctl prints. Raises XlmtError, also after so many seconds."""
    program = files.program("systemctl") or "systemctl"
    try:
        done = subprocess.run(
            [program, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise XlmtError(f"systemctl {' '.join(words)} does not end") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise XlmtError(f"systemctl {' '.join(words)}: {said or f'status {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def _state(unit: str) -> tuple[str, str]:
    told = systemctl("show", "--property=LoadState,UnitFileState", unit)
    values = dict(line.partition("=")[::2] for line in told.splitlines())
    return values.get("LoadState", ""), values.get("UnitFileState", "")


def _content(path: str) -> bytes | None:
    try:
        return below(path).read_bytes()
    except FileNotFoundError:
        return None


def _has_module() -> bool:
    program = files.program("modinfo")
    if program is None:
        return False
    with suppress(OSError, subprocess.TimeoutExpired):
        words = [program, "-n", "xen_mtwatch"]
        done = subprocess.run(words, capture_output=True, check=False, timeout=_SECONDS)
        return done.returncode == 0
    return False


def _is_at_work() -> bool:
    with suppress(XlmtError):  # not booted under Xen yet
        return diagnose.protects(manage.look())
    return False


def _secure_boot() -> bool:
    with suppress(OSError):  # four bytes of attributes, and the value
        return (ROOT / _SECURE_BOOT).read_bytes()[4:5] == b"\1"
    return False
