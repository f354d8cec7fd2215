# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel half says of itself: its status, format 1, as xen_mtwatch(4) has it. Pure.

Whatever is missing, cut off or odd becomes None, or is passed over: a module that is a little
newer or older than xlmt must not keep an administrator from seeing the rest.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from xlmt import paths
from xlmt.errors import XlmtError
from xlmt.model import Doing, Thread

MODULE = "xen_mtwatch"
THREAD = "xen-mtwatch-"
#: Of programs that watch by /dev/xen/xenbus.
USERS_THREAD = f"{THREAD}users"
FORMAT = "1"
#: What blkback ("1.xvda-0") and netback ("vif1.0-q0-guest-rx") call the threads that they make for
#: a guest. Names may be cut after 15 characters, which leaves all of this.
WORKER = re.compile(r"(?:vif)?(?P<domid>\d+)\.\w+-\S*")
#: Longer than any number that a kernel prints; Python refuses to read endless ones.
_DIGITS = 20
_FULL_THREAD_NAMES, _CUT_THREAD_NAME = (5, 17), 15


class Module(NamedTuple):
    """The record `module`: off, waiting, starting, on, draining or leaving; and its settings.

    `store_silent_s` is for how long xenstored has owed it an answer.
    """

    version: str | None = None
    state: str | None = None
    mode: str | None = None
    threads: int | None = None
    max_threads: int | None = None
    idle_s: int | None = None
    warn_s: int | None = None
    adopted: int | None = None
    partial: int | None = None
    passed: int | None = None
    store_silent_s: float | None = None


class Longest(NamedTuple):
    """The callback that took longest, of all that are over."""

    callback: str
    path: str | None
    took_s: float | None


class Xenwatch(NamedTuple):
    """The record `xenwatch`; `silent_s` is for how long it has owed the module an answer."""

    pid: int | None = None
    silent_s: float | None = None
    domid: int | None = None
    events: int | None = None
    doing: Doing | None = None
    longest: Longest | None = None


class Share(NamedTuple):
    """A record `domain` or `users`: what one thread has done and has to do.

    Without a domid it is that of programs that watch by /dev/xen/xenbus; 0 are the devices that
    domain 0 has itself.
    `phase` is new (no thread yet), up, or draining (the node is gone, the queue not yet empty);
    `by` is what it was made for: node or auto.
    """

    domid: int | None = None
    pid: int | None = None
    phase: str | None = None
    by: str | None = None
    depth: int | None = None
    max_depth: int | None = None
    queued: int | None = None
    done: int | None = None
    merged: int | None = None
    flushed: int | None = None
    rescans: int | None = None
    wait_s: float | None = None
    doing: Doing | None = None
    longest: Longest | None = None


class Status(NamedTuple):
    """All of it. A domid may have two records: one that drains and one that is new.

    `domains` are all threads, that of programs included.
    """

    module: Module = Module()
    xenwatch: Xenwatch = Xenwatch()
    domains: tuple[Share, ...] = ()


def parse(text: str) -> Status:
    """Return what the module's status says. Raises XlmtError when it is of another format."""
    head, *lines = text.split("\n")[:-1] or [""]  # what the last line feed does not end is cut off
    match head.split():
        case [name, number, *_] if name == MODULE and number == FORMAT:
            pass
        case [name, number, *_] if name == MODULE:
            raise XlmtError(
                f"the status of {MODULE} has format {number[:20]}, xlmt knows format {FORMAT}: "
                "update xlmt"
            )
        case _:
            raise XlmtError(f"the status of {MODULE} does not begin with its format")
    module, xenwatch, domains = Module(), Xenwatch(), []
    for kind, fields in map(_record, lines):
        if kind == "module":
            module = _module(fields)
        elif kind == "xenwatch":
            xenwatch = _xenwatch(fields)
        elif kind == "users" or (kind == "domain" and _number(fields, "domid") is not None):
            domains.append(_share(fields))
    return Status(module, xenwatch, tuple(domains))


def domid_of(thread: str, release: str) -> int | None:
    """Return whose thread this is, by its name; None where that is open, or no thread of a domid.

    Before Linux 5.17 (d6986ce24fc0 "kthread: dynamically allocate memory ...") names are cut after
    15 characters, which leaves three digits of the domid.
    """
    if not thread.startswith(THREAD):
        return None
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if version < _FULL_THREAD_NAMES and len(thread) >= _CUT_THREAD_NAME:
        return None
    return paths.parse_domid(thread.removeprefix(THREAD))


def is_users(thread: str) -> bool:
    """Whether this is the thread of programs, by its name, which may be cut."""
    return len(thread) >= _CUT_THREAD_NAME and USERS_THREAD.startswith(thread)


def with_doing(threads: Mapping[int, Thread], status: Status) -> dict[int, Thread]:
    """Return the threads, by domid, with what the module says that each is doing."""
    doing = {share.pid: share.doing for share in status.domains}
    return {domid: t._replace(doing=doing.get(t.pid)) for domid, t in threads.items()}


# --- records -------------------------------------------------------------------------------

_Fields = Mapping[str, str]


def _record(line: str) -> tuple[str, _Fields]:
    kind, *words = line.split(" ")
    pairs = (word.partition("=") for word in words)
    return kind, {key: value for key, _, value in pairs if value not in {"", "-"}}


def _module(fields: _Fields) -> Module:
    return Module(
        version=fields.get("version"),
        state=fields.get("state"),
        mode=fields.get("mode"),
        threads=_number(fields, "threads"),
        max_threads=_number(fields, "max_threads"),
        idle_s=_number(fields, "idle_secs"),
        warn_s=_number(fields, "warn_secs"),
        adopted=_number(fields, "adopted"),
        partial=_number(fields, "partial"),
        passed=_number(fields, "passed"),
        store_silent_s=_seconds(fields, "store_ms"),
    )


def _xenwatch(fields: _Fields) -> Xenwatch:
    return Xenwatch(
        pid=_number(fields, "pid"),
        silent_s=_seconds(fields, "probe_ms"),
        domid=_number(fields, "domid"),
        events=_number(fields, "events"),
        doing=_doing(fields),
        longest=_longest(fields),
    )


def _share(fields: _Fields) -> Share:
    return Share(
        domid=_number(fields, "domid"),
        pid=_number(fields, "pid"),
        phase=fields.get("state"),
        by=fields.get("by"),
        depth=_number(fields, "depth"),
        max_depth=_number(fields, "max_depth"),
        queued=_number(fields, "queued"),
        done=_number(fields, "done"),
        merged=_number(fields, "merged"),
        flushed=_number(fields, "flushed"),
        rescans=_number(fields, "rescans"),
        wait_s=_seconds(fields, "wait_ms"),
        doing=_doing(fields),
        longest=_longest(fields),
    )


def _doing(fields: _Fields) -> Doing | None:
    callback, age = fields.get("callback"), _seconds(fields, "age_ms")
    if callback is None or age is None:
        return None
    return Doing(callback, fields.get("path"), age, _number(fields, "depth"))


def _longest(fields: _Fields) -> Longest | None:
    callback = fields.get("longest_callback")
    if callback is None:
        return None
    return Longest(callback, fields.get("longest_path"), _seconds(fields, "longest_ms"))


def _number(fields: _Fields, key: str) -> int | None:
    text = fields.get(key, "")
    usable = text.isascii() and text.isdigit() and len(text) <= _DIGITS
    return int(text) if usable else None


def _seconds(fields: _Fields, key: str) -> float | None:
    milliseconds = _number(fields, key)
    return None if milliseconds is None else milliseconds / 1000
