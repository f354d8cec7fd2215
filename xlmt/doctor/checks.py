# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a host has to have, beside a xenwatch that goes on: looked at one by one.

Each check is asked by bounded.py, in a process of its own. It may take its time, and may fail.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xlmt import files, paths
from xlmt.doctor.model import Check, Domains, State, Zombie
from xlmt.errors import XenstoreError, XenstoreUnreachableError, XlmtError
from xlmt.kernel import places, rescue
from xlmt.text import duration, printable
from xlmt.text import guest as called
from xlmt.xenstore import Store

if TYPE_CHECKING:
    from xlmt.libxl import Context
    from xlmt.model import Domain
    from xlmt.nodes.model import Plan
    from xlmt.nodes.reconcile import Pass


#: So many devices are looked at; a host that has more has the same trouble with these.
_MOST_DEVICES = 1000
_LOOK_S = 2.0
_HUNG_TASKS = "proc/sys/kernel/hung_task_timeout_secs"
_PERSISTENT = "sys/module/xen_blkback/parameters/feature_persistent"
_DRIVERS = {"vif": "xen-netback", "vbd": "xen-blkback"}


def ok(name: str, status: str) -> Check:
    return Check(name, State.OK, status)


def problem(name: str, status: str, *actions: str) -> Check:
    return Check(name, State.PROBLEM, status, actions)


def skipped(name: str, why: str) -> Check:
    return Check(name, State.SKIPPED, why)


# --- xenstored -----------------------------------------------------------------------------


def xenstored() -> Check:
    """Whether it answers us. The kernel has a connection of its own."""
    if os.geteuid() != 0:
        return skipped("xenstored", "only root may ask it")
    try:
        with Store(timeout=3.0) as store:
            store.ping()
    except XenstoreUnreachableError as e:
        return silent(str(e))
    return ok("xenstored", "xenstored answers")


def silent(why: str) -> Check:
    """Return that it does not answer."""
    return problem(
        "xenstored",
        f"xenstored does not answer: {printable(why, 300)}",
        "ps -C xenstored,oxenstored -o pid,stat,time,args",
    )


def hotplug() -> Check:
    """Whether a device of a guest waits for its hotplug script, which has failed.

    libxl removes those of a creation that failed; others are there until somebody does.
    """
    with Store(timeout=2.0) as store:
        failed = [*_failed(store)]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return problem(
            "hotplug",
            f"{failed[0]}{more}",
            "tail /var/log/xen/xen-hotplug.log",
        )
    return ok("hotplug", "no hotplug script has failed")


def _failed(store: Store) -> Iterator[str]:
    left = _MOST_DEVICES
    for kind in ("vif", "vbd"):
        root = f"{paths.domain(0)}/backend/{kind}"
        for domid in store.list(root) or ():
            for device in store.list(f"{root}/{domid}") or ():
                left -= 1
                if left < 0:
                    return
                with suppress(XenstoreError):
                    if said := store.read(f"{root}/{domid}/{device}/hotplug-error"):
                        yield f"the hotplug script of {kind}-{domid}-{device} failed: " + printable(
                            said, 200
                        )


# --- the kernel ----------------------------------------------------------------------------


def drivers() -> Check:
    """Whether the kernel has the backends: without, "unable to add device" is all that is said.

    They load themselves when the first device comes, where udev is there and finds them: by the
    alias xen-backend:vif, xen-backend:vbd.
    """
    folder = places.backends().parent / "drivers"
    absent = {kind: module for kind, module in _DRIVERS.items() if not (folder / kind).exists()}
    by_udev = (places.ROOT / "run/udev/control").exists()
    missing = [module for kind, module in absent.items() if not (by_udev and _is_found(kind))]
    if missing:
        names = " and ".join(missing)
        return problem(
            "drivers",
            f"{names} not loaded: a guest that needs it cannot be created "
            "(libxl says: unable to add device)",
            f"modprobe -a {' '.join(missing)}",
        )
    if absent:
        return ok("drivers", "the backends are loaded when they are needed")
    return ok("drivers", "the backends of network cards and disks are loaded")


def _is_found(kind: str) -> bool:
    modprobe = files.program("modprobe")
    words = [modprobe or "modprobe", "-nq", f"xen-backend:{kind}"]
    with suppress(OSError):
        return not subprocess.run(words, capture_output=True, check=False).returncode
    return False


def hung_tasks() -> Check:
    """Whether the kernel itself tells of a stall."""
    try:
        seconds = int((places.ROOT / _HUNG_TASKS).read_text())
    except FileNotFoundError:
        return skipped("hung tasks", "this kernel has no hung task detector")
    if seconds:
        return ok("hung tasks", f"the kernel's log tells of tasks that hang for {seconds} s")
    return ok("hung tasks", "the kernel's hung task detector is switched off")


def persistent_grants() -> Check:
    """Whether blkback keeps pages of guests mapped, for which a teardown may have to wait."""
    try:
        value = (places.ROOT / _PERSISTENT).read_text().strip()
    except FileNotFoundError:
        return skipped("persistent grants", "xen-blkback is not loaded, or is older than 6.0")
    state = "offered to" if value == "Y" else "kept from"
    return ok("persistent grants", f"persistent grants are {state} guests' disks")


def guard() -> Check:
    """Whether those who are to be guarded are."""
    from xlmt.guard import look, render  # noqa: PLC0415 - as in interposer()
    from xlmt.supervise import presence  # noqa: PLC0415

    view = look.look(presence.pid())
    if wrong := render.problem(view):
        return problem("guard", wrong, "xlmt guard")
    guarded = sum(row.guarded for row in view.rows)
    return ok("guard", f"{guarded} of {len(view.rows)} guests' interfaces are guarded")


def rescued() -> Check:
    """Whether the supervisor has loaded the module by itself since this host was booted."""
    attempt = rescue.last()
    if attempt is None:
        return ok("rescue", "the supervisor had no reason to load the module by itself")
    when = f"{printable(attempt.at)}, after xenwatch was stuck for {duration(attempt.stalled_s)}"
    if attempt.result is rescue.Result.FAILED:
        why = printable(attempt.reason or "", 300)
        return problem("rescue", f"the supervisor could not load the module {when}: {why}", "dmesg")
    return ok("rescue", f"the supervisor has loaded the module {when}")


# --- processes -----------------------------------------------------------------------------


def interposer() -> Check:
    """Whether programs that may create guests without a node are running."""
    from xlmt.domains import xl  # noqa: PLC0415 - is asked for in a process of its own

    ours = {xl.preload_library().name}
    without = [*_without(ours)]
    if without:
        name, pid = without[0]
        more = f", and {len(without) - 1} more" if len(without) > 1 else ""
        return problem(
            "interposer",
            f"{printable(name)} (pid {pid}){more} runs without xlmt's library: a guest that it "
            "creates has no node before xlmt reconcile",
            "man 7 xlmt-hooks",
        )
    return ok("interposer", "every program that uses libxl keeps the contract")


def _without(ours: set[str]) -> Iterator[tuple[str, int]]:
    """Yield who has libxl without our library. Its own Python extension has it built in."""
    for process in places.each_process():
        with suppress(OSError):
            names = {
                line.rpartition("/")[2].rstrip()
                for line in (process / "maps").read_text(errors="replace").splitlines()
                if "/" in line
            }
            uses = any(name.startswith("libxenlight.so") for name in names)
            if uses and not names & ours and not any("_libxl." in name for name in names):
                yield (process / "comm").read_text(errors="replace").strip(), int(process.name)


# --- domains -------------------------------------------------------------------------------


def domains() -> Domains:
    """Judge the nodes, look who looks after managed guests, and who is destroyed but there."""
    from xlmt.domains import managed  # noqa: PLC0415 - needs libxl, in a process of its own
    from xlmt.nodes import reconcile  # noqa: PLC0415
    from xlmt.session import opened  # noqa: PLC0415

    with opened("the look") as (store, ctx):
        nodes = reconcile.begin(store, ctx)
        seen = nodes.seen
        alone = [d.domid for d in (seen.domains or {}).values() if managed.is_managed(d)]
        dying = _dying(ctx, seen.domains or {})
        told = _lasting(nodes)
    backends = seen.backends or {}
    zombies = tuple(
        Zombie(d.domid, d.memory_kb, backends.get(d.domid, ()), tuple(_emulators(d.domid)))
        for d in dying
    )
    return Domains((told, _supervisor(alone, seen.names)), zombies)


def _dying(ctx: "Context", domains: Mapping[int, "Domain"]) -> list["Domain"]:
    """Return those that are destroyed and there, by two looks at them; by one if there is no other.

    The memory of one that is only large is given back bit by bit meanwhile.
    """
    dying = [domain for domain in domains.values() if domain.dying]
    if not dying:
        return []
    time.sleep(_LOOK_S)
    now = domains
    with suppress(XlmtError):
        now = ctx.domains()
    return [domain for domain in dying if now.get(domain.domid) == domain]


def _lasting(nodes: "Pass") -> Check:
    try:
        return _nodes(nodes.lasting().plan)
    except XlmtError as e:
        return skipped("nodes", printable(str(e), 200))


def _nodes(plan: "Plan") -> Check:
    if not plan.complete:
        return skipped("nodes", "; ".join(printable(text, 200) for text in plan.problems))
    if plan.actions:
        first = plan.actions[0]
        more = f", and {len(plan.actions) - 1} more" if len(plan.actions) > 1 else ""
        return problem(
            "nodes",
            f"{first.verb} node {printable(first.node)}: {printable(first.reason, 200)}{more}",
            "xlmt reconcile",
        )
    return ok("nodes", "every guest has its node, and no node is left over")


def _supervisor(managed_: list[int], names: Mapping[int, str]) -> Check:
    from xlmt.supervise import presence  # noqa: PLC0415

    pid = presence.pid()
    if pid is not None:
        return ok("supervisor", f"the supervisor is running (pid {pid})")
    if not managed_:
        return ok("supervisor", "no supervisor is running, and no guest needs one")
    more = f" and {len(managed_) - 1} more" if len(managed_) > 1 else ""
    return problem(
        "supervisor",
        f"no supervisor is running for {called(names.get(managed_[0]), managed_[0])}{more}: "
        "they are not restarted",
        "xlmt supervise",
    )


def _emulators(domid: int) -> Iterator[str]:
    """Yield the programs that have been started for a domain, and may have its memory mapped."""
    for process in places.each_process():
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if (
                b"-xen-domid" in words[:-1]
                and words[words.index(b"-xen-domid") + 1] == str(domid).encode()
            ):
                name = Path(os.fsdecode(words[0])).name
                yield f"{name} (pid {process.name})"
