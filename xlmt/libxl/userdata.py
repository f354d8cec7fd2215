# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libxl keeps with a domain, read without libxl.

libxl looks under a lock, for which one has to wait while somebody else changes the domain's
devices: not to be done by who has many domains to look after. It writes by renaming, so a file is
always whole.
"""

from pathlib import Path

from xlmt import files
from xlmt.model import Domain

_XEN_LIB = Path("/var/lib/xen")  # XEN_LIB_DIR, as distributions build it


def read_userdata(domain: Domain, key: str) -> bytes | None:
    """Return what `Context.store_userdata` has stored, None when nothing. Raises OSError."""
    try:
        return files.read_plain(_file(domain, key))
    except FileNotFoundError:
        return None


def _file(domain: Domain, key: str) -> Path:
    """Return the place, which is libxl's own (libxl_dom.c, libxl__userdata_path), since Xen 4.1."""
    return _XEN_LIB / f"userdata-d.{domain.domid}.{domain.uuid}.{key}"
