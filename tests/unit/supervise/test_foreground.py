# SPDX-License-Identifier: LGPL-2.1-or-later
"""`create -F` goes on where what it lacks may be there again."""

import errno
import time

import pytest

from xlmt.errors import NoXenError, WantError
from xlmt.supervise import foreground
from xlmt.supervise.restart_limit import RestartLimit


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), WantError("x"), NoXenError()],
    ids=lambda error: type(error).__name__,
)
def test_what_may_be_over_is_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    class Watch:
        def __init__(self, *_: object) -> None: ...

        def handle_a_death(self) -> bool:
            tries.append(1)
            if len(tries) == 1:
                raise error
            return False

    monkeypatch.setattr(foreground, "_Watch", Watch)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    foreground.supervise(7, RestartLimit())
    assert len(tries) == 2
