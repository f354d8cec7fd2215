# SPDX-License-Identifier: LGPL-2.1-or-later
"""The compiled extension: what it was built for, and whether it fits this host."""

import os
import re
import sys
from typing import Any

from xlmt import built
from xlmt.errors import XlmtError

__all__ = [
    "REBUILD",
    "built_for",
    "error_name",
    "ffi",
    "lib",
    "no_xen",
    "owned_text",
    "require_built_for",
    "text",
    "why",
]

_REBUILD = {
    "pip": f"in its sources: {sys.prefix}/bin/pip install --force-reinstall .",
    "apt": "in its sources, with this Xen's libxen-dev: dpkg-buildpackage -b",
}
REBUILD = _REBUILD[built.INSTALLED_BY]

try:
    from xlmt.libxl._libxl import ffi, lib
except ImportError as e:
    _found = re.search(r"libxenlight\.so\.([\d.]+)", str(e))
    if _found:
        raise XlmtError(
            f"xlmt was built for Xen {_found[1]}, whose libxenlight is not installed here; "
            f"build it for this Xen: {REBUILD}"
        ) from e
    raise XlmtError(f"xlmt's libxl extension cannot be loaded: {e}; reinstall xlmt") from e


def text(string: Any) -> str:
    """Copy a C string that libxl keeps."""
    raw: bytes = ffi.string(string)
    return raw.decode(errors="surrogateescape")


def owned_text(string: Any) -> str:
    """Copy a C string that libxl made for us, and free it. NULL: MemoryError."""
    if string == ffi.NULL:
        raise MemoryError("libxl returned no string")
    try:
        return text(string)
    finally:
        lib.free(string)


def error_name(rc: int) -> str:
    """Return libxl's own name of one of its error codes."""
    name = lib.libxl_error_to_string(rc)
    return "unknown error" if name == ffi.NULL else text(name)


def built_for() -> str | None:
    """Return the Xen release ("4.20") of the libxenlight in this process, None if it has none."""
    library = os.path.basename(text(lib.xlmt_libxl_file()))  # noqa: PTH119
    release = re.search(r"libxenlight\.so\.(\d+\.\d+)", library)
    return release[1] if release else None


def require_built_for(running: str) -> None:
    """Raise XlmtError unless we are built for the Xen release that runs, or cannot tell."""
    ours = built_for()
    if ours in (None, running):
        return
    newer = [*map(int, ours.split("."))] > [*map(int, running.split("."))]
    # As after an upgrade of the host: what runs is the old one until then.
    instead = f"boot Xen {ours}, or build xlmt" if newer else "build it"
    raise XlmtError(
        f"Xen {running} is running, but xlmt was built for Xen {ours}; "
        f"{instead} for this Xen: {REBUILD}"
    )


def why(heard: list[str]) -> str:
    """Return the reason for a failure, from what libxl has said."""
    return "; ".join(heard) or "libxl gave no reason"


def no_xen(heard: list[str]) -> str:
    """Return why there is no libxl to be had, and what to do about it."""
    if os.geteuid():
        return "libxl cannot be used: you are not root; try: sudo xlmt …"
    return f"no Xen here: {why(heard)}; is this host booted with Xen, and xenstored running?"
