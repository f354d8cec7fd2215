# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a guest that keeps dying is not restarted any more. Pure.

Apart from policy.py, whose decisions take longer to import than most commands take to run: this
is in the options of one of them.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from xlmt.errors import UsageError

#: xl waits as long: "domain re-creation fails sometimes" without it (xl_vmcontrol.c).
_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
#: A life is a short one below so many times the window.
_SHORT = 10
LIMIT_SETTING, WINDOW_SETTING = "XLMT_RESTART_LIMIT", "XLMT_RESTART_WINDOW"


class RestartLimit(NamedTuple):
    """When a guest that keeps dying is not restarted any more; xl has no such limit.

    `deaths`: so many in a row, each within `within_s` seconds of its start. 0: no limit. Lives that
    are just longer are not counted, but the pauses between short ones grow, so that no guest
    can keep the host busy with itself.
    """

    deaths: int = 5
    within_s: float = 10.0

    def short_lives(self, before: int, lived_s: float) -> int:
        """Return how many lives in a row were short now, with `before` of them before."""
        return before + 1 if lived_s < _SHORT * self.within_s else 0

    def pause_s(self, short_lives: int) -> float:
        """Return how long to wait before the next life, after so many short ones in a row."""
        if not self.deaths or short_lives < 2:
            return _PAUSE_S
        return float(min(_PAUSE_S * 2 ** min(short_lives - 1, 10), _LONGEST_PAUSE_S))

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
