# SPDX-License-Identifier: LGPL-2.1-or-later
"""What fits a host, by one look at it. Pure.

Names of units, folders and scripts: hooks/*/README, and xlmt-hook(8).
"""

from collections.abc import Iterator, Mapping

from xlmt import built
from xlmt.kernel import modprobe
from xlmt.setup.model import Enable, Host, LeftOut, Load, Plan, Put, Step

SUPERVISOR = "xlmt-supervise.service"
UNDER_HOOK = f"{built.LIBEXEC}/under-hook"
CRON = "/etc/cron.d/xlmt"
SHIM = "/usr/local/sbin/xl"
XL = "/usr/sbin/xl"
MODULES = "/etc/modules-load.d/xen_mtwatch.conf"
UNITS = "/etc/systemd/system"
#: Services whose programs use libxl, and whether a restart of them leaves guests alone.
UNDER = {"libvirtd.service": True, "virtxend.service": True, "xendomains.service": False}
LIBVIRT = "/etc/libvirt"
LIBVIRT_HOOK = f"{LIBVIRT}/hooks/libxl.d/50-xlmt"
#: Of what is shipped, what setup may install.
SHIPPED = (
    "hooks/systemd/xlmt-supervise.service",
    "hooks/cron/xlmt",
    "hooks/xl/under-hook",
    "hooks/xl/xl",
    *(f"hooks/xl/{unit}.conf" for unit in ("libvirtd", "virtxend", "xendomains")),
    "hooks/libvirt/50-xlmt",
    "kernel/modules-load.conf",
)
Shipped = Mapping[str, bytes]


def plan(host: Host, shipped: Shipped, ours: Mapping[str, bytes]) -> Plan:
    """Return what is to be done. `ours` are the contents that an earlier setup has installed."""
    left_out: list[LeftOut] = []
    steps: list[Step] = []
    there: list[Step] = []
    for step in _wanted(host, shipped, left_out):
        if _is_there(step, host):
            there.append(step)
        elif isinstance(step, Put) and _is_somebody_elses(step, host, ours):
            left_out.append(LeftOut(step.path, "is there already, with other contents"))
        else:
            steps.append(step)
    changed = {step.path for step in steps if isinstance(step, Put)}
    return Plan(tuple(steps), tuple(there), tuple(left_out), tuple(_afterwards(changed)))


def paths() -> tuple[str, ...]:
    """Return the files that a plan may ask about."""
    drop_ins = (_drop_in(unit) for unit in UNDER)
    own = f"{UNITS}/{SUPERVISOR}"
    return (UNDER_HOOK, CRON, SHIM, XL, MODULES, LIBVIRT_HOOK, own, *drop_ins)


def _drop_in(unit: str) -> str:
    return f"{UNITS}/{unit}.d/xlmt.conf"


def _name(unit: str) -> str:
    return unit.removesuffix(".service")


def _is_there(step: Step, host: Host) -> bool:
    match step:
        case Put(path, content):
            return host.files.get(path) == content
        case Enable(unit):
            return unit in host.enabled
    return host.at_work


def _is_somebody_elses(step: Put, host: Host, ours: Mapping[str, bytes]) -> bool:
    there = host.files.get(step.path)
    return there is not None and there != ours.get(step.path)


def _wanted(host: Host, shipped: Shipped, left_out: list[LeftOut]) -> Iterator[Step]:
    yield from _kernel_half(host, shipped, left_out)
    yield from _supervisor(host, shipped, left_out)
    yield from _toolstacks(host, shipped, left_out)


def _kernel_half(host: Host, shipped: Shipped, left_out: list[LeftOut]) -> Iterator[Step]:
    if host.at_work and not host.module:  # built in: there is nothing to be loaded
        return
    if not host.module:
        left_out.append(
            LeftOut(
                "the kernel half",
                "there is no module xen_mtwatch for this kernel, and without it one guest can "
                f"stall all: {modprobe.BUILD}",
            )
        )
        return
    yield Put(MODULES, shipped["kernel/modules-load.conf"], "the kernel half is there at boot")
    if why := _no_load(host):
        left_out.append(LeftOut("loading the module now", why))
        return
    yield Load("one stalled guest does not stop the others")


def _no_load(host: Host) -> str | None:
    """Return why a module that is there cannot be loaded now."""
    if host.at_work:
        return None
    if not host.dom0:
        return "this is not domain 0 of a Xen that runs; from the next boot under Xen on it is"
    if host.secure_boot:
        return "with Secure Boot it has to be signed, see xen_mtwatch(4); then: xlmt kernel load"
    return None


def _supervisor(host: Host, shipped: Shipped, left_out: list[LeftOut]) -> Iterator[Step]:
    if host.systemd:
        if SUPERVISOR not in host.units or host.files.get(f"{UNITS}/{SUPERVISOR}") is not None:
            unit = shipped["hooks/systemd/xlmt-supervise.service"]
            yield Put(f"{UNITS}/{SUPERVISOR}", unit, "the supervisor as a service")
        yield Enable(SUPERVISOR, "every guest has its node, and managed guests are restarted")
    elif "/etc/cron.d" in host.folders:
        yield Put(CRON, shipped["hooks/cron/xlmt"], "nodes are put right once a minute")
    else:
        left_out.append(
            LeftOut("the supervisor", "neither systemd nor cron is here; start: xlmt supervise")
        )


def _toolstacks(host: Host, shipped: Shipped, left_out: list[LeftOut]) -> Iterator[Step]:
    found = [unit for unit in UNDER if unit in host.units]
    shim = host.files.get(XL) is not None
    files = {_drop_in(unit): shipped[f"hooks/xl/{_name(unit)}.conf"] for unit in found}
    texts = [*files.values(), *([shipped["hooks/xl/xl"]] if shim else [])]
    if any(UNDER_HOOK.encode() in text for text in texts):  # a package has it elsewhere
        why = "runs a program with the interposer, or without it if xlmt is gone"
        yield Put(UNDER_HOOK, shipped["hooks/xl/under-hook"], why, 0o755)
    for unit, (path, text) in zip(found, files.items(), strict=True):
        yield Put(path, text, f"guests of {_name(unit)} get their nodes")
    if shim:
        yield Put(SHIM, shipped["hooks/xl/xl"], "guests of xl get their nodes", 0o755)
    if LIBVIRT in host.folders and {"libvirtd.service", "virtxend.service"} & set(found):
        hook = shipped["hooks/libvirt/50-xlmt"]
        yield Put(LIBVIRT_HOOK, hook, "libvirt tells of its guests", 0o755)
    if "/etc/xapi.d" in host.folders:
        left_out.append(LeftOut("xapi's hooks", "they are for you to link: hooks/xapi/README"))


def _afterwards(changed: set[str]) -> Iterator[str]:
    for unit, harmless in UNDER.items():
        if harmless and _drop_in(unit) in changed:
            yield f"for guests of {_name(unit)}: systemctl restart {unit} (guests stay up)"
