# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel half through its adapters: look at it, load it, unload it.

None of this needs libxl, or a xenstored that answers: it is for the hour in which nothing does.

An unload in one trip. `enabled=0` tells the module to let go: each thread ends when its queue is
empty, then xenwatch gets its watches back. Once all of that is done its state is off, and
modprobe takes it out. As long as it is not, `enabled=1` takes the order back; so whatever ends
our wait early, the host is as protected as it was before.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from xlmt import paths
from xlmt.errors import NoXenError, RefusedError, TimedOutError, XlmtError
from xlmt.kernel import cgroup, deadline, diagnose, modprobe, module, proc, summary
from xlmt.kernel.diagnose import Half, View
from xlmt.kernel.status import MODULE, THREAD
from xlmt.model import Thread
from xlmt.xenstore import Store

T = TypeVar("T")

#: From one look at a blocked thread to the next; connecting a device blocks for less.
LOOK_S = 1.0
#: For the names of guests, all of them; they are a comfort, and xenstored may be gone.
_NAMES_S = 1.0
#: So long after a load the module may take to begin.
_TO_BEGIN_S = 5.0
_PAUSES_S = (0.02, 0.5)
_LEAVING = "leaving"


# --- look ----------------------------------------------------------------------------------


def look() -> View:
    """Take one look. Raises NoXenError where there is no Xen at all."""
    view = _without_names()
    if view.threads is not None and diagnose.xenwatch(view) is None and not proc.runs_on_xen():
        raise NoXenError("no Xen here: this kernel has no xenwatch and does not run on Xen")
    domids = [watcher.domid for watcher in diagnose.everybody(view)]
    domids += [spinner.domid for spinner in view.spinners]
    return view._replace(names=names(domid for domid in domids if domid))


def _without_names() -> View:
    """Look at everything but names.

    What the module says comes after the threads: it tells those at work from those that are
    stuck. It also comes before: being read makes the module ask xenwatch whether it answers.
    """
    problems: list[str] = []

    def read(source: Callable[[], T]) -> T | None:
        try:
            return source()
        except (XlmtError, OSError) as e:
            problems.append(str(e))
            return None

    loaded = module.loaded()
    if loaded:
        _state()
    threads, spinners = read(lambda: proc.watchers(LOOK_S, diagnose.STUCK_S)) or (None, ())
    view = View(
        release=proc.release(),
        in_guest=proc.is_guest(),
        half=Half.MODULE if loaded else _half_without_module(threads),
        version=module.version(),
        parameters=module.parameters(),
        status=read(module.status) if loaded else None,
        threads=threads,
        spinners=spinners,
        guests=frozenset(read(proc.backends) or ()),
        xenbus=threads is None or diagnose.XENBUS in {thread.name for thread in threads},
    )
    stuck = [watcher.pid for watcher in diagnose.stuck(view) if watcher.pid]
    frames = {pid: proc.frames(pid) for pid in stuck}
    return view._replace(frames=frames, problems=tuple(problems))


def _half_without_module(threads: Iterable[Thread] | None) -> Half:
    """Only a patched kernel has such threads without the module; or the names in it.

    To look for these takes longer than all else: not where there is no xenwatch to be patched.
    """
    names = {thread.name for thread in threads or ()}
    told = any(name.startswith(THREAD) for name in names)
    told = told or (diagnose.XENWATCH in names and proc.has_patch())
    return Half.BUILTIN if told else Half.NONE


def names(domids: Iterable[int]) -> dict[int, str]:
    """Return the guests' names, as many as xenstored tells in a moment."""
    wanted, told = list(dict.fromkeys(domids)), {}
    until = time.monotonic() + _NAMES_S
    with suppress(XlmtError):
        if wanted:
            with Store(timeout=_NAMES_S) as store:
                for domid in wanted:
                    if time.monotonic() > until:
                        break
                    if name := store.read(f"{paths.domain(domid)}/name"):
                        told[domid] = name
    return told


def all_names() -> dict[int, str]:
    """Return the names of all guests that have one. Raises XlmtError when xenstored is silent."""
    with Store(timeout=_NAMES_S) as store:
        domids = filter(None, map(paths.parse_domid, store.list(paths.DOMAINS) or ()))
        named = ((domid, store.read(f"{paths.domain(domid)}/name")) for domid in domids)
        return {domid: name for domid, name in named if name}


# --- load ----------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """How things are after a load, and whether the module had been there before."""

    view: View
    was_there: bool


def load(parameters: Mapping[str, str]) -> Loaded:
    """Load the module, or set the parameters of one that is loaded. Raises XlmtError."""
    was_there = module.loaded()
    if was_there and not parameters:
        return Loaded(look(), was_there)
    _need_root("load")
    if was_there:
        for key, value in parameters.items():
            module.set_parameter(key, value)
        if parameters.get("enabled") == "1":
            _wait_for(_has_begun, _TO_BEGIN_S)
        return Loaded(look(), was_there)
    if not proc.runs_on_xen():
        raise NoXenError("no Xen here: this kernel does not run on Xen")
    module.insert({**parameters, **_hint()})
    _wait_for(_has_begun, _TO_BEGIN_S)
    return Loaded(look(), was_there)


def _hint() -> dict[str, str]:
    """Return what the module is told of the nodes: nothing when xenstored does not answer soon."""
    with suppress(XlmtError), Store(timeout=_NAMES_S) as store:
        return modprobe.hint(store.list(paths.MTWATCH) or ())
    return {}


def _has_begun() -> bool:
    """Whether the module has come as far as it can without a wait, older devices included."""
    with suppress(XlmtError):
        told = module.status().module
        return told.state in {"waiting", "off"} or (told.state == "on" and not told.partial)
    return False


def _need_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise XlmtError(f"cannot {verb} {MODULE}: only root can")


# --- throttle ------------------------------------------------------------------------------


def throttle() -> str:
    """Take the CPU from what spins; returns what there is to say then. Raises XlmtError."""
    view = look()
    if view.threads is None:
        raise XlmtError(summary.headline(view))
    pids = {spinner.pid for spinner in view.spinners}
    failure: XlmtError | None = None
    # Linux 6.18 and newer exempt their own threads from control groups ("sched/fair: Switch to task
    # based throttle model"): without an error.
    for limit in (cgroup.limit, deadline.limit):
        if pids:
            try:
                limit(pids)
            except XlmtError as e:
                failure = failure or e
            pids &= {spinner.pid for spinner in _without_names().spinners}
    if pids:
        raise failure or XlmtError(
            f"cannot limit the spinning netback thread: Linux {view.release} does not; it ends "
            "when what it waits for is released"
        )
    return summary.throttled_text(view, cgroup.PERCENT)


# --- unload --------------------------------------------------------------------------------


def unload(timeout: float) -> bool:
    """Unload the module; False when there was none. Raises XlmtError.

    Raises RefusedError when it still was at work after `timeout` seconds, and so stays.
    """
    if not module.loaded():
        return False
    _need_root("unload")
    module.status()  # without it nobody knows when the module has let go
    with _switched_off():
        if not _wait_for(_has_let_go, timeout):
            raise RefusedError(summary.staying_text(look(), timeout))
        module.remove()
    return True


@contextmanager
def _switched_off() -> Iterator[None]:
    """Tell the module to let go; take that back if the block fails, Ctrl-C included.

    But not when modprobe has not come back: the module is on its way out of the kernel.
    """
    was_on = module.parameters().get("enabled") not in {"0", "N"}
    module.set_parameter("enabled", "0")
    try:
        yield
    except TimedOutError:
        raise
    except BaseException:
        if was_on and module.loaded() and _state() != _LEAVING:
            with suppress(XlmtError):
                module.set_parameter("enabled", "1")
        raise


def _has_let_go() -> bool:
    """Whether modprobe can take the module out. One that still waits for xenstored has nothing."""
    return _state() in {"off", "waiting"} and not module.in_use()


def _state() -> str | None:
    with suppress(XlmtError):
        return module.status().module.state
    return None


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for the condition, looking less and less often; False if it does not hold by then."""
    until, (pause, longest) = time.monotonic() + seconds, _PAUSES_S
    while not condition():
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, longest)
    return True
