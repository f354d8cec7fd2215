# SPDX-License-Identifier: LGPL-2.1-or-later
"""The QEMU command line of a Xen host."""

import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

AGENT_PORT = "xlmt.lab"  # the name the agent looks for
# A PV dom0's memory is not contiguous in the machine: virtio must use its DMA interface, which
# only "modern" devices do when told that there is an IOMMU.
VIRTIO = "iommu_platform=on,disable-legacy=on"
# Before what else this machine does: Xen gives its backends ten seconds, of anybody's clock. Where
# the scheduler weighs whole sessions, a process's own niceness counts only within its session.
FIRST = """\
{ echo -10 > /proc/self/autogroup; } 2> /dev/null
exec nice -n -10 "$@"
"""
XEN_ARGS = "console=com1 com1=115200,8n1 loglvl=warning guest_loglvl=warning"
# A guest reads CR0 itself here (see hypervisor.py): without this Xen's own bit in it, TS, would be
# there now and then, and a guest that writes back what it has read gets "CR0.TS was set".
XEN_ARGS += " spec-ctrl=eager-fpu"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What to boot, by which `emulator`: the beginning of its command line.

    `layers`: dom0's root, uppermost folder first; `words`: dom0's command line; `cpus`: all of
    them dom0's; `pvh`: dom0 is a PVH domain.
    """

    emulator: Sequence[str]
    boot: Path
    layers: Sequence[Path]
    words: str = ""
    cpus: int = 2
    memory_mb: int = 2048
    dom0_mb: int = 1024
    pvh: bool = False
    disk: Path | None = None  # written to; what is over the layers


def start(
    machine: Machine, agent: socket.socket, log: Path, console: str
) -> subprocess.Popen[bytes]:
    """Start QEMU, which ends when this process (its starting thread) does.

    `agent` is the VM's half of the agent's line, `console` a chardev for Xen's console without
    its id: "file,path=..." or "stdio,...". A terminal is handed on only for stdio.
    """
    argv = ["setpriv", "--pdeathsig", "KILL", "--", *machine.emulator, *_arguments(machine)]
    argv += ["-chardev", f"socket,id=agent,fd={agent.fileno()}"]
    argv += ["-chardev", console.replace(",", ",id=console,", 1), "-serial", "chardev:console"]
    on_terminal = console.startswith("stdio")
    if not on_terminal:
        argv = ["sh", "-c", FIRST, "sh", *argv]
    with log.open("wb") as out:
        return subprocess.Popen(
            argv,
            stdin=None if on_terminal else subprocess.DEVNULL,
            stdout=None if on_terminal else out,
            stderr=out,
            pass_fds=[agent.fileno()],
            # Ctrl-C at a test run is for us, who then end QEMU in order.
            start_new_session=not on_terminal,
        )


def _arguments(machine: Machine) -> list[str]:
    # Always software emulation: /dev/kvm exists on hosts where it does not work. Other CPU
    # models than qemu64 crash a PV dom0 kernel early.
    argv = ["-accel", "tcg", "-cpu", "qemu64,+svm,+npt", "-smp", str(machine.cpus)]
    argv += ["-m", str(machine.memory_mb)]
    argv += ["-nodefaults", "-display", "none", "-no-reboot"]
    kernel = f"console=hvc0 quiet {machine.words}".strip()
    argv += ["-kernel", str(machine.boot / "xen")]
    # Without a maximum dom0 keeps books on all memory that it could ever be given.
    dom0 = f"dom0_mem={machine.dom0_mb}M,max:{machine.dom0_mb}M dom0_max_vcpus={machine.cpus}"
    if machine.pvh:
        # It does DMA to its own addresses, which takes a real IOMMU.
        argv += ["-machine", "q35", "-device", "amd-iommu,intremap=on"]
        dom0 += " dom0=pvh iommu=on"
    argv += ["-append", f"{XEN_ARGS} {dom0}"]
    argv += ["-initrd", f"{machine.boot / 'vmlinuz'} {kernel},{machine.boot / 'dom0.gz'}"]
    for number, layer in enumerate(machine.layers):
        argv += _share(f"lab{number}", layer)
    if machine.disk:
        file = os.fspath(machine.disk).replace(",", ",,")
        # Only this machine's own end could lose what is not written yet, and the VM ends with it.
        argv += ["-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={file}"]
        argv += ["-device", f"virtio-blk-pci,drive=disk,{VIRTIO}"]
    argv += ["-device", f"virtio-serial-pci,{VIRTIO}"]
    return [*argv, "-device", f"virtserialport,chardev=agent,name={AGENT_PORT}"]


def _share(tag: str, folder: Path) -> list[str]:
    path = os.fspath(folder).replace(",", ",,")  # QEMU's quoting
    local = f"local,id={tag},path={path},security_model=none,multidevs=remap,readonly=on"
    return ["-fsdev", local, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},{VIRTIO}"]
