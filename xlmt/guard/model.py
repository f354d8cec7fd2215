# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is to be guarded, and who is, as values. Pure."""

from typing import NamedTuple

from xlmt.guard.settings import Settings
from xlmt.model import Vif


class Row(NamedTuple):
    """A vif; `wanted` by the settings, `guarded` by whoever listens to it."""

    vif: Vif
    name: str | None
    wanted: bool
    guarded: bool


class View(NamedTuple):
    """One look. `supervisor` is the process that carries the sockets, None when none runs."""

    settings: Settings
    supervisor: int | None
    rows: tuple[Row, ...]

    @property
    def wrong(self) -> tuple[Row, ...]:
        """The vifs that are not guarded, but should be."""
        return tuple(row for row in self.rows if row.wanted and not row.guarded)
