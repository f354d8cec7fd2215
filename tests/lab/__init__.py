# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab: a real Xen host in QEMU's software emulation, for tests, `make demo` and `make lab`.

cache    a folder of things that are slow to make, each made once and whole
release  which release of Debian dom0 is made of
root     dom0's root (Debian with Xen's tools), Xen, the kernel
kernels  the kernel of a root or a layer, and those that dom0 may have in its place:
newest   Debian's newest
recipe   one that is built here, of its source: debug_kernel, with every checker in it, and
         upstream_kernel, with the patches of kernel/upstream
source   Linux' source, and its checkpatch.pl
product  xlmt and what it depends on, built and installed inside that root
initrd   the first steps of dom0 and of the guests
vm       QEMU, and commands run in dom0
stall    a real xenwatch stall, made with stock parts
libvirt  libvirt's own daemon
witness  what tests look at
repeat   a test that Xen's own deadlines have decided is run once more
dmesg    whether the kernel has complained
guest/   what runs inside: real files, read in place

Nothing is installed on the machine that runs it.
"""
