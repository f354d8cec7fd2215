# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests with hardware virtualisation on a real Xen, and what only they can: CDs, soft resets.

A guest's own words on its console show that it runs; an HVM guest's device model is real, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import hypervisor
from tests.lab.errors import LabError
from tests.lab.hosts import ONE_CPU
from tests.lab.root import GUEST
from tests.lab.test_supervise import LOG, supervising
from tests.lab.vm import Lab
from tests.lab.witness import (
    UP_DEADLINE_S,
    domid_of,
    domids,
    leave_nothing,
    nodes,
    states,
    trace,
    wait_for_guest,
    wait_up,
)
from tests.stack.product import assert_node_came_first, assert_node_went_last

# XS_WRITE of "eject" to the drive's node, as a guest's driver sends it to xenstored.
EJECT = r"""#!/bin/sh
printf '\013\0\0\0\0\0\0\0\0\0\0\0\033\0\0\0device/vbd/5632/eject\0eject' > /dev/xen/xenbus
"""
KEXEC = """#!/bin/sh
exec ./kexec vmlinuz initrd.gz 'console=hvc0 xlmt.again'
"""
# A triple fault is not to pass for a soft reset that has gone well, nor for the next life.
STAY = "'on_reboot=\"preserve\"' 'on_crash=\"preserve\"'"
BOTH_KINDS = pytest.mark.parametrize("kind", ["pvh", "hvm"])


@pytest.fixture(autouse=True)
def _no_guests_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "lab" in request.fixturenames:
        leave_nothing(request.getfixturevalue("lab"))


@pytest.fixture
def archive(lab: Lab) -> Iterator[str]:
    """A folder in dom0 whose files a guest finds beside its program `run`."""
    folder = "/run/archive"
    lab.run(f"mkdir {folder}", check=True)
    yield folder
    lab.run(f"losetup -j {folder}.tar | cut -d: -f1 | xargs -r losetup -d; rm -r {folder}*")


def disk_of(lab: Lab, archive: str) -> str:
    """The archive as a disk, in xl's words: a device model takes none that is read-only."""
    lab.run(f"tar -C {archive} -chf {archive}.tar .", check=True)
    loop = lab.run(f"losetup -f --show {archive}.tar", check=True).out.strip()
    return f'"phy:{loop},xvdb,w"'


RUN_IT = "'extra=\"console=hvc0 quiet xlmt.run=xvdb\"'"


@pytest.mark.parametrize("times", [0, 2])
def test_xen_is_changed_in_one_bit_or_not_at_all(times: int) -> None:
    image = b"\x7fELF" + hypervisor.ASKED
    changed = hypervisor.for_this_emulator(image)
    assert [a ^ b for a, b in zip(image, changed, strict=True) if a != b] == [hypervisor.READ_CR0]
    with pytest.raises(LabError, match=f"{times} times"):
        hypervisor.for_this_emulator(b"\x7fELF" + hypervisor.ASKED * times)


@pytest.mark.long
@ONE_CPU
@BOTH_KINDS
def test_a_guest_that_reboots_is_up_again_as_another_domain(lab: Lab, kind: str) -> None:
    name = f"demo-{kind}"
    with supervising(lab):
        lab.run(f"xlmt create /etc/xen/{name}.cfg", 120, check=True)
        first = domid_of(lab, name)
        wait_up(lab, name)
        lab.run(f"xl reboot {name}", check=True)
        lab.wait_for(f"grep '{name} (domain {first}) is restarted as' {LOG}", 240)
        lab.run("xl dmesg -c > /dev/null")  # a PVH guest reboots by a triple fault
        second = domid_of(lab, name)
        assert second != first
        wait_up(lab, name, times=2)
        assert states(lab) == {second: "ok"}
        assert_node_went_last(trace(lab), first)
        assert_node_came_first(trace(lab), second)


@pytest.mark.long
@ONE_CPU
def test_a_cd_that_the_guest_ejects_is_out_of_its_device_model(lab: Lab, archive: str) -> None:
    lab.push(f"{archive}/run", EJECT, executable=True)
    lab.run(f"truncate -s 1M {archive}.iso", check=True)
    cd = f'"{archive}.iso,raw,hdc,ro,cdrom"'
    disks = f"'disk=[{disk_of(lab, archive)}, {cd}]'"
    inside = "xl qemu-monitor-command demo-hvm 'info block'"
    with supervising(lab):
        # Paused: the CD is in before the guest can have it out.
        lab.run(f"xlmt create -p /etc/xen/demo-hvm.cfg {disks} {RUN_IT}", 120, check=True)
        domid = domid_of(lab, "demo-hvm")
        assert "ide-5632: [not inserted]" not in lab.run(inside, check=True).out
        lab.run("xl unpause demo-hvm", check=True)
        wait_for_guest(lab, f"grep '(domain {domid}) has ejected the CD in hdc' {LOG}", 240)
        backend = lab.run(f"xenstore-read /local/domain/{domid}/device/vbd/5632/backend").out
        assert lab.run(f"xenstore-read {backend.strip()}/params", check=True).out.strip() == ""
        assert "ide-5632: [not inserted]" in lab.run(inside, check=True).out
        assert domids(lab) == {domid} == nodes(lab)


@pytest.mark.long
@ONE_CPU
def test_a_guest_that_asks_for_a_soft_reset_goes_on_as_the_same_domain(
    lab: Lab, archive: str
) -> None:
    source = lab.push(f"{archive}.c", (GUEST / "kexec.c").read_text())
    build = f"gcc -static -O2 -Wall -Wextra -Werror -o {archive}/kexec {source}"
    lab.run(f"{build} && cp /guest/* {archive}/", check=True)
    lab.push(f"{archive}/run", KEXEC, executable=True)
    options = f"'disk=[{disk_of(lab, archive)}]' memory=256 'on_soft_reset=\"soft-reset\"' {RUN_IT}"
    with supervising(lab):
        lab.run(f"xlmt create /etc/xen/demo-hvm.cfg {options} {STAY}", 120, check=True)
        domid = domid_of(lab, "demo-hvm")
        wait_for_guest(
            lab, f"grep 'demo-hvm (domain {domid}) runs again after its soft reset' {LOG}", 240
        )
        # The kernel that it has started says so, on the console that it has again.
        words = "Kernel command line: .*xlmt.again"
        wait_for_guest(
            lab, f"grep '{words}' /var/log/xen/console/guest-demo-hvm.log", UP_DEADLINE_S
        )
        assert domids(lab) == {domid} == nodes(lab)
        assert states(lab) == {domid: "ok"}
