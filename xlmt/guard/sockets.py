# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two kinds of sockets: one that guards a vif, one that tells of interfaces.

None of this takes the lock of all network interfaces, which may be what a stuck host is stuck in.
"""

import ctypes
import errno
import os
import socket
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress

from xlmt.guard.netlink import Change, changes
from xlmt.kernel.vifs import ETH_P_ALL

#: asm-generic/socket.h, linux/if_packet.h, linux/rtnetlink.h
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_RTMGRP_LINK = 1
#: struct sock_filter: BPF_RET | BPF_K, and that is 0 bytes of the packet.
_TAKE_NOTHING = array("Q", struct.pack("=HBBI", 0x06, 0, 0, 0))
_ADDRESS = struct.Struct("=HHiHBB8s")  # struct sockaddr_ll
_LONGEST = 1 << 16


def guard(ifindex: int) -> socket.socket:
    """Return a socket that has the kernel copy what comes in by this interface. Raises OSError.

    It takes nothing from the first packet on: without a protocol it hears nothing before it is
    bound, and the filter is there by then. Packets to the guest pass it by (Linux 4.20 and newer).
    While the interface is down the kernel keeps the socket aside, and puts it to work when it is
    set up (net/packet/af_packet.c, packet_notifier).
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        program = struct.pack("HL", 1, _TAKE_NOTHING.buffer_info()[0])  # struct sock_fprog
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        with suppress(OSError):
            sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        _bind(sock.fileno(), ifindex)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(fd: int, ifindex: int) -> None:
    """Bind by the index: Python's own bind() takes a name, which may be another's by then."""
    protocol = socket.htons(ETH_P_ALL)
    address = _ADDRESS.pack(socket.AF_PACKET, protocol, ifindex, 0, 0, 0, b"")
    if ctypes.CDLL(None, use_errno=True).bind(fd, address, len(address)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def listener() -> socket.socket:
    """Return a socket that tells of interfaces that come and go. Raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, _RTMGRP_LINK))
    except BaseException:
        sock.close()
        raise
    return sock


def told(sock: socket.socket) -> Iterator[Change | None]:
    """Yield what the socket tells now; None where something was lost. Raises OSError."""
    while True:
        try:
            datagram, (port, _) = sock.recvfrom(_LONGEST)
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno != errno.ENOBUFS:
                raise
            yield None
        else:
            if port == 0:  # the kernel's own; others may write to us
                yield from changes(datagram)
