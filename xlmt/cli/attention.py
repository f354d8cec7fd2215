# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `list`, `repair` and `reconcile` say beside the nodes: guests that nobody looks after."""

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xlmt.libxl import Context
    from xlmt.model import Domain

_log = logging.getLogger("xlmt")


def mention_unattended(domains: "Iterable[Domain]", names: Mapping[int, str]) -> None:
    """Say that managed guests have no supervisor: when they shut down, they would lie there."""
    from xlmt.supervise import presence

    if presence.pid() is not None:
        return
    from xlmt.domains import managed
    from xlmt.text import guest

    alone = [domain.domid for domain in domains if managed.is_managed(domain)]
    if alone:
        first = guest(names.get(alone[0]), alone[0])
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        _log.warning("no supervisor is running for %s%s; to start it: xlmt supervise", first, more)


def mention_left_over(ctx: "Context") -> None:
    """Say what creations that were killed have left half-made."""
    from xlmt.domains import creations
    from xlmt.text import guest

    for left in creations.left_over().values():
        found = ctx.domain(left.domid) if left.domid is not None else None
        if found and found.is_half_made and found.uuid == left.uuid:
            _log.warning(
                "%s was left half-made by process %d; to clear up: xlmt destroy %d",
                guest(left.name, found.domid),
                left.pid,
                found.domid,
            )
