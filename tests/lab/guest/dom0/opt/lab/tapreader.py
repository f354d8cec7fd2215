#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The program behind a macvtap, as a guest's device model is: it reads, for as long as it runs.

Its device is the only argument. See linux/if_tun.h.
"""

import fcntl
import os
import struct
import sys

SET_FLAGS = 0x400454CA  # TUNSETIFF
TAP, NO_INFO, VNET_HEADER = 0x2, 0x1000, 0x4000
MOST = 1 << 17


def main() -> None:
    device = os.open(sys.argv[1], os.O_RDWR)
    # With the header frames are passed on as they came, not in pieces with sums made anew.
    fcntl.ioctl(device, SET_FLAGS, struct.pack("16sH22x", b"", TAP | NO_INFO | VNET_HEADER))
    print("open", flush=True)
    while os.read(device, MOST):
        pass


if __name__ == "__main__":
    main()
