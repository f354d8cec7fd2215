# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt hook`: what the files in hooks/ call when their toolstack tells of a domain.

Whatever goes wrong is said and forgotten: a toolstack takes the status of its hook for an order
to give the guest up, and libvirt takes a hook's output for the guest's new XML. So the status is
always 0, standard output stays empty, and the process ends in a few seconds even where libxl or
xenstored do not answer.
"""

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xlmt.nodes.toolstacks import Event

_AS_IT_IS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def add_to(app: typer.Typer) -> None:
    app.command(context_settings=_AS_IT_IS)(hook)


def hook(
    call: Annotated[
        list[str] | None,
        typer.Argument(..., metavar="TOOLSTACK [ARGUMENT]...", help="libvirt, xapi or hotplug."),
    ] = None,
) -> int:
    """Do what a toolstack's event asks for: for the files in hooks/; the status is always 0."""
    from xlmt.errors import XlmtError

    try:
        from xlmt.nodes.react import react

        _say(react(partial(_event, call or [])))
    except XlmtError as e:
        _say(str(e))
    except KeyboardInterrupt:
        _say("interrupted")
    except Exception as e:  # a bug of ours is no reason for a guest not to start, either
        _say(f"{type(e).__name__}: {e}")
    return 0


def _say(text: str) -> None:
    if text:
        sys.stderr.write(f"xlmt: {' '.join(text.split())}\n")


def _event(call: "Sequence[str]") -> "Event | None":
    from xlmt.errors import UsageError
    from xlmt.nodes import toolstacks

    match call:
        case ["libvirt", *arguments]:
            wanted = toolstacks.acts_on_libvirt(arguments)
            return toolstacks.libvirt(arguments, _input(toolstacks.XML_LIMIT) if wanted else b"")
        case ["xapi", *arguments]:
            return toolstacks.xapi(arguments)
        case ["hotplug", *arguments]:
            return toolstacks.hotplug(arguments, os.environ.get("XENBUS_PATH", ""))
    raise UsageError("xlmt hook is for libvirt, xapi and hotplug; see xlmt-hook(8)")


def _input(limit: int) -> bytes:
    return sys.stdin.buffer.read(limit) if sys.stdin else b""
