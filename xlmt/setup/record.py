# SPDX-License-Identifier: LGPL-2.1-or-later
"""What setup has done to a host, kept on the disk before each step, so that it can be undone."""

import base64
import json
from contextlib import suppress
from typing import Any, NamedTuple

from xlmt import files
from xlmt.errors import UnreadableError
from xlmt.setup.host import below
from xlmt.text import dumped

PATH = "/var/lib/xlmt/setup.json"


class Done(NamedTuple):
    """A file that was installed where none was, or a unit that was enabled.

    `folders` are those that were made for the file, the innermost first.
    """

    path: str | None = None
    content: bytes = b""
    folders: tuple[str, ...] = ()
    unit: str | None = None


def load() -> list[Done]:
    """Return what was done, in its order. Raises UnreadableError."""
    try:
        values = json.loads(files.read_plain(below(PATH)))
        return [_done(value) for value in values["done"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise UnreadableError(f"cannot read {PATH}, what setup has done: {e}") from None


def keep(done: list[Done]) -> None:
    """Write it, or remove what is there when nothing is done any more. Raises OSError."""
    path = below(PATH)
    if not done:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.write_whole(str(path), dumped({"done": [_value(one) for one in done]}))


def _value(one: Done) -> dict[str, Any]:
    if one.unit:
        return {"unit": one.unit}
    return {
        "path": one.path,
        "content": base64.b64encode(one.content).decode(),
        "folders": list(one.folders),
    }


def _done(value: dict[str, Any]) -> Done:
    if unit := value.get("unit"):
        return Done(unit=str(unit))
    content = base64.b64decode(value["content"])
    return Done(str(value["path"]), content, tuple(map(str, value["folders"])))
