# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU boots besides dom0's root: Xen, the kernel, an initrd for dom0 and one for guests."""

import gzip
import lzma
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.lab import cache, hypervisor
from tests.lab.kernels import Kernel
from tests.lab.root import GUEST

DOM0_MODULES = (
    # the root: 9p shares under an overlay; the agent's line
    *("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"),
    # a Xen host
    *("xenfs", "xen-gntdev", "xen-evtchn", "xen-privcmd", "xen-gntalloc"),
    *("xen-blkback", "xen-netback", "loop", "bridge"),
)
HVM_MODULES = ("tun",)  # their emulated network cards
DISK_MODULES = ("virtio_blk", "crc32c_generic", "ext4")
GUEST_MODULES = ("xen-blkfront", "xen-netfront")
# Loaded when the CPU has what they drive, and QEMU's qemu64 has not: the generic ones serve.
ACCELERATORS = ("crct10dif-pclmul", "crc32c-intel")


def boot_files(root: Path, dom0: Kernel, domu: Kernel, *, disk: bool = False) -> Path:
    """A folder with `xen`, `vmlinuz`, `dom0.gz`, and `layer`: what dom0 sees as /guest.

    With `disk` dom0 has one, on which it writes. It has HVM guests only with its release's kernel.
    """
    inits = (GUEST / "dom0-init", GUEST / "guest-init")
    kernels = (dom0.home.name, dom0.release, domu.home.name, domu.release)
    changed = (*inits, Path(hypervisor.__file__))
    modules = DOM0_MODULES + HVM_MODULES * (dom0 == domu) + DISK_MODULES * disk
    key = cache.digest(root.name, *kernels, *modules, "guest:", *GUEST_MODULES, *changed)

    def make(tmp: Path) -> None:
        guest = tmp / "layer" / "guest"
        guest.mkdir(parents=True)
        (tmp / "xen").write_bytes(hypervisor.for_this_emulator((root / "boot/xen").read_bytes()))
        shutil.copy(dom0.image, tmp / "vmlinuz")
        shutil.copy(domu.image, guest / "vmlinuz")
        busybox = (root / "bin/busybox").read_bytes()
        (tmp / "dom0.gz").write_bytes(_initrd(busybox, dom0, inits[0], modules))
        (guest / "initrd.gz").write_bytes(_initrd(busybox, domu, inits[1], GUEST_MODULES))

    return cache.entry("boot", key, "packing the initrds", make, keep=6)


def _initrd(busybox: bytes, kernel: Kernel, init: Path, modules: tuple[str, ...]) -> bytes:
    files = {"init": init.read_bytes(), "bin/busybox": busybox}
    order = module_files(kernel.modules, modules)
    for path in order:
        files[f"mods/{_stem(path)}.ko"] = _module(path)
    files["mods/order"] = "".join(f"{_stem(path)}.ko\n" for path in order).encode()
    folders = ("bin", "sbin", "proc", "sys", "dev", "mods", "low", "rw", "mnt")
    return gzip.compress(b"".join(_cpio(folders, files)), compresslevel=1)


def _module(path: Path) -> bytes:
    """A module as busybox can load it: newer Debian kernels have them compressed."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def module_files(tree: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of these modules and all they depend on, in the order to load them.

    Raises KeyError for a name that this kernel has neither as a module nor built in.
    """
    depends: dict[str, list[str]] = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    by_name = {_stem(path): path for path in depends}
    built_in = {_stem(path) for path in (tree / "modules.builtin").read_text().splitlines()}
    order: dict[str, None] = {}
    for name in names:
        if _stem(name) in built_in:
            continue
        path = by_name[_stem(name)]
        order |= dict.fromkeys([*reversed(depends[path]), path])
    skipped = {_stem(name) for name in ACCELERATORS}
    return [tree / path for path in order if _stem(path) not in skipped]


def _stem(path: str | Path) -> str:
    return Path(path).name.removesuffix(".xz").removesuffix(".ko").replace("-", "_")


def _cpio(folders: tuple[str, ...], files: dict[str, bytes]) -> Iterator[bytes]:
    """An archive in the "newc" format of the kernel's initramfs: every file is executable."""
    for name in folders:
        yield _cpio_entry(name, 0o040755, b"")
    for name, data in files.items():
        yield _cpio_entry(name, 0o100755, data)
    yield _cpio_entry("TRAILER!!!", 0, b"")


def _cpio_entry(name: str, mode: int, data: bytes) -> bytes:
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device and rdevice major/minor, name size, check
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % n for n in numbers) + path
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
