# SPDX-License-Identifier: LGPL-2.1-or-later
"""What in domain 0 has packets, and how its interfaces hang together, in every network namespace.

tc(8) and ip(8) ask the kernel under the lock of all network interfaces, which may be what is
stuck: whoever asks here does so by bounded.py.
"""

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xlmt import files
from xlmt.doctor.holders import Holder, Lender, Link, What
from xlmt.kernel import places, vifs

_MOST_NAMESPACES = 64
#: From one look at what was sent to the next.
_LOOK_S = 1.0


def queues() -> list[Holder]:
    """Return the queues that have packets, and send none. Raises OSError, ValueError."""
    return _standing(_queues)


def _queues() -> list[tuple[Holder, int]]:
    return [
        told
        for pid, output in _everywhere("tc", "-s", "-j", "qdisc", "show")
        for told in parse_queues(output, pid)
    ]


def links() -> list[Link]:
    """Return the interfaces. Raises OSError, ValueError."""
    return [
        link
        for pid, output in _everywhere("ip", "-j", "-d", "address", "show")
        for link in parse_links(output, pid)
    ]


def programs() -> list[Holder]:
    """Return the queues whose packets wait for a program, in all network namespaces."""
    found: list[Holder] = []
    for pid in _namespaces():
        table = places.processes() / str(pid or "self") / "net/netfilter/nfnetlink_queue"
        with suppress(OSError):
            found += parse_programs(table.read_text())
    return found


def cards() -> list[Holder]:
    """Return the cards that have bytes, and send none: by byte queue limits, in our namespace.

    Raises OSError.
    """
    return _standing(_cards)


def _cards() -> list[tuple[Holder, str]]:
    found = []
    for interface in places.interfaces().iterdir():
        inflight, sent = 0, ""
        for told in interface.glob("queues/tx-*/byte_queue_limits/inflight"):
            with suppress(OSError, ValueError):
                inflight += int(told.read_text())
        with suppress(OSError):
            sent = (interface / "statistics/tx_packets").read_text()
        if inflight > 0:
            held = Holder(
                What.CARD, interface.name, "card", bytes=inflight, driver=_driver(interface)
            )
            found.append((held, sent))
    return found


def _driver(interface: Path) -> str:
    """Return where in sysfs its driver has it; "" for one that has none, or is a guest's."""
    with suppress(OSError):
        device = (interface / "device").resolve(strict=True)
        driver = (device / "driver").resolve(strict=True)
        bus = driver.parents[1].name
        if not bus.startswith("xen"):
            return f"/sys/bus/{bus}/drivers/{driver.name}/{device.name}"
    return ""


def taps() -> list[Holder]:
    """Return the macvtaps of our namespace whose program reads nothing. Raises OSError.

    Packets wait for it as they came: tap_handle_frame() in drivers/net/tap.c. Those for the program
    of a tun are copied.
    """
    return _standing(_taps)


def _taps() -> list[tuple[Holder, str]]:
    devices = {}
    for interface in places.interfaces().iterdir():
        for told in interface.glob("tap*/dev"):
            with suppress(OSError, ValueError):
                major, minor = map(int, told.read_text().split(":"))
                devices[os.makedev(major, minor)] = interface.name
    if not devices:
        return []
    return [
        (
            Holder(
                What.TAP,
                devices[number],
                places.text(process / "comm"),
                reader=int(process.name),
            ),
            _reads(process),
        )
        for process in places.each_process()
        for number in sorted(_open_devices(process) & {*devices})
    ]


def _open_devices(process: Path) -> set[int]:
    """Return the numbers of the character devices that it has open."""
    found = set()
    with suppress(OSError):  # it may end meanwhile
        for opened in (process / "fd").iterdir():
            with suppress(OSError):
                if str(opened.readlink()).startswith("/dev/"):
                    state = opened.stat()
                    if stat.S_ISCHR(state.st_mode):
                        found.add(state.st_rdev)
    return found


def _reads(process: Path) -> str:
    """Return how often it has read from anything; "" if that is not told."""
    lines = places.text(process / "io").splitlines()
    return next((line for line in lines if line.startswith("syscr:")), "")


def _standing(look: Callable[[], Sequence[tuple[Holder, object]]]) -> list[Holder]:
    """Look twice; return what holds something both times, and has sent nothing in between."""
    before = {_place(held): sent for held, sent in look()}
    time.sleep(_LOOK_S)
    return [held for held, sent in look() if before.get(_place(held)) == sent]


def _place(held: Holder) -> tuple[object, ...]:
    return held.device, held.pid, held.reader


def lenders() -> list[Lender]:
    """Return guests' interfaces, with what they have lent. Raises OSError."""
    return [
        Lender(vif.interface, vif.domid, _lent(vif.interface), _is_down(vif.interface))
        for vif in vifs.vifs()
    ]


def parse_queues(output: bytes, pid: int | None = None) -> list[tuple[Holder, int]]:
    """Return the interfaces of `tc -s -j qdisc show` that have packets, and how many were sent.

    A queue and the queues in it count the same packets, and an interface may have many: they are
    told as one, of the kind of those that have no other in them. Raises ValueError: it is no list.
    """
    full = [row for row in _rows(output) if _number(row, "qlen") > 0]
    inner = {(str(row.get("dev")), _major(row.get("parent"))) for row in full if row.get("parent")}
    leaves = [
        row
        for row in full
        # 0: is the root's, or that of one that has none of its own, and so nothing in it
        if (str(row.get("dev")), _major(row.get("handle"))) not in inner
        or (row.get("parent") and _major(row.get("handle")) == "0")
    ]
    found = []
    for device in dict.fromkeys(str(row.get("dev")) for row in leaves):
        own = [row for row in leaves if str(row.get("dev")) == device]
        kind, packets = str(own[0].get("kind")), sum(_number(row, "qlen") for row in own)
        sent = sum(_number(row, "packets") for row in own)
        found.append((Holder(What.QUEUE, device, kind, packets=packets, pid=pid), sent))
    return found


def parse_links(output: bytes, pid: int | None = None) -> list[Link]:
    """Return the rows of `ip -j -d address show`. Raises ValueError if it is no list."""
    found = []
    for row in _rows(output):
        info, name = row.get("linkinfo"), row.get("ifname")
        if not isinstance(name, str):  # ip prints an empty row for what it leaves out
            continue
        kind = info.get("info_kind") if isinstance(info, dict) else None
        found.append(
            Link(
                name,
                _number(row, "ifindex"),
                str(kind or ""),
                str(row.get("master") or ""),
                str(row.get("link") or ""),
                _number(row, "link_index"),
                _is_addressed(row.get("addr_info")),
                pid,
            )
        )
    return found


def _is_addressed(addresses: object) -> bool:
    """Whether an interface has an address of its own, and not only that of its link."""
    return isinstance(addresses, list) and any(
        isinstance(address, dict) and address.get("scope") != "link" for address in addresses
    )


def parse_programs(table: str) -> list[Holder]:
    """Return the queues of net/netfilter/nfnetlink_queue that have packets.

    Its columns are the queue's number, the reader's port id, and the packets that it has not
    decided about (net/netfilter/nfnetlink_queue.c). The port id may be a process id, of a process
    in another namespace, or any number.
    """
    rows = (line.split() for line in table.splitlines())
    told = ([int(field) for field in row] for row in rows if _are_numbers(row))
    return [
        Holder(What.PROGRAM, f"nfqueue {row[0]}", f"port id {row[1]}", packets=row[2])
        for row in told
        if len(row) > 2 and row[2] > 0
    ]


def _are_numbers(row: Sequence[str]) -> bool:
    return all(field.isascii() and field.isdecimal() and len(field) < 19 for field in row)


def _rows(output: bytes) -> list[Mapping[str, Any]]:
    rows = json.loads(output)
    if not isinstance(rows, list):
        raise ValueError("no list was printed")
    return [row for row in rows if isinstance(row, dict)]


def _major(handle: object) -> str:
    """Return what a queue and the places in it have in common: "1" of "1:10", "0" of ":10"."""
    return str(handle or "").partition(":")[0] or "0"


def _number(row: Mapping[str, object], key: str) -> int:
    value = row.get(key)
    return value if isinstance(value, int) else 0


def _lent(interface: str) -> int:
    """Return how many packets of a vif are lent, by its statistics; 0 if ethtool(8) is not here."""
    with suppress(OSError):
        told = _output([_program("ethtool"), "-S", interface]).decode(errors="replace")
        return parse_lent(told)
    return 0


def parse_lent(statistics: str) -> int:
    """Return what of `zerocopy_sent` has come back neither with success nor without."""
    lent = 0
    for line in statistics.splitlines():
        name, _, value = line.partition(":")
        if value.strip().isdecimal() and "zerocopy_" in name:
            sign = 1 if name.strip().endswith("zerocopy_sent") else -1
            lent += sign * int(value)
    return max(lent, 0)


def _is_down(interface: str) -> bool:
    with suppress(OSError):
        return (places.interfaces() / interface / "operstate").read_text() == "down\n"
    return False


def _everywhere(*argv: str) -> Iterator[tuple[int | None, bytes]]:
    """Run a program in every network namespace; yield what it prints. Raises OSError."""
    program = _program(argv[0])
    for pid in _namespaces():
        enter = [] if pid is None else [_program("nsenter"), f"--net=/proc/{pid}/ns/net", "--"]
        try:
            yield pid, _output([*enter, program, *argv[1:]])
        except OSError:
            if pid is None:  # that of a process may be gone with it
                raise


def _namespaces() -> Iterator[int | None]:
    """Yield None for our own network namespace, and a process in each of the others."""
    known = {_namespace("self")}
    yield None
    for process in places.each_process():
        if len(known) > _MOST_NAMESPACES:
            return
        if (inode := _namespace(process.name)) not in known:
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
    child = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if child.returncode:
        raise OSError(f"{Path(argv[0]).name} failed with status {child.returncode}")
    return child.stdout
