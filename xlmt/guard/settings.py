# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which guests are to be guarded: all of them or none, but for those that are named. Pure."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from xlmt.domains import shape
from xlmt.text import dumped, printable

_WORDS = {"on": True, "off": False}
#: What xl and libxl put behind a guest's name: while it is migrated to this host, and for the
#: domain that its device model runs in, which has vifs for it until its own driver takes over.
_ENDINGS = ("--incoming", "-dm")


class Settings(NamedTuple):
    """`exceptions` are the names of guests for which the opposite of `default` is wanted."""

    default: bool = False
    exceptions: frozenset[str] = frozenset()

    @property
    def active(self) -> bool:
        """Whether anybody is to be guarded."""
        return self.default or bool(self.exceptions)

    def wants(self, name: str | None) -> bool:
        """Whether a guest is to be guarded; one whose name cannot be told is, as any may be."""
        if name is None:
            return self.active
        return self.default is not any(called in self.exceptions for called in _calls(name))

    def switched(self, names: Iterable[str], *, on: bool) -> "Settings":
        """Return the settings with these guests switched; without names, all of them."""
        changed = frozenset(names)
        if not changed:
            return Settings(on)
        if on is self.default:
            return self._replace(exceptions=self.exceptions - changed)
        return self._replace(exceptions=self.exceptions | changed)

    def values(self) -> dict[str, Any]:
        """Return the settings for a document."""
        default = "on" if self.default else "off"
        return {"default": default, "exceptions": sorted(self.exceptions)}

    def dump(self) -> bytes:
        return dumped(self.values()) + b"\n"

    @classmethod
    def load(cls, data: bytes) -> "Settings":
        """Return the settings. Raises ValueError, which says what is wrong with them."""
        values = shape.values_of(data)
        default, names = values.get("default"), values.get("exceptions", [])
        if not isinstance(default, str) or default not in _WORDS:
            raise ValueError('its "default" is neither "on" nor "off"')
        if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
            raise ValueError('its "exceptions" is no list of names')
        return cls(_WORDS[default], frozenset(names))


#: What is wanted where that cannot be read: too much is a copy, too little a host that is stuck.
IN_DOUBT = Settings(default=True)


def _calls(name: str) -> set[str]:
    return {name, *(name.removesuffix(ending) for ending in _ENDINGS)}


def headline(settings: Settings) -> str:
    """Return the settings in a line, for people."""
    names = ", ".join(printable(name) for name in sorted(settings.exceptions))
    if settings.default:
        return f"guard: on for all guests but {names}" if names else "guard: on for all guests"
    return f"guard: on for {names} only" if names else "guard: off"
