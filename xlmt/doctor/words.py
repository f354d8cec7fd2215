# SPDX-License-Identifier: LGPL-2.1-or-later
"""What doctor says of each kind of trouble: what it means, what to type, where to read on. Pure.

The ids are stable: XLMT-1001 means the same in every release, and is a section of xlmt-doctor(8).
"""

from collections.abc import Mapping
from typing import NamedTuple

from xlmt.doctor.causes import Kind


class Advice(NamedTuple):
    """`waits` completes "the task …"; `actions` are commands, the least harm first."""

    id: str
    waits: str
    actions: tuple[str, ...] = ()


_STORAGE = (
    "grep -H . /sys/block/*/inflight",
    "dmsetup info -c -o name,suspended; cat /proc/mdstat; losetup -l",
)
ADVICE: Mapping[Kind, Advice] = {
    Kind.NETBACK_INFLIGHT: Advice(
        "XLMT-1001",
        "waits for packets of a guest that something in dom0 still holds: a queue, a network card, "
        "another guest's interface, a program",
        ("tc -s qdisc show", "ip link set DEVICE down; ip link set DEVICE up"),
    ),
    Kind.BLKBACK_IO: Advice(
        "XLMT-1002",
        "waits for requests of a guest that dom0's disk has not answered",
        _STORAGE,
    ),
    Kind.BLKBACK_GRANTS: Advice(
        "XLMT-1003",
        "waits for pages of a guest that dom0's disks still use",
        _STORAGE,
    ),
    Kind.SCSIBACK: Advice("XLMT-1004", "waits for a SCSI device of a guest", ("lsscsi -l",)),
    Kind.PCIBACK: Advice(
        "XLMT-1005", "waits for a PCI device of a guest", ("xl pci-assignable-list", "lspci -k")
    ),
    Kind.RTNL_LOCK: Advice(
        "XLMT-1006",
        "waits for the lock of all network interfaces, which another task holds",
        ("echo w > /proc/sysrq-trigger; dmesg | xlmt doctor --stack -",),
    ),
    Kind.MEMORY_RECLAIM: Advice(
        "XLMT-1007",
        "waits for memory of dom0, which waits for dom0's own disk; no guest is to blame",
        ("cat /proc/meminfo", *_STORAGE),
    ),
    Kind.XENBUS_TRANSACTION: Advice(
        "XLMT-1008",
        "waits for an answer of xenstored that only it could read: no answer is read any more, "
        "until this host is rebooted",
    ),
    Kind.XENSTORED_SILENT: Advice(
        "XLMT-1009",
        "waits for an answer of xenstored",
        ("ps -C xenstored,oxenstored -o pid,stat,time,args",),
    ),
    Kind.XENBUS_GONE: Advice(
        "XLMT-1010",
        "has crashed: no answer of xenstored is read any more, until this host is rebooted",
        ("dmesg",),
    ),
    Kind.XENWATCH_GONE: Advice(
        "XLMT-1011",
        "has crashed: no guest can be created or destroyed until this host is rebooted",
        ("dmesg",),
    ),
    Kind.BACKEND_GONE: Advice(
        "XLMT-1012",
        "has crashed: the guest that it served has lost this device, other guests go on",
        ("dmesg",),
    ),
    Kind.XENWATCH_MUTEX: Advice(
        "XLMT-1013", "waits until xenwatch, or a guest's thread, is through with its callback"
    ),
    Kind.DOMU_SIDE: Advice(
        "XLMT-1014", "is of a guest's kernel: it says nothing of the host that the guest runs on"
    ),
    Kind.PROGRAMS: Advice(
        "XLMT-1015",
        "waits for a program that watches by /dev/xen/xenbus and is stuck itself",
        ("fuser -v /dev/xen/xenbus",),
    ),
    Kind.OWN_DEVICES: Advice(
        "XLMT-1016",
        "waits for a device that domain 0 has itself, such as a disk that a bootloader reads",
        ("xl block-list 0", *_STORAGE),
    ),
    Kind.NOT_A_STALL: Advice("XLMT-1000", "is no reason for xenwatch to wait"),
    Kind.UNKNOWN: Advice(
        "XLMT-1099",
        "does not go on, and no known driver is in its trace",
        ("echo w > /proc/sysrq-trigger; dmesg | xlmt doctor --stack -",),
    ),
}
