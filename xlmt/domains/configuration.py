# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest's configuration, as it is now, and as it is to be after a restart."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xlmt import paths
from xlmt.domains import xl
from xlmt.errors import PASSING, LibxlError, WantError, XlmtError
from xlmt.libxl import Context
from xlmt.xenstore import Store

_XEN_LIB = Path("/var/lib/xen")  # XEN_LIB_DIR, as distributions build it

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


def has_bootloader(config: Mapping[str, Any]) -> bool:
    """Whether libxl runs a bootloader, which chooses the kernel of a paravirtualised guest."""
    b_info = config.get("b_info") or {}
    return bool(b_info.get("bootloader") or (b_info.get("type.pv") or {}).get("bootloader"))


def require_space(length: int) -> None:
    """Raise WantError unless libxl can keep the domain's configuration, and destroy it again.

    It finds that out when the domain exists, and then cannot make the file either under whose
    lock it would destroy it.
    """
    trial = _XEN_LIB / f".xlmt-{os.getpid()}"
    try:
        trial.write_bytes(bytes(4 * length + 16384))
    except FileNotFoundError:
        return  # built with another place; libxl will say what it lacks
    except OSError as e:
        raise WantError(
            f"the domain's configuration cannot be kept: {trial.parent}: {e.strerror}"
        ) from None
    finally:
        with suppress(OSError):
            trial.unlink()
