# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long to wait for what; and a way out of C code that waits for ever.

libxl's own client of xenstored waits without a deadline. A thread beside it asks xenstored, with
a deadline, whether it is alive, and ends the process when it has not been for too long; and it
sees a second Ctrl-C, which Python itself would only handle once libxl comes back.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from xlmt.errors import NoXenError, XlmtError
from xlmt.libxl import Context
from xlmt.xenstore import Store

_ASK_EVERY_S = 2.0
#: A daemon that is gone will not answer any more; one that is silent may just be busy.
_GONE_S = 6.0
_SILENT_S = 20.0
_AFTERWARDS = "check xlmt list for half-made domains, xlmt destroy them, then xlmt reconcile"


@contextmanager
def bounded(what: str, afterwards: str = _AFTERWARDS) -> Iterator[None]:
    """Run the block; leave the process if xenstored stops answering, or by a second Ctrl-C.

    `afterwards` is what to do then, for whoever reads the last words on standard error.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    previous = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(read_end, what, afterwards), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(write_end)  # ends the thread
        watcher.join(timeout=2 * _ASK_EVERY_S)


@contextmanager
def limited(what: str, seconds: float) -> Iterator[None]:
    """Run the block; leave the process, with status 0, if that takes longer: for hooks."""
    message = f"{what} did not finish within {seconds:.0f} s; if needed: xlmt reconcile"
    timer = threading.Timer(seconds, _leave, (message, 0))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def opened(what: str) -> Iterator[tuple[Store, Context]]:
    """Open the host for the block, which leaves as in `bounded`. Raises NoXenError."""
    with bounded(what), Store() as store, Context() as ctx:
        store.ping()
        yield store, ctx


def _watch(read_end: int, what: str, afterwards: str) -> None:
    interrupts = 0
    answered = time.monotonic()
    while True:
        if select.select([read_end], [], [], _ASK_EVERY_S)[0]:
            signals = os.read(read_end, 64)
            if not signals:
                os.close(read_end)
                return
            interrupts += signals.count(signal.SIGINT)
            if interrupts > 1:
                _leave(f"interrupted during {what}; {afterwards}", 130)
            continue
        patience = _patience()
        if patience is None:
            answered = time.monotonic()
        elif time.monotonic() - answered > patience:
            _leave(
                f"xenstored stopped answering during {what}; once it is back: " + afterwards,
                NoXenError.exit_status,
            )


def _patience() -> float | None:
    """Ask xenstored; return how long its failure may last, None when it answers."""
    asked = time.monotonic()
    try:
        with Store(timeout=_ASK_EVERY_S) as store:
            store.ping()
    except XlmtError:
        return _SILENT_S if time.monotonic() - asked >= _ASK_EVERY_S else _GONE_S
    return None


def _leave(message: str, status: int) -> None:
    sys.stderr.write(f"xlmt: {message}\n")
    sys.stderr.flush()
    os._exit(status)  # the main thread is in libxl and would not hear of an exception
