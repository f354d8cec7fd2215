# SPDX-License-Identifier: LGPL-2.1-or-later
# The one place where `Any` is let in: what cffi generates has no types. libxl.py is typed.
from typing import Any

ffi: Any
lib: Any
