# SPDX-License-Identifier: LGPL-2.1-or-later
"""A folder of things that are slow to make: each is named by a hash of what goes in.

An entry is made under a temporary name and renamed when it is whole, so a build that was
interrupted leaves nothing that looks finished. A lock per kind keeps two runs from making the
same entry twice; whoever holds it may clear away what an earlier, killed run left.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.lab.errors import LabError, LabUnavailable

BUILD_DEADLINE_S = 1800.0
QUIET_S = 2.0  # steps shorter than this are not worth a line


def folder() -> Path:
    """Where everything is kept: $XLMT_LAB_CACHE, or xlmt-lab in the user's cache folder."""
    chosen = os.environ.get("XLMT_LAB_CACHE")
    if not chosen:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        chosen = str(Path(home) / "xlmt-lab")
    path = Path(chosen)
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(text: str) -> None:
    """One line for the person who waits."""
    sys.stderr.write(f"xlmt lab: {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def progress(text: str) -> Iterator[None]:
    """Say `text` when the step inside takes longer than two seconds."""
    timer = threading.Timer(QUIET_S, say, [f"{text} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def locked(name: str, deadline_s: float = BUILD_DEADLINE_S) -> Iterator[None]:
    """Hold the lock file `name`. The kernel drops it with the process: no stale locks.

    Raises LabError when somebody else holds it for longer than `deadline_s`.
    """
    end = time.monotonic() + deadline_s
    with (folder() / f"{name}.lock").open("w") as file:
        pause = 0.02
        with progress(f"waiting for another run's {name}"):
            while not _try_lock(file.fileno()):
                if time.monotonic() > end:
                    raise LabError(f"{file.name}: held for {deadline_s:.0f} s by another run")
                time.sleep(pause)
                pause = min(pause * 1.5, 1.0)
        yield


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def digest(*parts: str | bytes | Path) -> str:
    """A name for what these make: text as it is, files and folders by name, mode and contents."""
    total = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            total.update(hashlib.sha256(piece).digest())
    return total.hexdigest()[:16]


def _pieces(part: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(part, Path):
        for path in files_in(part):
            yield str(path.relative_to(part.parent)).encode()
            yield bytes([path.stat().st_mode & 0o100 != 0])
            yield path.read_bytes()
    else:
        yield part.encode() if isinstance(part, str) else part


def files_in(path: Path) -> list[Path]:
    """The file itself, or the source files below a folder: never what a build left there."""
    if path.is_file():
        return [path]
    return sorted(f for f in path.rglob("*") if f.is_file() and not _generated(f))


def _generated(path: Path) -> bool:
    made = {".so", ".o", ".ko", ".pyc", ".cmd", ".mod"}
    return path.suffix in made or "__pycache__" in path.parts or path.name == "_libxl.c"


def entry(kind: str, key: str, label: str, make: Callable[[Path], None], keep: int = 3) -> Path:
    """The folder kind/key, made by `make` (which gets an empty folder to fill) when missing.

    The `keep` most recently used keys of the kind stay. Raises what `make` raises.
    """
    home = folder() / kind
    home.mkdir(exist_ok=True)
    final = home / key
    if not final.is_dir():
        with locked(f"{kind} build"):
            if not final.is_dir():
                _clear(home.glob(".tmp-*"))
                with progress(label):
                    _make(final, make)
                _prune(home, keep, final)
    os.utime(final)
    return final


def _make(final: Path, make: Callable[[Path], None]) -> None:
    tmp = final.parent / f".tmp-{final.name}"
    tmp.mkdir()
    try:
        make(tmp)
        tmp.rename(final)
    except BaseException:
        _clear([tmp])
        raise


def _prune(home: Path, keep: int, final: Path) -> None:
    by_use = sorted(home.glob("[!.]*"), key=lambda p: p.stat().st_mtime, reverse=True)
    others = [p for p in by_use if p != final]
    _clear(others[keep - 1 :])


def _clear(paths: Iterable[Path]) -> None:
    for path in paths:
        # Under its own name an entry is whole: take the name away first.
        gone = path.parent / f".tmp-gone-{path.name.removeprefix('.tmp-')}"
        shutil.rmtree(gone, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path.rename(gone), ignore_errors=True)


def contained(
    argv: list[str], log: Path, stdin: str = "", deadline_s: float = BUILD_DEADLINE_S
) -> None:
    """Run a build step whose whole process tree, mounts included, ends with us.

    It runs as the first process of its own pid and mount namespaces, so that Ctrl-C or a
    SIGKILL of this process leaves nothing running in a folder that the next run clears.
    Raises LabError with the end of its output.
    """
    tree = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]
    execute(["setpriv", "--pdeathsig", "KILL", "--", *tree, *argv], log, stdin, deadline_s)


def execute(
    argv: list[str], log: Path, stdin: str = "", deadline_s: float = BUILD_DEADLINE_S
) -> None:
    """Run a build step, output to `log`. Raises LabError with the end of that output."""
    with log.open("a") as out:
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                text=True,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=deadline_s,
                start_new_session=True,
                check=False,
            )
        except FileNotFoundError as missing:
            raise LabUnavailable(f"{missing.filename} is not installed") from None
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise LabError(
            f"{' '.join(argv)}: exit status {done.returncode}\n{tail}\n(all of it: {log})"
        )
