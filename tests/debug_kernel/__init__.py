# SPDX-License-Identifier: LGPL-2.1-or-later
"""xen_mtwatch on a dom0 kernel that checks itself: `make test-debug-kernel`, for people, not CI.

What fails here is not seen elsewhere: a lock taken in two orders, memory used after it was freed,
memory lost, an allocation that was not expected to fail.
"""
