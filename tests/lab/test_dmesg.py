# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's complaints are recognised. No VM: the lines are as Linux 6.1 prints them."""

import pytest

from tests.lab.dmesg import Complained, complaints, require_quiet

COMPLAINTS = """\
WARNING: CPU: 1 PID: 812 at kernel/module/main.c:1213 module_put+0x8b/0xa0
WARNING: possible circular locking dependency detected
WARNING: suspicious RCU usage
WARNING: inconsistent lock state
BUG: KASAN: use-after-free in mtw_unregister+0x1c/0x90 [xen_mtwatch]
BUG: sleeping function called from invalid context at mm/slab.h:494
BUG: kernel NULL pointer dereference, address: 0000000000000010
BUG: scheduling while atomic: xen-mtwatch-1/812/0x00000002
kernel BUG at drivers/xen/xenbus/xenbus_xs.c:703!
Oops: 0000 [#1] PREEMPT SMP KASAN NOPTI
general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1]
Call Trace:
INFO: task xenwatch:30 blocked for more than 120 seconds.
INFO: trying to register non-static key.
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [rmmod:900]
ODEBUG: free active (active state 0) object type: work_struct hint: idle_work+0x0/0x60
kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
list_del corruption. prev->next should be ffff888004f5c0a8, but was dead000000000122
refcount_t: underflow; use-after-free.
BUG kmalloc-64 (Tainted: G           O      ): Right Redzone overwritten
xen_mtwatch: Unknown symbol mtw_nothing (err -2)
""".splitlines()
HARMLESS = """\
Linux version 6.1.192-xlmt-debug (gcc 12.2.0) #1 SMP PREEMPT
Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
kasan: KernelAddressSanitizer initialized
kmemleak: Kernel memory leak detector initialized (mem pool available: 15727)
kmemleak: Automatic memory scanning thread started
xen_mtwatch: loading out-of-tree module taints kernel.
DMAR: [Firmware Info]: no debug here
FAULT_INJECTION: forcing a failure.
vif vif-1-0 vif1.0: Guest Rx ready
""".splitlines()


@pytest.mark.parametrize("line", COMPLAINTS)
def test_a_complaint_is_one_with_a_timestamp_or_without(line: str) -> None:
    for whole in (line, f"[   23.004215] {line}"):
        assert complaints(f"before\n{whole}\nafter") == [whole]


def test_ordinary_lines_are_none() -> None:
    assert complaints("\n".join(HARMLESS)) == []


def test_what_is_allowed_is_none() -> None:
    log = "INFO: task xenwatch:30 blocked for more than 120 seconds.\nBUG: KASAN: oh\n"
    assert complaints(log, ["task xenwatch:"]) == ["BUG: KASAN: oh"]


def test_the_first_complaint_is_shown_with_what_follows_it() -> None:
    require_quiet("all\nis\nwell\n")
    with pytest.raises(Complained, match=r"2 complaint[\s\S]*in f\n tail$"):
        require_quiet("well\nWARNING: x\nBUG: KASAN: bad in f\n tail\n")
