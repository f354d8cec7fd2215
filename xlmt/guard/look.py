# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look at who is to be guarded, and who is."""

from xlmt.guard import kept
from xlmt.guard.model import Row, View
from xlmt.kernel import manage, vifs


def look(supervisor: int | None) -> View:
    """Take one look. Raises UnreadableError, OSError."""
    settings, found = kept.load(), vifs.guarded()
    names = manage.names(sorted({vif.domid for vif in found}))
    rows = [
        Row(vif, name := names.get(vif.domid), settings.wants(name), copied)
        for vif, copied in found.items()
    ]
    rows.sort(key=lambda row: (row.vif.domid, row.vif.ifindex))
    return View(settings, supervisor, tuple(rows))
