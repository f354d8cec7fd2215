# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disks that libxl attaches to domain 0 while a bootloader reads them."""

from contextlib import suppress

from xlmt import paths
from xlmt.errors import XlmtError
from xlmt.xenstore import Store

#: By libxl's kinds of disk backends; tapdisk's are of kind vbd.
_BACKENDS = tuple(f"{paths.domain(0)}/backend/{kind}/0" for kind in ("vbd", "qdisk"))


class LocalDisks:
    """Those that domain 0 has at first, to tell what has come since. Raises XlmtError."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before = self._now()

    def are_more(self) -> bool:
        """Whether there are others now; not where xenstored does not say."""
        with suppress(XlmtError):
            return not self._now() <= self._before
        return False

    def _now(self) -> set[str]:
        found = {path: self._store.list(path) or () for path in _BACKENDS}
        return {f"{path}/{name}" for path, names in found.items() for name in names}
