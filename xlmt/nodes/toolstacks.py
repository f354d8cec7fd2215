# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a toolstack means when it calls a hook: which domid, if any, is to be looked at. Pure.

Nothing here is trusted: it only narrows down where to look, and what is done there is decided by
what the host itself says. So an answer that is wrong costs a look, and no node.

The calls were read in libvirt (docs/hooks.rst, src/libxl/libxl_domain.c; there for Xen since 2.1.0)
and in xen-api v26.17.0 (ocaml/xenopsd/lib/xenops_hooks.ml, xenops_server.ml), and seen in libvirt
9.0.0 and, those of hotplug scripts, in libxl 4.17.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID
from xml.parsers import expat

from xlmt import paths
from xlmt.errors import UsageError

#: A domain's first tag is all that we want of its XML; libvirt's whole documents are 10 KB.
XML_LIMIT = 64 * 1024

#: Operations and suboperations of libvirt.
LIBVIRT = {("started", "begin"), ("reconnect", "begin"), ("stopped", "end"), ("release", "end")}
#: Folders of /etc/xapi.d. There is none for a domain that was just made by a start or a reboot:
#: what runs before that is told of the VM only.
XAPI_TO_COME = {"vm-pre-start", "vm-pre-reboot"}
XAPI_THERE = {
    "vm-pre-shutdown",
    "vm-post-destroy",
    "vm-pre-resume",
    "vm-post-resume",
    "vm-post-migrate",
}
_HOTPLUG = {"add", "online", "remove", "offline"}
#: libxl gives it relative to the home of the backend's domain; all of it means the same.
_BACKEND = re.compile(r"(?:/local/domain/[0-9]+/)?backend/[^/]+/([0-9]+)(?:/.*)?", re.DOTALL)


class Event(NamedTuple):
    """Something has happened to a domain; without a domid it may be any.

    `to_come` is the UUID of a domain that the toolstack will create as soon as the hook returns.
    """

    domid: int | None = None
    to_come: str | None = None


def libvirt(arguments: Sequence[str], xml: bytes) -> Event | None:
    """Return what libvirt tells: guest, operation, suboperation, and the domain's XML.

    None when there is nothing to do. Raises UsageError for another number of arguments.
    """
    if not acts_on_libvirt(arguments):
        return None
    return Event(domid_in(xml))


def acts_on_libvirt(arguments: Sequence[str]) -> bool:
    """Whether there is something to do, and so XML to be read; raises as `libvirt`."""
    if len(arguments) not in (3, 4):
        raise UsageError("libvirt calls a hook with GUEST OPERATION SUBOPERATION EXTRA")
    return (arguments[1], arguments[2]) in LIBVIRT


def domid_in(xml: bytes) -> int | None:
    """Return the domid in the first tag of a domain's XML; None where there is none.

    A document type could hold entities that expand without end, and libvirt writes none.
    """
    text = xml[:XML_LIMIT].decode(errors="replace")
    if "<!DOCTYPE" in text:
        return None
    tags: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, attributes: tags.append((name, attributes))
    with suppress(expat.ExpatError):  # what comes after the tag is no concern of ours
        parser.Parse(text, True)
    match tags:
        case [("domain", {"id": domid}), *_]:
            return paths.parse_domid(domid)
    return None


def xapi(arguments: Sequence[str]) -> Event | None:
    """Return what xapi tells: the folder's name, then -vmuuid, -reason and perhaps -vmdomid.

    None when there is nothing to do. Raises UsageError when no event is named.
    """
    if not arguments:
        raise UsageError("a hook of xapi is called with the name of its folder, then xapi's own")
    event, *rest = arguments
    given = dict(zip(rest[::2], rest[1::2], strict=False))
    if event in XAPI_TO_COME:
        return Event(to_come=_uuid(given.get("-vmuuid", "")))
    if event in XAPI_THERE:
        return Event(paths.parse_domid(given.get("-vmdomid", "")))
    return None


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def hotplug(arguments: Sequence[str], xenbus_path: str) -> Event | None:
    """Return what the call of a hotplug script tells: its action, and XENBUS_PATH.

    None when there is nothing to do: domain 0 has no node, also when it uses a disk itself.
    Raises UsageError when no action is named.
    """
    if not arguments:
        raise UsageError("a hotplug script is called with an action: add, online, remove, offline")
    if arguments[0] not in _HOTPLUG:
        return None
    found = _BACKEND.fullmatch(xenbus_path)
    if not found:
        return Event()
    domid = paths.parse_domid(found[1])
    return Event(domid) if domid else None
