# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `xlmt kernel` says of one look at the kernel, in sentences. Pure.

The first one is for somebody who was woken up by it: who is stuck, for how long, who else
suffers, what to type next.
"""

from xlmt.kernel import diagnose
from xlmt.kernel.diagnose import STUCK_S, Half, Serves, Verdict, View, Watcher
from xlmt.kernel.status import MODULE
from xlmt.model import Spinner
from xlmt.text import duration, printable

_NOT_AT_WORK = {
    "off": "is loaded, but off",
    "waiting": "is loaded and waits for xenstored; it begins by itself",
    "starting": "is loaded, but xenstored does not answer",
    "draining": "is being switched off and waits for its threads",
    "leaving": "is handing all guests back to xenwatch",
}
_WAY_OUT = {
    "off": "to switch it on: xlmt kernel load enabled=1",
    "waiting": "look at xenstored",
    "starting": "look at xenstored",
    "draining": "to take that back: xlmt kernel load enabled=1",
    "leaving": "wait, then: xlmt kernel unload",
}
#: What a stuck xenwatch means where the kernel half is at work.
SOME_WAIT = "guests without a thread of their own wait for it, the others are not affected"
#: What one of the kernel half's own threads that is stuck means, by whom it serves.
AFFECTED = {
    Serves.GUEST: "other guests are not affected",
    Serves.DOMAIN_0: "guests whose bootloader needs a disk in domain 0 wait, others do not",
    Serves.PROGRAMS: "programs that watch by /dev/xen/xenbus wait, guests do not",
}
_NO_ANSWER = "no answer of xenstored is read any more, and no guest can be created or destroyed"


# --- the verdict ---------------------------------------------------------------------------


def headline(view: View) -> str:  # noqa: PLR0911 - one for each verdict, and mypy misses none
    """Return the verdict, in one line."""
    match diagnose.judge(view):
        case Verdict.UNKNOWN:
            problems = "; ".join(printable(problem, 300) for problem in view.problems)
            return f"cannot tell: {problems or 'nothing could be read'}"
        case Verdict.GONE if diagnose.xenwatch(view):
            return "xenbus has crashed, see dmesg; this host has to be rebooted: " + _NO_ANSWER
        case Verdict.GONE:
            return f"xenwatch has crashed, see dmesg; {_without_it(view)}"
        case Verdict.STALLED:
            return f"{_troubles(view)}{_consequence(view)}"
        case Verdict.SILENT:
            return _store_is_silent(view)
        case Verdict.CONTAINED:
            stuck = dict.fromkeys(diagnose.serves(w.name) for w in diagnose.stuck(view))
            return "; ".join([_troubles(view), *(AFFECTED[whom] for whom in stuck)])
        case Verdict.HEALTHY:
            return _at_work(view)
        case Verdict.EXPOSED:
            return f"nothing is stuck, but {_exposure(view)}"


def _store_is_silent(view: View) -> str:
    also = f"; {_troubles(view)}" if diagnose.stuck(view) else ""
    silent = duration(diagnose.store_silent_s(view))
    return (
        f"xenstored has not answered the kernel for {silent}, and no "
        "guest can be created or destroyed; xenwatch is not stuck; to look at xenstored: "
        f"ps -C xenstored,oxenstored -o pid,stat,time,args{also}"
    )


def _troubles(view: View) -> str:
    first, *more = diagnose.stuck(view)
    verb = "thread is" if len(more) == 1 else "threads are"
    others = f", and {len(more)} more {verb} stuck" if more else ""
    return f"{_who(first, view)} {_trouble(first, view)}{others}"


def _who(watcher: Watcher | Spinner, view: View) -> str:
    name = view.names.get(watcher.domid or 0)
    known = [printable(name)] if name and watcher.name != diagnose.XENWATCH else []
    known += [f"pid {watcher.pid}"] if watcher.pid else []
    return f"{printable(watcher.name)} ({', '.join(known)})" if known else printable(watcher.name)


def _trouble(watcher: Watcher, view: View) -> str:
    doing, depth = watcher.doing, watcher.doing.depth if watcher.doing else None
    if doing and (doing.age_s >= STUCK_S or watcher.silent_s is None):
        path = f" on {printable(doing.path, 200)}" if doing.path else ""
        path += _whose(watcher, view)
        behind = f", {depth} {'event' if depth == 1 else 'events'} behind it" if depth else ""
        return f"has been in {printable(doing.callback)}{path} for {duration(doing.age_s)}{behind}"
    if watcher.silent_s and watcher.silent_s > watcher.still_s:
        return f"has not answered for {duration(watcher.silent_s)}"
    frames = view.frames.get(watcher.pid or 0)
    where = f" in {printable(frames[0])}" if frames else ""
    return f"has been blocked{where} for at least {duration(watcher.still_s)}"


def _whose(watcher: Watcher, view: View) -> str:
    """Return the guest that xenwatch is at; a thread's name says it already."""
    if watcher.name != diagnose.XENWATCH or not watcher.domid:
        return ""
    name = view.names.get(watcher.domid)
    return f", of guest {watcher.domid}{f' ({printable(name)})' if name else ''},"


def _consequence(view: View) -> str:
    """Return what a stuck xenwatch means here, and what to do."""
    if diagnose.protects(view):
        return f"; {SOME_WAIT}"
    means = ", and no guest can be created or destroyed"
    if view.half is Half.MODULE:
        state = diagnose.state_of_module(view)
        return f"{means}; {_module_is(view)}; {_WAY_OUT.get(state, '')}".rstrip("; ")
    return f"{means}; {_load(view, 'for new guests to work again')}"


def _load(view: View, wish: str) -> str:
    """Return what to type for a module that is not there."""
    if view.in_guest:
        return f"this is not domain 0, which {MODULE} is for"
    return f"{wish}: xlmt kernel load"


def _without_it(view: View) -> str:
    """Return what a host without xenwatch is good for."""
    if diagnose.protects(view):
        return "only guests with a thread of their own work; reboot this host when you can"
    return "no guest can be created or destroyed until this host is rebooted"


def _at_work(view: View) -> str:
    if view.half is Half.BUILTIN:
        patched = "has the xenwatch multithreading patch of 2018 built in"
        half = f"this kernel ({printable(view.release)}) {patched}"
    else:
        half = f"{named(view)} is on"
    threads = [diagnose.serves(watcher.name) for watcher in diagnose.watchers(view)]
    match threads.count(Serves.GUEST):
        case 0:
            return f"{half}: nothing is stuck, and no guest has a thread of its own yet"
        case 1:
            return f"{half}: one guest has a thread of its own, and nothing is stuck"
        case number:
            return f"{half}: {number} guests have threads of their own, and none is stuck"


def _exposure(view: View) -> str:
    risk = "one stuck guest would take the host with it"
    if view.half is not Half.MODULE:
        idle = "nodes have no effect on this kernel"
        if view.half is Half.BUILTIN:
            idle = (
                "no guest has a thread, the patch of 2018 seems to be switched off in this kernel"
            )
        idle = f"{idle} ({printable(view.release)}), and {risk}"
        return f"{idle}; {_load(view, 'to change that')}"
    return f"{_module_is(view)}, and {risk}; {_way_out(diagnose.state_of_module(view))}"


def _way_out(state: str) -> str:
    return _WAY_OUT.get(state, "see: xlmt kernel status -o json")


def _module_is(view: View) -> str:
    state = diagnose.state_of_module(view)
    return f"{named(view)} {_NOT_AT_WORK.get(state, 'is ' + printable(state))}"


def named(view: View) -> str:
    """Return the module with its version, if it tells that."""
    told = view.status.module.version if view.status else None
    version = told or view.version
    return f"{MODULE} {printable(version)}" if version else MODULE


# --- load, throttle, unload ----------------------------------------------------------------


def loaded_text(view: View) -> str:
    """Return what there is to say after a load."""
    if view.status is None:
        why = "; ".join(printable(problem, 300) for problem in view.problems)
        return f"{named(view)} is loaded; cannot tell whether it is on: {why}"
    state = diagnose.state_of_module(view)
    lines = [f"{named(view)} is on" if state == "on" else f"{_module_is(view)}; {_way_out(state)}"]
    main = diagnose.xenwatch(view)
    if state == "on" and main and main.stuck_s:
        lines.append(
            "xenwatch is stuck: new guests work now; guests that wait for it, and guests from "
            "before the load whose devices are not adopted yet, stay stuck until it continues"
        )
    if view.status.module.partial:
        lines.append(
            "some devices from before the load are not adopted yet, see: xlmt kernel status; "
            "xenwatch handles them until then"
        )
    return "\n".join(lines)


def throttled_text(view: View, percent: int) -> str:
    """Return what has become of the threads that spun."""
    lines = [
        f"{_who(spinner, view)} is limited to {percent} % of a CPU" for spinner in view.spinners
    ]
    return "\n".join(lines) or "no thread is spinning"


def staying_text(view: View, seconds: float) -> str:
    """Return why the module has not let go of everything, in one line."""
    busy = diagnose.stuck(view) or [w for w in diagnose.watchers(view) if w.doing]
    if busy:
        domid = f" of domain {busy[0].domid}" if busy[0].domid is not None else ""
        why = f"{_who(busy[0], view)}{domid} {_trouble(busy[0], view)}"
    else:
        why = f"its state is still {printable(diagnose.state_of_module(view))}"
    late = duration(seconds)
    if diagnose.state_of_module(view) == "leaving":
        return f"{MODULE} is being unloaded, but not done after {late}: {why}; try again"
    return f"{MODULE} stays loaded: its threads have not ended after {late}: {why}"
