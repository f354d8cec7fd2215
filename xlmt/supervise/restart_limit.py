# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a guest that keeps dying is not restarted any more. Pure.

Apart from policy.py, whose decisions take longer to import than most commands take to run: this
is in the options of one of them.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from xlmt.errors import UsageError

LIMIT_SETTING, WINDOW_SETTING = "XLMT_RESTART_LIMIT", "XLMT_RESTART_WINDOW"


class RestartLimit(NamedTuple):
    """When a guest that keeps dying is not restarted any more; xl has no such limit.

    `deaths`: so many in a row, each within `within_s` seconds of its start. 0: no limit.
    """

    deaths: int = 5
    within_s: float = 10.0

    def early_deaths(self, before: int, lived_s: float) -> int:
        """Return how many early deaths in a row there are now, with `before` of them before."""
        return before + 1 if lived_s < self.within_s else 0

    @classmethod
    def from_settings(cls, environ: Mapping[str, str]) -> "RestartLimit":
        """Return the limit as the environment sets it. Raises UsageError."""
        usual = cls()
        try:
            deaths = int(environ.get(LIMIT_SETTING, usual.deaths))
            within_s = float(environ.get(WINDOW_SETTING, usual.within_s))
            if not math.isfinite(within_s):
                raise ValueError(f"{within_s} is no number of seconds")
            return cls(deaths, within_s)
        except ValueError as e:
            names = f"{LIMIT_SETTING} and {WINDOW_SETTING}"
            raise UsageError(f"{names} in the environment must be numbers: {e}") from None

    def is_reached(self, early_deaths: int) -> bool:
        return 0 < self.deaths <= early_deaths
