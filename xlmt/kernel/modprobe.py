# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes to modprobe(8) and what comes back, in words that help. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence

from xlmt import built, paths
from xlmt.errors import NoXenError, UsageError, XlmtError
from xlmt.kernel.status import MODULE

#: The module's parameters, and what the kernel takes for each: xen_mtwatch(4).
PARAMETERS = {
    "mode": re.compile(r"node|auto|both"),
    "enabled": re.compile(r"[01]"),
    "warn_secs": re.compile(r"\d{1,9}"),
    "idle_secs": re.compile(r"\d{1,9}"),
    "max_threads": re.compile(r"[1-9]\d{0,8}"),
    "max_active": re.compile(r"\d{1,9}"),
}

#: More than this xenstored does not put into one reply, and the kernel asks for no second part.
_REPLY_BYTES = 4096

#: How to get the module for the kernel that runs.
_BUILDS = {
    "pip": "build it, in xlmt's sources: make -C kernel modules modules_install && depmod -a; or "
    "by DKMS, for kernels to come as well: see docs/install.md",
    "apt": "apt install xen-mtwatch-dkms linux-headers-$(uname -r)",
}
BUILD = _BUILDS[built.INSTALLED_BY]
_MOK = (
    "Secure Boot takes signed modules only: enrol the key that DKMS signs with, by mokutil "
    "--import /var/lib/dkms/mok.pub and a reboot; see xen_mtwatch(4)"
)
_NO_MORE = "sysctl kernel.modules_disabled is 1, so that no module can be loaded before a reboot"
_FTRACE = "a live patch has the same functions, or ftrace is off (sysctl kernel.ftrace_enabled=1)"
_BUSY = f"{_FTRACE}, or this kernel has the xenwatch multithreading patch of 2018 built in"
_NOT_DOM0 = "this is not domain 0 of a Xen host"
_RIVAL = "this kernel has the xenwatch multithreading patch of 2018 built in, and needs no module"
_UNKNOWN = "it does not support this kernel: try a newer xlmt"
#: What the module itself says, in the kernel's log, and what modprobe says, and what that means.
#: The first that is found counts: the module knows better.
_REASONS = (
    (
        "which only a reboot mends",
        "ftrace has given up after a bug of its own, which only a reboot mends",
    ),
    ("memory is short", "memory is short: try again"),
    ("refused by ftrace", _FTRACE),
    ("this is for dom0", _NOT_DOM0),
    ("has threads for domains already", _RIVAL),
    ("not where they are expected", _UNKNOWN),
    ("not found in directory", f"it is not built for this kernel: {BUILD}"),
    ("Exec format error", f"it was built for another kernel: {BUILD}"),
    ("Unknown symbol", f"it was built for another kernel: {BUILD}"),
    ("Key was rejected", f"its signature is not trusted; {_MOK}"),
    ("Required key not available", f"its signature is not trusted; {_MOK}"),
    ("Operation not permitted", f"{_NO_MORE}, or the kernel is locked down: {_MOK}"),
    ("Device or resource busy", _BUSY),
    ("No such device", _NOT_DOM0),
    ("Invalid argument", "it does not accept these parameters"),
)


def settings(arguments: Sequence[str]) -> dict[str, str]:
    """Return the KEY=VALUE arguments as parameters of the module.

    Raises UsageError for what the module would not take: the kernel itself only mumbles about a
    parameter that it does not know, and loads the module without it.
    """
    found = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in PARAMETERS:
            known = ", ".join(PARAMETERS)
            raise UsageError(f"{argument} sets no parameter of {MODULE}; these are: {known}")
        if not PARAMETERS[key].fullmatch(value) or not value.isascii():
            takes = "node, auto or both" if key == "mode" else "0 or 1"
            number = "a number" if key not in {"mode", "enabled"} else takes
            raise UsageError(f"{key} takes {number}, not {value or 'nothing'}")
        found[key] = value
    return found


def hint(nodes: Iterable[str]) -> dict[str, str]:
    """Return what the module is told of the nodes, by their names, when it is loaded.

    It lists them itself unless they are too many for that: then it would ask for every domid.
    """
    names = list(nodes)
    domids = sorted({domid for name in names if (domid := paths.parse_domid(name))})
    if sum(len(name) + 1 for name in names) <= _REPLY_BYTES or not domids:
        return {}
    return {"domids": ",".join(_ranges(domids))}


def _ranges(numbers: Sequence[int]) -> Iterable[str]:
    """Return 1-3 and 7 for 1, 2, 3, 7: ascending, as the kernel reads a list."""
    first = last = numbers[0]
    for number in [*numbers[1:], None]:
        if number == last + 1:
            last = number
            continue
        yield str(first) if first == last else f"{first}-{last}"
        if number is not None:
            first = last = number


def refusal(said: str, kernel_said: str | None) -> XlmtError:
    """Return why modprobe could not load the module, from its words and the kernel's last ones."""
    words = f"{kernel_said}\n{said}"
    reason = next((reason for sign, reason in _REASONS if sign in words), None)
    lines = [line.removeprefix("modprobe: ") for line in said.splitlines() if line.strip()]
    why = reason or (lines[-1] if lines else "modprobe does not say why")
    kernel = f' (the kernel says: "{kernel_said}")' if kernel_said else ""
    kind = NoXenError if reason == _NOT_DOM0 else XlmtError
    return kind(f"cannot load {MODULE}: {why}{kernel}")


def hang(stack: str, pid: int) -> str:
    """Return why modprobe does not end, from where it is in the kernel.

    Whoever ends a tracer has ftrace locked until no task can be in it any more (RCU-tasks), which a
    thread of netback's that spins keeps from coming; and no module is loaded meanwhile.
    """
    if "ftrace_" not in stack:
        return f"it is blocked in the kernel: cat /proc/{pid}/stack"
    return (
        "ftrace is locked: somebody has ended a tracer, which waits for a thread that spins, as "
        "netback's does while a guest's packets are held. It goes on by itself once these are "
        "released: xlmt doctor says by whom they are held. Leave tracers alone until then"
    )


def message(record: bytes) -> str | None:
    """Return what is said of the module in a record of /dev/kmsg; None when it is of no help.

    That loading it taints the kernel is no reason for anything.
    """
    text = record.partition(b";")[2].partition(b"\n")[0].decode(errors="replace")
    said = text.removeprefix(f"{MODULE}: ").strip()
    ours = text.startswith(f"{MODULE}: ") and not re.search(r"taint(s|ing) kernel", said)
    return said if ours and said else None


def command(parameters: Mapping[str, str]) -> list[str]:
    """Return how modprobe is to be called.

    With --first-time it says when somebody else was faster, whose parameters count then.
    """
    assigned = [f"{key}={value}" for key, value in parameters.items()]
    return ["modprobe", "--first-time", MODULE, *assigned]
