# SPDX-License-Identifier: LGPL-2.1-or-later
"""CDs in a domain's drives."""

from xlmt.libxl.context import Context
from xlmt.libxl.extension import ffi, lib


def eject_cd(ctx: Context, domid: int, vdev: str) -> None:
    """Leave the drive (such as "hdc") empty. Raises LibxlError."""
    disk = ffi.new("libxl_device_disk *")
    lib.libxl_device_disk_init(disk)
    strings = ffi.new("char[]", vdev.encode()), ffi.new("char[]", b"")  # ours: nothing to dispose
    disk.vdev, disk.pdev_path = strings
    disk.format = lib.LIBXL_DISK_FORMAT_EMPTY
    disk.is_cdrom = disk.removable = 1
    ctx.run(
        f"ejecting {vdev} of domain {domid}",
        lambda c, how: lib.libxl_cdrom_insert(c, domid, disk, how),
        timeout=60,
    )
