# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel tells of network interfaces that come and go: rtnetlink(7). Pure."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_NEW, _GONE = 16, 17  # RTM_NEWLINK, RTM_DELLINK
_AF_UNSPEC = 0


class Change(NamedTuple):
    """An interface of this index has changed, or is gone."""

    ifindex: int
    gone: bool


def changes(datagram: bytes) -> Iterator[Change]:
    """Yield the changes that a datagram tells of; it ends where it makes no sense.

    A bridge tells of its ports in the same words, with its own address family: of a port that has
    left it, and is not gone.
    """
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            return
        if kind in {_NEW, _GONE} and length >= _HEADER.size + _LINK.size:
            family, _, ifindex, _, _ = _LINK.unpack_from(datagram, at + _HEADER.size)
            if family == _AF_UNSPEC and ifindex > 0:
                yield Change(ifindex, gone=kind == _GONE)
        at += (length + 3) & ~3  # NLMSG_ALIGN
