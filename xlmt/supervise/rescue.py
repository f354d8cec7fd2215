# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rescue: a xenwatch that has been stuck for a minute has the module loaded, if that is wanted.

Seen from the supervisor it is a few reads of proc(5), four times a minute; what to do then is a
worker's task, as modprobe may take its time.
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from xlmt.errors import XlmtError
from xlmt.kernel import diagnose, manage, module, proc, rescue, summary
from xlmt.kernel.diagnose import XENWATCH, Half, Verdict
from xlmt.kernel.rescue import Rescue, Result
from xlmt.libxl import Context
from xlmt.text import duration
from xlmt.xenstore import Store

STUCK_S = 60.0
_LOOK_S = 15.0

_log = logging.getLogger("xlmt.supervise")


class Stillness:
    """For how long a thread is known to have been blocked without having run once.

    As the kernel's own hung task detector sees it: in D at each look, with not one switch of
    context between them.
    """

    def __init__(self) -> None:
        self._last: tuple[str, ...] = ()
        self._since = 0.0

    def seen(self, state: tuple[str, ...], now: float) -> float:
        """Take a look at the thread, its state and its switches; return the seconds."""
        if state != self._last or state[:1] != ("D",):
            self._last, self._since = state, now
        return now - self._since


class Watch:
    """Looks at xenwatch from time to time; not when that is not `wanted`, nor after an attempt."""

    def __init__(self, *, wanted: bool) -> None:
        self._stillness = Stillness()
        self._pid: int | None = None
        self._next = time.monotonic() if wanted else float("inf")

    def next_s(self) -> float:
        """Return in how many seconds the next look is due."""
        return max(self._next - time.monotonic(), 0.0)

    def task(self) -> "Load | None":
        """Return the task to be sent for, if a look is due and finds xenwatch stuck for so long."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = float("inf") if rescue.was_tried() else now + _LOOK_S
        with suppress(OSError):  # the next look may see more
            still_s = 0.0 if module.loaded() else self._stillness.seen(self._state(), now)
            return Load(still_s) if still_s >= STUCK_S else None
        return None

    def _state(self) -> tuple[str, ...]:
        """Return xenwatch's state and switches; nothing when there is none."""
        if self._pid is None or not (state := proc.switches(self._pid)):
            self._pid = proc.pid_of(XENWATCH)
            state = proc.switches(self._pid) if self._pid else ()
        return state


@dataclass(frozen=True, slots=True)
class Load:
    """The task of a worker: load the module, unless something else is at work by now."""

    stalled_s: float = field(compare=False)
    key: str = "rescue"
    domid: int | None = None
    what: str = "the rescue of xenwatch"

    def carry_out(self, _ctx: Context, _store: Store) -> None:
        """Do it, once in a boot. Raises XlmtError."""
        view = manage.look()
        if diagnose.judge(view) is not Verdict.STALLED or view.half is not Half.NONE:
            return
        attempt = Rescue(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), self.stalled_s)
        if not rescue.begin(attempt):
            return
        _log.warning(
            "xenwatch has been stuck for %s: loading xen_mtwatch", duration(self.stalled_s)
        )
        try:
            view = manage.load({}).view
        except XlmtError as e:
            rescue.keep(attempt._replace(result=Result.FAILED, reason=str(e)))
            raise XlmtError(
                f"xenwatch is stuck and xen_mtwatch cannot be loaded: {e}; once that is mended: "
                "xlmt kernel load"
            ) from None
        rescue.keep(attempt._replace(result=Result.LOADED))
        _log.warning("%s", " ".join(summary.loaded_text(view).split()))
