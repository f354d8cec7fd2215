# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest's configuration, as it is now, and as it is to be after a restart."""

import json
import logging
import tempfile
from collections.abc import Mapping
from typing import Any

from xlmt import paths
from xlmt.domains import xl
from xlmt.errors import PASSING, LibxlError, XlmtError
from xlmt.libxl import Context
from xlmt.xenstore import Store

_log = logging.getLogger("xlmt.supervise")


def current(ctx: Context, store: Store, domid: int, last: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration as it is now: devices may have come and gone.

    libxl leaves those out that are in its file, but no longer in xenstore. Where it cannot read
    xenstore it just returns the file, and calls that a success.
    """
    try:
        config = dict(json.loads(ctx.configuration(domid)))
    except (LibxlError, ValueError) as e:
        store.ping()
        if not last:
            raise
        _log.warning("domain %d: using its first configuration: %s", domid, e)
        return last
    store.ping()
    if not store.exists(f"{paths.domain(domid)}/name"):
        _log.warning(
            "domain %d: it is not in xenstore any more; devices that were detached from it are "
            "attached again",
            domid,
        )
    return config


def of_the_next_life(ctx: Context, domid: int, now: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the guest is to come back with.

    `xl config-update` leaves a whole new one in the userdata "xl"; only xl can read that. A xl
    that xenstored keeps from it, or a full disk, says nothing of the configuration: raises one of
    PASSING, and OSError, for the update must not be lost.
    """
    try:
        updated = ctx.userdata(domid, "xl")
        if not updated:
            return now
        with tempfile.NamedTemporaryFile(prefix="xlmt-", suffix=".cfg") as file:
            file.write(updated)
            file.flush()
            return xl.parse(file.name)
    except PASSING:
        raise
    except (XlmtError, ValueError) as e:
        _log.warning("domain %d: ignoring what xl config-update left: %s", domid, e)
        return now
