# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names and places: xenstore paths, the range of domids, well-known files."""

#: Xen's DOMID_FIRST_RESERVED is 0x7FF0; a guest's domid is below it (xen/include/public/xen.h).
#: libxl and Xen hand out 1 ... 0x7FEF.
DOMID_FIRST = 1
DOMID_LAST = 0x7FEF

MTWATCH = "/local/domain/0/mtwatch"
DOMAINS = "/local/domain"
NODE_PERMS = ("n0",)
#: What must outlive our processes, but not the host.
RUN = "/run/xlmt"
#: That the supervisor has loaded the module by itself.
RESCUE = f"{RUN}/rescue.json"
#: What is to outlive the host: who is guarded.
GUARD = "/var/lib/xlmt/guard.json"
#: xl's own settings: xl.conf(5).
XL_CONF = "/etc/xen/xl.conf"


def node(domid: int) -> str:
    """Return the path of the domid's mtwatch node."""
    return f"{MTWATCH}/{domid}"


def domain(domid: int) -> str:
    """Return the domid's home directory in xenstore."""
    return f"{DOMAINS}/{domid}"


def parse_domid(text: str) -> int | None:
    """Return the domid that `text` spells canonically, or None.

    Canonical is what the kernel half parses: decimal, no sign, no leading zero, 1 ... 32751.
    """
    if not (text.isascii() and text.isdigit()) or text[0] == "0" or len(text) > 5:
        return None
    domid = int(text)
    return domid if DOMID_FIRST <= domid <= DOMID_LAST else None
