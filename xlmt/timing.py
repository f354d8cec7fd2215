# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long to wait until something is looked at again."""

import time

#: At most so long at a time: Python's handler of a signal that came just before a wait runs when
#: that is over.
NAP_S = 1.0


def rest(seconds: float) -> None:
    """Sleep for so long, if that is more than nothing, for whoever may be told to end."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, NAP_S))


class Pause:
    """Seconds that double until they are enough."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest, self._longest = shortest, longest
        self._next = shortest

    def next(self) -> float:
        seconds, self._next = self._next, min(self._next * 2, self._longest)
        return seconds

    def reset(self) -> None:
        self._next = self._shortest
