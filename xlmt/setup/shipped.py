# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the files are that come with xlmt: in a checkout, a virtual environment, a package."""

import sys
from pathlib import Path

from xlmt.errors import XlmtError
from xlmt.setup.plan import SHIPPED


def folders() -> tuple[Path, ...]:
    """Return where they may be, the closest to this program first."""
    checkout = Path(__file__).parents[2]
    prefixes = (Path(sys.prefix), Path("/usr"), Path("/usr/local"))
    return (checkout, *(prefix / "share/xlmt" for prefix in prefixes))


def read() -> dict[str, bytes]:
    """Return what setup may install, by name. Raises XlmtError where one is missing."""
    for folder in folders():
        if (folder / SHIPPED[0]).is_file():
            try:
                return {name: (folder / name).read_bytes() for name in SHIPPED}
            except FileNotFoundError as e:
                raise XlmtError(f"{e.filename} is missing: reinstall xlmt") from None
    raise XlmtError("the files that come with xlmt are missing: reinstall xlmt")
