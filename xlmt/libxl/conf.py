# SPDX-License-Identifier: LGPL-2.1-or-later
"""xl's own settings, read by libxlutil, the parser that xl itself uses."""

import os

from xlmt.errors import XlmtError
from xlmt.libxl.extension import ffi, lib, owned_text


def setting(path: str, key: str) -> str | None:
    """Return a string setting of a file in xl's syntax, None when it or the file is absent.

    Raises XlmtError when the file cannot be parsed.
    """
    if not os.path.exists(path):  # noqa: PTH110
        return None
    p_problem = ffi.new("char **")
    value = lib.xlmt_conf_string(os.fsencode(path), key.encode(), p_problem)
    problem = owned_text(p_problem[0])
    if value != ffi.NULL:
        return owned_text(value)
    if problem:
        raise XlmtError(f"{path}: {problem.splitlines()[0]}")
    return None
