# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel half, the module xen_mtwatch, from user space."""
