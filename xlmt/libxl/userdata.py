# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether libxl keeps something with a domain, told without libxl.

libxl looks under a lock, for which one has to wait while somebody else changes the domain's
devices: not to be done by who has many domains to look after.
"""

import os

from xlmt.model import Domain

_XEN_LIB = "/var/lib/xen"  # XEN_LIB_DIR, as distributions build it


def has_userdata(domain: Domain, key: str) -> bool:
    """Say whether `Context.store_userdata` has stored something.

    The name is libxl's own (libxl_dom.c, libxl__userdata_path), the same since Xen 4.1.
    """
    return os.path.exists(f"{_XEN_LIB}/userdata-d.{domain.domid}.{domain.uuid}.{key}")  # noqa: PTH110
