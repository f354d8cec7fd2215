# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a dom0 does all day, and what it does in bad times. Every test also is one of silence."""

from tests.debug_kernel.module import failing_allocations, load, threads, unload, wait_threads
from tests.lab.dmesg import require_quiet
from tests.lab.stall import Stall
from tests.lab.vm import Lab
from tests.lab.witness import domid_of, wait_gone, wait_up

PV = "/etc/xen/demo-pv.cfg"
LOCKDEP_ALIVE = "grep -q '^ debug_locks: *1$' /proc/lockdep_stats"
KMEMLEAK = "/sys/kernel/debug/kmemleak"
#: It reads a register that Xen has not; the trace has no headline of a complaint.
BOOT = ("Call Trace:",)
#: Nodes of domids that no domain has, over and over.
CHURN = """
for i in $(seq 1000); do
    d=$((30000 + i % 7))
    xenstore-write /local/domain/0/mtwatch/$d ''
    xenstore-rm /local/domain/0/mtwatch/$d
done
"""
#: Four domids' watches (tests/lab/kmod/mtwtest.c) come, have events and go, at the same time.
WATCHES = """
say() { echo "$@" > /sys/kernel/debug/mtwtest/control; }
watches_of() {
    for i in $(seq 30); do
        xenstore-write /local/domain/0/mtwatch/$1 ''
        for n in 0 1 2; do
            say watch backend/test/$1/$n/x
            xenstore-write /local/domain/0/backend/test/$1/$n/x $i
        done
        ((i % 3)) || xenstore-rm /local/domain/0/mtwatch/$1
        for n in 2 0 1; do say unwatch backend/test/$1/$n/x; done
    done
}
for d in 31 32 33 34; do watches_of $d & done
wait
"""


def create_and_destroy(lab: Lab, check: bool = True) -> None:
    lab.run(f"xlmt create {PV}", 180, check=check)
    lab.run("xlmt destroy demo-pv", 180, check=check)
    wait_gone(lab)


def test_the_kernel_boots_and_its_checkers_work(lab: Lab) -> None:
    log = lab.run("dmesg", check=True).out
    require_quiet(log, BOOT)
    assert "KernelAddressSanitizer initialized" in log
    lab.run(LOCKDEP_ALIVE, check=True)
    lab.run(f"echo clear > {KMEMLEAK}", check=True)  # what the kernel itself has lost so far


def test_a_guest_lives_and_dies_without_the_module(lab: Lab) -> None:
    lab.run(f"xlmt create {PV}", 180, check=True)
    wait_up(lab, "demo-pv")
    lab.run("xlmt destroy demo-pv", 180, check=True)


def test_the_module_comes_and_goes(lab: Lab) -> None:
    for _ in range(3):
        load(lab)
        unload(lab)


def test_guests_and_devices_come_and_go(lab: Lab) -> None:
    load(lab)
    for _ in range(2):
        lab.run(f"xlmt create {PV}", 180, check=True)
        wait_threads(lab, domid_of(lab, "demo-pv"))
        wait_up(lab, "demo-pv")
        for _ in range(2):
            lab.run("xlmt xl network-attach demo-pv bridge=br0", 120, check=True)
            lab.run("xlmt xl network-detach demo-pv 1", 120, check=True)
        lab.run("xlmt destroy demo-pv", 180, check=True)
        wait_threads(lab)


def test_a_guest_that_was_there_first_is_adopted_and_given_back(lab: Lab) -> None:
    lab.run(f"xlmt create {PV}", 180, check=True)
    wait_up(lab, "demo-pv")
    for _ in range(2):
        load(lab)
        wait_threads(lab, domid_of(lab, "demo-pv"))
        unload(lab)
    lab.run("xlmt destroy demo-pv", 180, check=True)


def test_a_stall_is_one_guests_own(lab: Lab) -> None:
    load(lab)
    with Stall(lab, "xlmt create /etc/xen/stall.cfg") as stall:
        thread = f"xen-mtwatch-{stall.domid}"
        destroy = lab.spawn("xlmt destroy stall")
        assert "kthread_stop" in stall.wait_begun(thread, 120)
        assert stall.stack("xenwatch") == ""
        create_and_destroy(lab, check=False)  # libxl's time-outs are short for this kernel
        stall.release()
        destroy.wait(180)
    wait_threads(lab)


def test_nodes_come_and_go_while_the_module_does(lab: Lab) -> None:
    churn = lab.spawn(CHURN)
    for _ in range(3):
        load(lab)
        create_and_destroy(lab)
        unload(lab)
    churn.kill()
    lab.run("xenstore-rm /local/domain/0/mtwatch")


def test_watches_come_and_go_while_the_module_does(lab: Lab) -> None:
    lab.run("modprobe mtwtest", check=True)
    torture = lab.spawn(WATCHES)
    while torture.rc() is None:
        load(lab)
        lab.run("sleep 5")
        unload(lab)
    assert "CONCURRENT" not in lab.read("/sys/kernel/debug/mtwtest/log")
    lab.run("rmmod mtwtest; xenstore-rm /local/domain/0/backend/test", check=True)


def test_the_module_survives_allocations_that_fail(lab: Lab) -> None:
    load(lab)
    with failing_allocations(lab, 20) as failures:
        for _ in range(2):
            create_and_destroy(lab, check=False)
        assert failures.count() > 0
    lab.run("for d in $(xendoms | cut -d' ' -f1); do [ $d = 0 ] || xlmt destroy $d; done", 300)
    wait_gone(lab)
    lab.run("xlmt reconcile", 120)
    wait_threads(lab)
    create_and_destroy(lab)


def test_the_module_survives_allocations_that_fail_while_it_comes_and_goes(lab: Lab) -> None:
    load(lab)
    lab.run(f"xlmt create {PV}", 180, check=True)
    with failing_allocations(lab, 20):
        unload(lab)
    load(lab)
    assert threads(lab) <= {domid_of(lab, "demo-pv")}


def test_nothing_is_left_lost_and_lockdep_has_seen_it_all(lab: Lab) -> None:
    lab.run(LOCKDEP_ALIVE, check=True)
    # An object has to be some seconds old to count, and lost in two scans.
    lab.run(f"sleep 10; echo scan > {KMEMLEAK}; sleep 10; echo scan > {KMEMLEAK}", 180, check=True)
    assert lab.read(KMEMLEAK) == ""
