# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes on beside a test."""

import threading

END_S = 120.0


class Background(threading.Thread):
    """Does once() again and again, until it is told to stop or that fails."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True, name=name)
        self.enough = threading.Event()
        self._failure: BaseException | None = None

    def once(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        try:
            while not self.enough.is_set():
                self.once()
        except BaseException as e:
            self._failure = e

    def check(self) -> None:
        """Raise what it has failed of."""
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Return when it has ended. Raises what it has failed of."""
        self.enough.set()
        self.join(END_S)
        assert not self.is_alive()
        self.check()
