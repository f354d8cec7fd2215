# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's Xen as this emulator can run it: one bit is different.

Since QEMU 9.1 (its commit a1af7fba5a00, "convert MOV from/to CR and DR to new decoder") an emulated
CPU takes a guest's reads of CR2, CR3 and CR4 for reads of CR0, when it looks whether the hypervisor
has asked for an exit: decode_op() adds the register's number to the exit's code only if that code
is not 0, and "read of CR0" is 0. Xen does ask for reads of CR0, of CR2 it does not; it emulates
whichever is read, CR2 from a copy that it keeps only without nested pages. So the first page fault
of every PVH and HVM guest is at address 0, and it halts before its first word: a power-off.

This clears Xen's wish for an exit at reads of CR0, in the one word that all guests begin with
(construct_vmcb() in arch/x86/hvm/svm/vmcb.c). Without that exit a guest reads the CPU's registers
themselves. QEMU 7.2 has no such fault, and another one that ends dom0, see emulator.py.
"""

from tests.lab.errors import LabError

# Exits at reads (low half) and writes of CR0 to CR15, all but CR2 and CR8.
ASKED = 0xFEFBFEFB.to_bytes(4, "little")
READ_CR0 = 1 << 0


def for_this_emulator(xen: bytes) -> bytes:
    """The image `xen` with that bit cleared. Raises LabError when the word is not just once in it.

    Once is what makes it certain that this is the word.
    """
    if xen.count(ASKED) != 1:
        raise LabError(f"{ASKED.hex()} is {xen.count(ASKED)} times in Xen's image, not once")
    return xen.replace(ASKED, bytes([ASKED[0] & ~READ_CR0]) + ASKED[1:])
