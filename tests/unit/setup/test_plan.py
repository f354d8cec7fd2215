# SPDX-License-Identifier: LGPL-2.1-or-later
"""What fits a host: what it has decides, what is somebody else's stays."""

import pytest

from xlmt.kernel import modprobe
from xlmt.setup import plan, shipped
from xlmt.setup.model import Enable, Host, Load, Plan, Put

SHIPPED = shipped.read()
UNIT = f"{plan.UNITS}/{plan.SUPERVISOR}"
LIBVIRTD = f"{plan.UNITS}/libvirtd.service.d/xlmt.conf"
FULL = Host(
    systemd=True,
    units=frozenset({"libvirtd.service", "xendomains.service"}),
    files={plan.XL: b"#!"},
    folders=frozenset({plan.LIBVIRT, "/etc/cron.d"}),
    module=True,
    dom0=True,
)


def planned(host: Host, ours: dict[str, bytes] | None = None) -> Plan:
    return plan.plan(host, SHIPPED, ours or {})


def installs(found: Plan) -> list[str]:
    return [step.path for step in found.steps if isinstance(step, Put)]


def after(host: Host, found: Plan) -> Host:
    """The host once all steps are done."""
    files = {step.path: step.content for step in found.steps if isinstance(step, Put)}
    enabled = {step.unit for step in found.steps if isinstance(step, Enable)}
    return host._replace(
        files={**host.files, **files},
        enabled=host.enabled | enabled,
        units=host.units | enabled,
        at_work=any(isinstance(step, Load) for step in found.steps) or host.at_work,
    )


def test_a_host_with_all_of_it() -> None:
    found = planned(FULL)
    assert installs(found) == [
        plan.MODULES,
        UNIT,
        plan.UNDER_HOOK,
        LIBVIRTD,
        f"{plan.UNITS}/xendomains.service.d/xlmt.conf",
        plan.SHIM,
        plan.LIBVIRT_HOOK,
    ]
    assert found.left_out == ()
    assert found.afterwards == (
        "for guests of libvirtd: systemctl restart libvirtd.service (guests stay up)",
    )


def test_the_supervisor_is_enabled_after_its_unit_is_there() -> None:
    steps = planned(FULL).steps
    order = [step.path if isinstance(step, Put) else type(step) for step in steps]
    assert order.index(UNIT) < order.index(Enable)


@pytest.mark.parametrize("host", [FULL, FULL._replace(systemd=False, units=frozenset()), Host()])
def test_once_is_enough(host: Host) -> None:
    found = planned(host)
    again = planned(after(host, found))
    assert again.steps == ()
    assert len(again.there) >= len(found.steps)


def test_a_unit_of_a_package_is_not_installed_once_more() -> None:
    packaged = FULL._replace(units=FULL.units | {plan.SUPERVISOR})
    assert UNIT not in installs(planned(packaged))


def test_a_package_has_the_wrapper_at_a_place_of_its_own() -> None:
    elsewhere = {
        name: text.replace(plan.UNDER_HOOK.encode(), b"/usr/libexec/xlmt/under-hook")
        for name, text in SHIPPED.items()
    }
    assert plan.UNDER_HOOK not in installs(plan.plan(FULL, elsewhere, {}))


@pytest.mark.parametrize("path", [plan.SHIM, LIBVIRTD, plan.MODULES])
def test_what_is_somebody_elses_stays(path: str) -> None:
    theirs = FULL._replace(files={**FULL.files, path: b"mine"})
    found = planned(theirs)
    assert path not in installs(found)
    assert [left.what for left in found.left_out] == [path]
    assert path in installs(planned(theirs, {path: b"mine"}))  # of an earlier release of ours


def test_without_systemd_cron_does_what_it_can() -> None:
    found = planned(FULL._replace(systemd=False, units=frozenset()))
    assert installs(found) == [plan.MODULES, plan.CRON, plan.UNDER_HOOK, plan.SHIM]


@pytest.mark.parametrize(
    ("host", "what"),
    [
        (FULL._replace(module=False), "the kernel half"),
        (FULL._replace(secure_boot=True), "loading the module now"),
        (FULL._replace(dom0=False), "loading the module now"),
        (Host(), "the supervisor"),
    ],
)
def test_what_cannot_be_done_is_said_with_why(host: Host, what: str) -> None:
    left = {left.what: left.why for left in planned(host).left_out}
    assert left[what]


def test_a_host_that_is_to_run_xen_is_set_up_for_its_next_boot() -> None:
    """Loading the module there would fail; it is no step, so that nothing fails."""
    found = planned(FULL._replace(dom0=False))
    assert not any(isinstance(step, Load) for step in found.steps)
    assert plan.MODULES in installs(found)
    assert "next boot under Xen" in dict(found.left_out)["loading the module now"]


def test_how_to_get_the_module_for_this_kernel_is_said() -> None:
    (left,) = planned(FULL._replace(module=False)).left_out
    assert left.why.endswith(f": {modprobe.BUILD}")


def test_a_kernel_half_that_is_built_in_needs_no_module() -> None:
    found = planned(FULL._replace(module=False, at_work=True))
    assert plan.MODULES not in installs(found)
    assert found.left_out == ()
