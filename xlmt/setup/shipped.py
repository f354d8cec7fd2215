# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files that come with xlmt, where its build has put them."""

from pathlib import Path

from xlmt import built
from xlmt.errors import XlmtError
from xlmt.setup.plan import SHIPPED


def read() -> dict[str, bytes]:
    """Return what setup may install, by name. Raises XlmtError where one is missing."""
    folder = Path(built.__file__).parent / built.SHARE
    try:
        return {name: (folder / name).read_bytes() for name in SHIPPED}
    except FileNotFoundError as e:
        raise XlmtError(f"{e.filename} is missing: reinstall xlmt") from None
