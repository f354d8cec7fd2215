# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long to wait until something is looked at again."""


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
