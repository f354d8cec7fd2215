#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A firewall that is asked about every frame that a bridge forwards, and does not read.

It is asked by number ("nfqueue.py 7"), told of each frame without what is in it, and goes on until
it is killed, which takes the rule along. See linux/netfilter/nfnetlink_queue.h, nf_tables.h.
"""

import socket
import struct
import sys
import time

NFNETLINK = 12
REQUEST, ACK, CREATE, APPEND = 1, 4, 0x400, 0x800
TABLES, QUEUE = 10 << 8, 3 << 8  # subsystems
BEGIN, END = 16, 17
NEW_TABLE, NEW_CHAIN, NEW_RULE = TABLES, TABLES | 3, TABLES | 6
CONFIG = QUEUE | 2
BRIDGE = 7  # the protocol family
FORWARD = 2
BIND, WITHOUT_DATA = 1, 1
OWNER = 2  # the table is its socket's, and goes with it
NAME = b"xlmtlab\0"


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def nested(kind: int, *values: bytes) -> bytes:
    return attribute(kind | 0x8000, b"".join(values))


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def message(kind: int, flags: int, of: int, *attributes: bytes, family: int = BRIDGE) -> bytes:
    body = struct.pack("=BBH", family, 0, socket.htons(of)) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body


def asked(sock: socket.socket, *messages: bytes) -> None:
    """Send them; raises OSError when the kernel refuses one."""
    sock.send(b"".join(messages))
    for _ in [m for m in messages if struct.unpack_from("=H", m, 6)[0] & ACK]:
        (error,) = struct.unpack_from("=i", sock.recv(4096), 16)
        if error:
            raise OSError(-error, f"{sys.argv[0]}: refused")


def main() -> None:
    of = int(sys.argv[1])
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NFNETLINK)
    bind = struct.pack(">BBH", BIND, 0, 0)
    without_data = struct.pack(">IB", 0, WITHOUT_DATA)
    asked(sock, message(CONFIG, ACK, of, attribute(1, bind), family=0))
    asked(sock, message(CONFIG, ACK, of, attribute(2, without_data), family=0))
    ask = nested(1, attribute(1, b"queue\0"), nested(2, attribute(1, struct.pack(">H", of))))
    asked(
        sock,
        message(BEGIN, 0, TABLES >> 8),
        message(NEW_TABLE, CREATE | ACK, 0, attribute(1, NAME), number(2, OWNER)),
        message(
            *(NEW_CHAIN, CREATE | ACK, 0, attribute(1, NAME), attribute(3, NAME)),
            nested(4, number(1, FORWARD), number(2, 0)),
            attribute(7, b"filter\0"),
        ),
        message(
            *(NEW_RULE, CREATE | APPEND | ACK, 0, attribute(1, NAME), attribute(2, NAME)),
            nested(4, ask),
        ),
        message(END, 0, TABLES >> 8),
    )
    print("asked", flush=True)
    time.sleep(1e6)


main()
