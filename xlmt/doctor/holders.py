# SPDX-License-Identifier: LGPL-2.1-or-later
"""What in domain 0 has packets that are not sent yet: the queues of every network namespace.

tc(8) asks the kernel under the lock of all network interfaces, which may be what is stuck. So it
has a deadline, and one that does not end is left behind rather than waited for.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress

from xlmt import files
from xlmt.doctor.findings import Queue
from xlmt.kernel import places

_DEADLINE_S = 3.0
_MOST_NAMESPACES = 64


def queues() -> tuple[tuple[Queue, ...], tuple[str, ...]]:
    """Return the queues that have packets, the fullest first; and what could not be asked."""
    found: list[Queue] = []
    problems: list[str] = []
    for pid in _namespaces():
        try:
            enter = [] if pid is None else [_program("nsenter"), f"--net=/proc/{pid}/ns/net", "--"]
            found += parse(_output([*enter, _program("tc"), "-s", "-j", "qdisc", "show"]), pid)
        except TimeoutError as e:  # it is one lock for all of them
            problems.append(f"queues: {e}")
            break
        except (OSError, ValueError) as e:
            problems.append(f"queues{f' of process {pid}' if pid else ''}: {e}")
    return tuple(sorted(found, key=lambda queue: -queue.packets)), tuple(problems)


def parse(output: bytes, pid: int | None = None) -> list[Queue]:
    """Return those of `tc -s -j qdisc show` that have packets. Raises ValueError if it is no JSON.

    A queue and the queues in it count the same packets: the one that has no other in it is named.
    """
    rows = json.loads(output)
    if not isinstance(rows, list):
        raise ValueError("tc printed no list")
    full = [row for row in rows if isinstance(row, dict) and _packets(row)]
    inner = {(str(row.get("dev")), _major(row.get("parent"))) for row in full}
    return [
        Queue(str(row.get("dev")), str(row.get("kind")), _packets(row), pid)
        for row in full
        if (str(row.get("dev")), _major(row.get("handle"))) not in inner
    ]


def _major(handle: object) -> str:
    """Return what a queue and the places in it have in common: "1" of "1:10"."""
    return str(handle or "").partition(":")[0]


def _packets(row: Mapping[str, object]) -> int:
    length = row.get("qlen")
    return length if isinstance(length, int) else 0


def _namespaces() -> Iterator[int | None]:
    """Yield None for our own network namespace, and a process in each of the others."""
    known = {_namespace("self")}
    yield None
    for process in places.processes().iterdir():
        if len(known) > _MOST_NAMESPACES:
            return
        if process.name.isdecimal() and (inode := _namespace(process.name)) not in known:
            known.add(inode)
            yield int(process.name)


def _namespace(process: str) -> str | None:
    with suppress(OSError):
        return (places.processes() / process / "ns/net").readlink().name
    return _namespace("self") if process != "self" else None


def _program(name: str) -> str:
    if found := files.program(name):
        return found
    raise FileNotFoundError(f"there is no {name} here, which tells of them")


def _output(argv: list[str]) -> bytes:
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        output, _ = child.communicate(timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired:
        child.kill()  # in state D it ends later, or never; nobody waits for it
        raise TimeoutError("tc does not answer: the lock of all interfaces may be taken") from None
    if child.returncode:
        raise OSError(f"tc failed with status {child.returncode}")
    return output
