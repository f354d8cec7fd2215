# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the calls of toolstacks mean."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.errors import UsageError
from xlmt.nodes.toolstacks import XML_LIMIT, Event, domid_in, hotplug, libvirt, xapi
from xlmt.paths import DOMID_FIRST, DOMID_LAST

XML = b"<domain type='xen' id='7'>\n  <name>web</name>\n</domain>\n"
VM = "e30d0050-8f15-e10d-7613-cb2d045c8505"

words = st.text(max_size=20) | st.sampled_from(["-vmdomid", "-vmuuid", "7", VM, "started", "begin"])


def is_sound(event: Event | None) -> bool:
    return event is None or event.domid is None or DOMID_FIRST <= event.domid <= DOMID_LAST


# --- libvirt -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "suboperation"),
    [("started", "begin"), ("reconnect", "begin"), ("stopped", "end"), ("release", "end")],
)
def test_libvirt_tells_of_a_domid(operation: str, suboperation: str) -> None:
    assert libvirt(["web", operation, suboperation, "-"], XML) == Event(7)
    assert libvirt(["web", operation, suboperation], XML) == Event(7)


@pytest.mark.parametrize(
    ("operation", "suboperation"),
    [
        ("prepare", "begin"),
        ("start", "begin"),
        ("migrate", "begin"),
        ("restore", "begin"),
        ("started", "end"),
        ("", ""),
    ],
)
def test_other_operations_of_libvirt_are_nothing_to_us(operation: str, suboperation: str) -> None:
    assert libvirt(["web", operation, suboperation, "-"], XML) is None


def test_a_guest_may_be_called_like_an_operation() -> None:
    assert libvirt(["started", "prepare", "begin", "-"], XML) is None


def test_without_a_domid_in_the_xml_it_may_be_any() -> None:
    assert libvirt(["web", "release", "end", "-"], b"<domain type='xen'></domain>") == Event()


@pytest.mark.parametrize("arguments", [[], ["web"], ["web", "started"], ["w"] * 5])
def test_another_number_of_arguments_is_not_libvirts(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        libvirt(arguments, XML)


@pytest.mark.parametrize(
    "xml",
    [
        b"<domain id='7'/>",
        b"<?xml version='1.0' encoding='UTF-8'?>\n<!-- x --><domain\n id=\"7\" type='xen'>",
        b"<?xml version='1.0' encoding='EBCDIC-CP-US'?><domain id='7'/>",  # it is UTF-8 by now
        "<domain id='7'><name>grün</name>".encode(),
        b"<domain id='7'><name>\xff\xfe</name></domain>",
        b"<domain id='7'><metadata>&undefined;",
        b"<domain id='7'>" + b"<x/>" * 100_000,
    ],
)
def test_the_first_tag_is_enough(xml: bytes) -> None:
    assert domid_in(xml) == 7


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"\0",
        b"\xff\xfe<\0d\0",
        b"domain id='7'",
        b"<domain id='7'",
        b"<domain id=7>",
        b"<domain>",
        b"<domain id=''/>",
        b"<domain id='-1'/>",
        b"<domain id='0'/>",
        b"<domain id='007'/>",
        b"<domain id='32752'/>",
        "<domain id='७'/>".encode(),
        b"<network id='7'/>",
        b"<x><domain id='7'/></x>",
        b"<domain xmlns='urn:x' id='7'/>",
        b"<domain id='&a;'/>",
        b" " * XML_LIMIT + XML,
    ],
)
def test_xml_without_a_domid_of_a_guest_has_none(xml: bytes) -> None:
    assert domid_in(xml) is None


def test_a_document_type_is_not_looked_into() -> None:
    lots = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 20))
    bomb = f'<!DOCTYPE domain [<!ENTITY a0 "7">{lots}]><domain id="&a19;"/>'
    assert domid_in(bomb.encode()) is None
    assert domid_in(b'<!DOCTYPE domain [<!ENTITY a "7">]><domain id="&a;"/>') is None


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda b: XML[:40] + b + XML[40:]))
def test_no_input_is_too_bad(xml: bytes) -> None:
    assert is_sound(Event(domid_in(xml)))


# --- xapi ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    ["vm-pre-shutdown", "vm-post-destroy", "vm-pre-resume", "vm-post-resume", "vm-post-migrate"],
)
def test_xapi_tells_of_a_domid(event: str) -> None:
    assert xapi([event, "-vmuuid", VM, "-reason", "none", "-vmdomid", "7"]) == Event(7)
    assert xapi([event, "-vmdomid", "7", "-vmuuid", VM, "-reason", "none"]) == Event(7)
    assert xapi([event, "-vmuuid", VM, "-reason", "clean-shutdown"]) == Event()


@pytest.mark.parametrize("event", ["vm-pre-start", "vm-pre-reboot"])
def test_before_a_start_xapi_tells_of_a_domain_that_is_to_come(event: str) -> None:
    assert xapi([event, "-vmuuid", VM, "-reason", "none"]) == Event(to_come=VM)
    assert xapi([event, "-vmuuid", VM.upper()]) == Event(to_come=VM)
    assert xapi([event, "-vmuuid", "web", "-reason", "none"]) == Event()


@pytest.mark.parametrize("event", ["vm-pre-migrate", "vm-pre-suspend", "pool-join", ".", ""])
def test_other_folders_of_xapi_are_nothing_to_us(event: str) -> None:
    assert xapi([event, "-vmuuid", VM, "-reason", "source", "-vmdomid", "7"]) is None


def test_an_odd_number_of_arguments_does_no_harm() -> None:
    assert xapi(["vm-post-destroy", "-vmuuid"]) == Event()
    assert xapi(["vm-pre-start"]) == Event()


def test_xapi_has_to_name_the_event() -> None:
    with pytest.raises(UsageError):
        xapi([])


# --- hotplug scripts -----------------------------------------------------------------------


@pytest.mark.parametrize("action", ["add", "online", "remove", "offline"])
@pytest.mark.parametrize(
    "path", ["backend/vif/7/0", "/local/domain/0/backend/vbd/7/51712", "backend/vif/7"]
)
def test_a_hotplug_script_tells_of_a_domid(action: str, path: str) -> None:
    assert hotplug([action], path) == Event(7)
    assert hotplug([action, "type_if=vif"], path) == Event(7)


def test_other_actions_are_nothing_to_us() -> None:
    assert hotplug(["move"], "backend/vif/7/0") is None


def test_domain_0_has_no_node_to_look_at() -> None:
    assert hotplug(["add"], "backend/vbd/0/51712") is None


@pytest.mark.parametrize(
    "path", ["", "/", "backend", "backend/vif", "vif/7/0", "x/backend/vif/7/0"]
)
def test_without_a_path_it_may_be_any(path: str) -> None:
    assert hotplug(["add"], path) == Event()


def test_a_hotplug_script_has_to_name_an_action() -> None:
    with pytest.raises(UsageError):
        hotplug([], "backend/vif/7/0")


# --- anything ------------------------------------------------------------------------------


@given(st.lists(words, max_size=9), st.binary(max_size=50), st.text(max_size=40))
def test_no_call_is_too_bad(arguments: list[str], xml: bytes, path: str) -> None:
    calls: list[Callable[[], Event | None]] = [
        lambda: libvirt(arguments, xml),
        lambda: xapi(["vm-post-destroy", *arguments]),
        lambda: xapi(arguments),
        lambda: hotplug(["add", *arguments], path),
        lambda: hotplug(["add"], f"backend/{path}/{path}"),
    ]
    for call in calls:
        try:
            assert is_sound(call())
        except UsageError:
            continue
